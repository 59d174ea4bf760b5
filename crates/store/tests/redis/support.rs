//! What the tests share: handles on a server, and its flush.

use std::time::Duration;

use roomcast_runtime::{
    Config,
    config::{self, RedisTarget, SecretUrl},
};
use roomcast_store::RedisPresence;
use roomcast_test_servers::Redis;

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

/// Loses what has the prefix, as FLUSHALL would.
pub fn delete_all(server: &Redis, prefix: &str) {
    const SCRIPT: &str =
        "for _, key in ipairs(redis.call('KEYS', ARGV[1] .. '*')) do redis.call('DEL', key) end";
    // On a cluster the keys are all this server's own, which a script may touch when it names none.
    server.run(&["EVAL", SCRIPT, "0", prefix]);
}
