//! Sections and URLs, and what they mean.

use super::*;
use crate::config::{Config, Layers, Program};

fn load(sets: &[&str]) -> Result<Config, String> {
    let sets = sets.iter().map(|set| (*set).to_owned());
    Layers::default().with_sets(sets).load(Program::Controller).map_err(|error| error.to_string())
}

fn mysql(sets: &[&str]) -> MysqlTarget {
    match load(sets).unwrap().database.target() {
        Ok(DatabaseTarget::Mysql(target)) => *target,
        other => panic!("{other:?}"),
    }
}

fn redis(url: &str) -> RedisServer {
    match load(&[&format!("redis.url={url}")]).unwrap().redis.target() {
        Ok(RedisTarget::Server(server)) => *server,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_url_outranks_the_keys_and_leaves_the_rest_to_them() {
    let target = mysql(&["database.url=mysql://app:p%40ss@db.example:3307/rooms", "database.tls=verify"]);
    assert_eq!((target.host.as_str(), target.port), ("db.example", 3307));
    assert_eq!((target.user.as_str(), target.password.expose()), ("app", "p@ss"));
    assert_eq!((target.dbname.as_str(), target.tls), ("rooms", DatabaseTls::Verify));
    let target = mysql(&["database.url=mysql://[::1]", "database.password=secret"]);
    assert_eq!((target.host.as_str(), target.port, target.dbname.as_str()), ("[::1]", 3306, "pubsub"));
    assert_eq!(target.password.expose(), "secret");
}

#[test]
fn a_password_comes_from_its_file() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, "from the file\nanother line\n").unwrap();
    let target =
        mysql(&[&format!("database.password_file={}", file.path().display()), "database.password=x"]);
    assert_eq!(target.password.expose(), "from the file");
    let problem = load(&["redis.password_file=/no/such/file"]).unwrap_err();
    assert!(problem.contains("redis.password_file") && problem.contains("/no/such/file"), "{problem}");
}

#[test]
fn redis_comes_in_three_modes() {
    let single = redis("rediss://me:secret@cache:6380/3");
    assert_eq!((single.mode, single.tls, single.db), (RedisMode::Single, true, 3));
    assert_eq!(single.addresses, [("cache".to_owned(), 6380)]);
    let sentinel = redis("redis+sentinel://a:26380,b/primary/2");
    assert_eq!((sentinel.mode, sentinel.master.as_str(), sentinel.db), (RedisMode::Sentinel, "primary", 2));
    assert_eq!(sentinel.addresses, [("a".to_owned(), 26380), ("b".to_owned(), 26379)]);
    let cluster = redis("redis+cluster://:secret@a:7000,b:7001");
    assert_eq!((cluster.mode, cluster.addresses.len()), (RedisMode::Cluster, 2));
    assert_eq!(cluster.password.expose(), "secret");
}

#[test]
fn etcd_takes_several_endpoints() {
    let config = load(&["etcd.url=etcds://root:secret@a:1,b"]).unwrap();
    let Ok(EtcdTarget::Servers(servers)) = config.etcd.target() else { panic!("not servers") };
    assert_eq!(servers.endpoints, [("a".to_owned(), 1), ("b".to_owned(), 2379)]);
    assert!(servers.tls && servers.user == "root");
    let config = load(&["etcd.endpoints=http://a:1/,b:2"]).unwrap();
    let Ok(EtcdTarget::Servers(servers)) = config.etcd.target() else { panic!("not servers") };
    assert_eq!(servers.endpoints, [("a".to_owned(), 1), ("b".to_owned(), 2)]);
}

#[test]
fn what_cannot_be_meant_is_a_problem_that_names_the_key_and_no_secret() {
    for (set, key) in [
        ("database.url=postgres://u:hunter2@h/d", "database.url"),
        ("database.url=mysql://u:hunter2@h:port/d", "database.url"),
        ("database.url=mysql://u:hunter2@a,b/d", "database.url"),
        ("database.url=sqlite:", "database.url"),
        ("database.dbname=", "database.dbname"),
        ("redis.url=redis://h/x", "redis.url"),
        ("redis.url=redis+cluster://h/1", "redis.db"),
        ("redis.addr=a:1,b:1", "redis.addr"),
        ("etcd.endpoints=", "etcd.endpoints"),
        ("etcd.url=etcd://:0", "etcd.url"),
        ("etcd.cert_file=only.pem", "etcd.cert_file"),
    ] {
        let problem = load(&[set]).unwrap_err();
        assert!(problem.contains(key) && !problem.contains("hunter2"), "{set}: {problem}");
    }
}

#[test]
fn standalone_keeps_everything_in_its_own_process_unless_told_otherwise() {
    let load = |sets: &[&str]| {
        let sets = sets.iter().map(|set| (*set).to_owned());
        Layers::default().with_sets(sets).load(Program::Standalone).unwrap()
    };
    let config = load(&["database.path=here"]);
    assert_eq!(config.database.target(), Ok(DatabaseTarget::Sqlite { folder: "here".into() }));
    assert_eq!(config.redis.target(), Ok(RedisTarget::Memory));
    assert_eq!(config.etcd.target(), Ok(EtcdTarget::Memory));
    let config = load(&["redis.url=redis://cache"]);
    assert!(matches!(config.redis.target(), Ok(RedisTarget::Server(_))));
}
