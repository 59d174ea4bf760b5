//! Appends to many logs at once, for counting what they cost a store: exchanges with the server, and its statements.
//! `cargo bench -p roomcast-store --bench appends -- redis|mysql LOGS APPENDS_PER_LOG`; writes of this process:
//! `strace -f -c -e trace=write,writev,sendto BENCH …`.

#![allow(clippy::print_stdout, reason = "its result")]
#![allow(clippy::unwrap_used, reason = "it ends with the first error")]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use roomcast_runtime::{
    Config,
    config::{self, DatabaseTarget, RedisTarget, SecretUrl},
};
use roomcast_store::{
    Log, MysqlMessages, RedisLog,
    log::{Append, LogKey, Retention},
};
use roomcast_test_servers::{MariaDb, Redis};
use roomcast_types::{Incarnation, MessageId, RoomId};
use tokio::task::JoinSet;

const RETENTION: Retention = Retention {
    messages: 100,
    bytes: 1 << 20,
    age: Duration::from_secs(120),
    idempotency: Duration::from_secs(300),
};

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let backend = arguments.next().unwrap_or_else(|| "redis".to_owned());
    let mut numbers = arguments.map(|argument| argument.parse().unwrap());
    let (logs, appends) = (numbers.next().unwrap_or(64), numbers.next().unwrap_or(200));
    match backend.as_str() {
        "redis" => redis(logs, appends).await,
        "mysql" => mysql(logs, appends).await,
        other => println!("{other}: neither redis nor mysql"),
    }
}

async fn redis(logs: usize, appends: usize) {
    let server = Redis::start();
    let section = config::Redis { url: SecretUrl::new(server.url()), ..Config::default().redis };
    let RedisTarget::Server(target) = section.target().unwrap() else { return };
    let log = Arc::new(RedisLog::open(&target, &section).unwrap());
    let counts = || {
        let stats = server.run(&["INFO", "stats"]);
        ["total_commands_processed", "total_reads_processed", "total_writes_processed"]
            .map(|name| value(&stats, name, ':'))
    };
    run(&log, logs, 1).await;
    let before = counts();
    let took = run(&log, logs, appends).await;
    let [commands, reads, writes] = std::array::from_fn(|at| counts()[at] - before[at]);
    println!(
        "{} appends in {took:?}: {commands} commands in {reads} reads, {writes} writes of the server",
        logs * appends
    );
}

async fn mysql(logs: usize, appends: usize) {
    let server = MariaDb::start();
    let database = server.create_database();
    let section =
        config::Database { url: SecretUrl::new(server.url(&database)), ..Config::default().database };
    roomcast_store::migrate(&section).await.unwrap();
    let DatabaseTarget::Mysql(target) = section.target().unwrap() else { return };
    let log = Arc::new(MysqlMessages::open(&target, &section).unwrap());
    let counts = || {
        let status = server.run(&database, "SHOW GLOBAL STATUS");
        ["Questions", "Com_commit"].map(|name| value(&status, name, '\t'))
    };
    run(&log, logs, 1).await;
    let before = counts();
    let took = run(&log, logs, appends).await;
    let [statements, commits] = std::array::from_fn(|at| counts()[at] - before[at]);
    println!("{} appends in {took:?}: {statements} statements, {commits} commits", logs * appends);
}

fn value(text: &str, name: &str, separator: char) -> u64 {
    let found = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(separator));
    found.unwrap().trim().parse().unwrap()
}

/// Each log has one publisher, which waits for its answer.
async fn run(log: &Arc<impl Log>, logs: usize, appends: usize) -> Duration {
    let began = Instant::now();
    let mut publishers = JoinSet::new();
    for number in 0..logs {
        let (log, key) = (log.clone(), LogKey::Room(RoomId::new(format!("room-{number}")).unwrap()));
        publishers.spawn(async move {
            for append in 0..appends {
                let message_id = MessageId::new(1, Incarnation::random(), append as u64);
                let payload = Some(vec![b'x'; 200].into());
                let append = Append { key: key.clone(), message_id, payload, idempotency: None };
                log.append(&append, &RETENTION).await.unwrap();
            }
        });
    }
    publishers.join_all().await;
    began.elapsed()
}
