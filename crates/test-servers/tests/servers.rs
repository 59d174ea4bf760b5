//! Each server starts, does what its controls say, and goes with its folder.

use roomcast_test_servers::{Etcd, MariaDb, Redis, RedisCluster, RedisSentinel};

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
