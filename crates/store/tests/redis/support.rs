//! What the tests share: handles on a server, a look at its keys, and ids.

use std::time::{Duration, Instant};

use roomcast_runtime::{
    Config,
    config::{self, RedisTarget, SecretUrl},
};
use roomcast_store::{RedisLog, RedisPresence};
use roomcast_test_servers::Redis;
use roomcast_types::{RoomId, StoreTime, UserId};

/// A section that means this URL; patient enough for a machine that is busy with other tests.
pub fn section(url: &str, prefix: &str) -> config::Redis {
    let url = SecretUrl::new(url);
    config::Redis {
        url,
        key_prefix: prefix.to_owned(),
        timeout: Duration::from_secs(5),
        ..Config::default().redis
    }
}

pub fn open(url: &str, prefix: &str) -> RedisPresence {
    open_section(&section(url, prefix))
}

pub fn open_section(section: &config::Redis) -> RedisPresence {
    let RedisTarget::Server(server) = section.target().unwrap() else { panic!("not a server") };
    RedisPresence::open(&server, section).unwrap()
}

pub fn open_log(url: &str, prefix: &str) -> RedisLog {
    open_log_section(&section(url, prefix))
}

/// As [`open_impatient`].
pub fn open_log_impatient(url: &str) -> RedisLog {
    open_log_section(&config::Redis { timeout: Duration::from_millis(500), ..section(url, "") })
}

fn open_log_section(section: &config::Redis) -> RedisLog {
    let RedisTarget::Server(server) = section.target().unwrap() else { panic!("not a server") };
    RedisLog::open(&server, section).unwrap()
}

/// One that gives up soon, for a server that will stand still.
pub fn open_impatient(url: &str) -> RedisPresence {
    open_section(&config::Redis { timeout: Duration::from_millis(500), ..section(url, "") })
}

pub fn room(id: impl AsRef<str>) -> RoomId {
    RoomId::new(id).unwrap()
}

pub fn user(id: impl AsRef<str>) -> UserId {
    UserId::new(id).unwrap()
}

pub fn at(millis: i64) -> StoreTime {
    StoreTime::from_millis(millis)
}

/// Keys with a prefix.
pub fn keys(server: &Redis, prefix: &str) -> Vec<String> {
    let printed = server.run(&["--scan", "--pattern", &format!("{prefix}*")]);
    printed.lines().map(str::to_owned).filter(|key| !key.is_empty()).collect()
}

/// Loses what has the prefix, as FLUSHALL would.
pub fn delete_all(server: &Redis, prefix: &str) {
    const SCRIPT: &str =
        "for _, key in ipairs(redis.call('KEYS', ARGV[1] .. '*')) do redis.call('DEL', key) end";
    // On a cluster the keys are all this server's own, which a script may touch when it names none.
    server.run(&["EVAL", SCRIPT, "0", prefix]);
}

/// Waits until `is_so`; panics after a generous time.
pub async fn wait_until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    const DEADLINE: Duration = Duration::from_secs(30);
    let started = Instant::now();
    while !is_so().await {
        assert!(started.elapsed() < DEADLINE, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
