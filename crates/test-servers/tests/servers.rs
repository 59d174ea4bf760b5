//! Each server starts, does what its controls say, and goes with its folder.

use roomcast_test_servers::{Etcd, MariaDb, Process, Redis, RedisCluster, RedisSentinel, folder};

#[test]
fn etcd_answers_again_after_it_was_killed() {
    let etcd = Etcd::start();
    etcd.kill();
    etcd.start_again();
}

#[test]
fn mariadb_keeps_what_it_stored() {
    let server = MariaDb::start();
    let database = server.create_database();
    server.run(&database, "CREATE TABLE t (n INT); INSERT INTO t VALUES (7)");
    server.kill();
    server.start_again();
    assert_eq!(server.run(&database, "SELECT n FROM t").trim(), "7");
}

#[test]
fn redis_is_empty_after_it_was_killed() {
    let redis = Redis::start();
    redis.run(&["SET", "key", "value"]);
    assert_eq!(redis.run(&["GET", "key"]).trim(), "value");
    redis.kill();
    redis.start_again();
    assert_eq!(redis.run(&["GET", "key"]).trim(), "");
}

#[test]
fn a_redis_cluster_shares_the_slots() {
    let cluster = RedisCluster::start();
    let nodes = cluster.masters()[0].run(&["CLUSTER", "NODES"]);
    assert_eq!(nodes.matches("master").count(), 3, "{nodes}");
}

#[test]
fn a_sentinel_fails_over() {
    let sentinel = RedisSentinel::start();
    let before = sentinel.master().port();
    sentinel.fail_over();
    assert_ne!(sentinel.master().port(), before);
}

#[test]
fn redis_goes_back_to_what_it_held_when_it_was_saved_and_only_when_told_to() {
    let redis = Redis::start();
    redis.run(&["SET", "key", "old"]);
    redis.save();
    redis.run(&["SET", "key", "new"]);
    redis.restore();
    assert_eq!(redis.run(&["GET", "key"]).trim(), "old");
    redis.kill();
    redis.start_again();
    assert_eq!(redis.run(&["GET", "key"]).trim(), "");
}

#[test]
fn a_full_redis_refuses_to_write_and_reads_on() {
    let redis = Redis::start();
    redis.run(&["SET", "key", "value"]);
    redis.fill();
    assert!(redis.run(&["SET", "other", "value"]).contains("OOM"));
    assert_eq!(redis.run(&["GET", "key"]).trim(), "value");
    redis.make_room();
    assert_eq!(redis.run(&["SET", "other", "value"]).trim(), "OK");
}

#[test]
fn etcd_loses_its_leases_and_its_keys() {
    let etcd = Etcd::start();
    let granted = etcd.run(&["lease", "grant", "600"]);
    let lease = granted.split(' ').nth(1).unwrap();
    etcd.run(&["put", "under", "a lease", "--lease", lease]);
    etcd.run(&["put", "without", "one"]);
    etcd.revoke_leases();
    assert_eq!(etcd.run(&["get", "--prefix", "", "--keys-only"]).trim(), "without");
    etcd.wipe();
    assert_eq!(etcd.run(&["get", "--prefix", "", "--keys-only"]).trim(), "");
}

#[test]
fn a_process_takes_signals_and_tells_how_it_ended() {
    let script = "trap 'echo told; exit 7' TERM; echo up; while :; do sleep 0.01; done";
    let process = Process::start(folder("process"), "sh", &["-c", script]);
    let until = |is: &dyn Fn() -> bool| {
        let started = std::time::Instant::now();
        while !is() {
            assert!(started.elapsed() < std::time::Duration::from_secs(20), "{}", process.log());
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    };
    until(&|| process.log() == "up\n");
    let pid = process.pid();
    assert!(pid.is_some() && !process.has_ended());
    process.signal("TERM");
    until(&|| process.has_ended());
    assert_eq!((process.wait(), process.pid()), (7, None));
    process.start_again();
    until(&|| process.log() == "up\ntold\nup\n");
    assert_ne!(process.pid(), pid);
}
