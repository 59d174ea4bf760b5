//! etcd, MariaDB and Redis for tests: processes of their own in temporary folders on free ports. And any other process.
//!
//! The programs are those of this machine (Debian's packages); a server that runs on it is never touched. Most tests
//! use the one that their test binary shares (`shared()`) and keep to a name of their own in it ([`unique`]); a test
//! that freezes or stops a server starts one of its own (`start()`). Everything ends with the test binary, also when
//! that is killed. Errors are panics: a test cannot go on without its server.

mod authority;
mod etcd;
mod mariadb;
mod ports;
mod process;
mod redis;

pub use authority::Authority;
pub use etcd::Etcd;
pub use mariadb::MariaDb;
pub use ports::free_port;
pub use process::{Process, folder};
pub use redis::{Redis, RedisCluster, RedisSentinel};

use std::{
    process::Command,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// A name that no other test uses: for a database, or as the prefix of keys.
pub fn unique(name: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("{name}_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Waits until `is_ready`; panics with what the server wrote when it takes too long.
fn wait_until(what: &str, log: impl Fn() -> String, mut is_ready: impl FnMut() -> bool) {
    const DEADLINE: Duration = Duration::from_secs(60);
    const LOOK_EVERY: Duration = Duration::from_millis(20);
    let started = Instant::now();
    while !is_ready() {
        assert!(started.elapsed() < DEADLINE, "waited in vain until {what}; its log:\n{}", log());
        std::thread::sleep(LOOK_EVERY);
    }
}

/// What a command prints; panics when it fails.
fn output(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?} failed:\n{out}{err}");
    out.into_owned()
}
