//! Logs on a server that is full, takes no writes, lost its content, went back in time, or stands still.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use roomcast_store::{
    ErrorKind, Log, RedisLog,
    log::{ANY_AGE, Append, Appended, Idempotency, LogKey, Page, Part, Read, Retention},
};
use roomcast_test_servers::{Redis, RedisCluster, unique};
use roomcast_types::{Incarnation, MessageId, Position};

use super::support::{keys, open_log, open_log_impatient, room, wait_until};

const RETENTION: Retention = Retention {
    messages: 100,
    bytes: 1 << 20,
    age: Duration::from_secs(120),
    idempotency: Duration::from_secs(300),
};

fn key() -> LogKey {
    LogKey::Room(room("r"))
}

/// Under a key, so that all a script can write is written.
fn says(text: &str) -> Append {
    Append {
        key: key(),
        message_id: MessageId::new(1, Incarnation::random(), 1),
        payload: Some(Bytes::copy_from_slice(text.as_bytes())),
        idempotency: Some(Idempotency { key: text.to_owned(), digest: 1 }),
    }
}

async fn append(log: &RedisLog, text: &str) -> Position {
    match log.append(&says(text), &RETENTION).await.unwrap() {
        Appended::New(Some(position)) => position,
        other => panic!("{other:?}"),
    }
}

fn everything() -> Read {
    let part = Part::After { offset: 0, up_to: u64::MAX };
    Read { key: key(), part, limit: 10_000, bytes_max: u64::MAX, age: ANY_AGE }
}

async fn all(log: &RedisLog) -> Page {
    log.read(&[everything()]).await.unwrap().remove(0)
}

fn texts(page: &Page) -> Vec<String> {
    page.entries.iter().map(|entry| String::from_utf8(entry.payload.to_vec()).unwrap()).collect()
}

/// What takes no write leaves nothing half done, answers questions, and goes on where it was.
async fn refuses_all_or_nothing(server: &Redis, begin: &[&[&str]], end: &[&[&str]]) {
    let log = open_log(&server.url(), "");
    let last = append(&log, "before").await;
    let before = all(&log).await;
    begin.iter().for_each(|command| drop(server.run(command)));
    let nothing = Append { payload: None, ..says("no payload") };
    let of_no_one = Append { key: LogKey::Unaddressed, ..says("of no one") };
    let elsewhere = Append { key: LogKey::Room(room("elsewhere")), ..says("elsewhere") };
    for refused in [says("refused"), nothing, of_no_one, elsewhere] {
        let error = log.append(&refused, &RETENTION).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    }
    assert_eq!(log.renew(&key(), last.epoch).await.unwrap_err().kind(), ErrorKind::Unavailable);
    // A handle that met five refusals asks nobody for a while.
    wait_until("it answers questions", async || log.read(&[everything()]).await.is_ok()).await;
    assert_eq!(all(&log).await, before);
    assert_eq!(keys(server, "").len(), 3, "stream, head and the key of the first: {:?}", keys(server, ""));
    end.iter().for_each(|command| drop(server.run(command)));
    wait_until("it takes writes again", async || log.append(&says("after"), &RETENTION).await.is_ok()).await;
    let page = all(&log).await;
    assert_eq!(page.position, Some(Position { offset: 2, ..last }));
    assert_eq!(texts(&page), ["before", "after"]);
}

#[tokio::test]
async fn a_full_server_refuses_and_leaves_nothing_half_done() {
    let (begin, end) = (["CONFIG", "SET", "maxmemory", "1"], ["CONFIG", "SET", "maxmemory", "0"]);
    refuses_all_or_nothing(&Redis::start(), &[&begin], &[&end]).await;
}

#[tokio::test]
async fn a_server_without_its_replicas_refuses_and_leaves_nothing_half_done() {
    let option = |value| ["CONFIG", "SET", "min-replicas-to-write", value];
    refuses_all_or_nothing(&Redis::start(), &[&option("1")], &[&option("0")]).await;
}

#[tokio::test]
async fn a_replica_refuses_and_leaves_nothing_half_done() {
    let begin = ["REPLICAOF", "127.0.0.1", "1"];
    refuses_all_or_nothing(&Redis::start(), &[&begin], &[&["REPLICAOF", "NO", "ONE"]]).await;
}

#[tokio::test]
async fn a_server_that_was_flushed_begins_a_fresh_epoch() {
    let server = Redis::start();
    let log = open_log(&server.url(), "");
    let before = append(&log, "a").await;
    server.run(&["FLUSHALL"]);
    assert_eq!(all(&log).await.position, None);
    let after = append(&log, "a").await;
    assert!(after.epoch != before.epoch && after.offset == 1, "{before:?} {after:?}");
}

#[tokio::test]
async fn one_that_lost_the_position_alone_begins_a_fresh_epoch_without_the_old_messages() {
    let server = Redis::start();
    let log = open_log(&server.url(), "");
    for text in ["a", "b", "c"] {
        append(&log, text).await;
    }
    server.run(&["DEL", "{r:r}:log:head"]);
    assert_eq!(append(&log, "c").await.offset, 1, "its keys went with it");
    assert_eq!(texts(&all(&log).await), ["c"]);
    server.run(&["DEL", "{r:r}:log"]);
    let page = all(&log).await;
    assert_eq!((page.position.unwrap().offset, page.first, page.entries.len()), (1, 2, 0));
    assert_eq!(append(&log, "d").await.offset, 2);
    let page = all(&log).await;
    assert_eq!((page.first, texts(&page)), (2, vec!["d".to_owned()]));
}

#[tokio::test]
async fn one_that_came_back_from_a_dump_gives_offsets_again_until_it_is_renewed() {
    let server = Redis::start();
    let log = open_log(&server.url(), "");
    append(&log, "a").await;
    server.run(&["SAVE"]);
    let lost = append(&log, "lost").await;
    server.kill();
    server.start_again();
    wait_until("it serves again", async || log.ping().await.is_ok()).await;
    assert_eq!(append(&log, "other").await, lost, "the same position for another message");
    let renewed = log.renew(&key(), lost.epoch).await.unwrap().unwrap();
    assert!(renewed.epoch != lost.epoch && renewed.offset == 0);
    assert_eq!(all(&log).await.entries, []);
    assert_eq!(append(&log, "after").await, Position { offset: 1, ..renewed });
}

#[tokio::test]
async fn everything_of_a_log_expires() {
    let server = Redis::start();
    let log = open_log(&server.url(), "");
    append(&log, "a").await;
    log.append(&Append { key: LogKey::Unaddressed, ..says("b") }, &RETENTION).await.unwrap();
    let read =
        Read { key: LogKey::Room(room("asked")), part: Part::Position, limit: 0, bytes_max: 0, age: ANY_AGE };
    log.read(&[read]).await.unwrap();
    let found = keys(&server, "");
    assert_eq!(found.len(), 5, "{found:?}");
    for key in found {
        let ttl: i64 = server.run(&["TTL", &key]).trim().parse().unwrap();
        let day = 24 * 60 * 60;
        let wanted = match &key[..] {
            "{r:r}:log" => 120,
            "{r:r}:log:head" => day + 120,
            "{r:asked}:log:head" => day,
            _ => 300,
        };
        assert!((wanted - 60..=wanted).contains(&ttl), "{key}: {ttl}");
    }
}

#[tokio::test]
async fn a_log_keeps_to_its_limits_in_the_server_too() {
    let server = Redis::start();
    let log = open_log(&server.url(), "");
    let few = Retention { messages: 10, ..RETENTION };
    for number in 0..500 {
        log.append(&says(&number.to_string()), &few).await.unwrap();
    }
    assert_eq!(server.run(&["XLEN", "{r:r}:log"]).trim(), "10");
    assert_eq!(server.run(&["HGET", "{r:r}:log:head", "bytes"]).trim(), "30");
    log.remove(&key()).await.unwrap();
    assert_eq!(server.run(&["EXISTS", "{r:r}:log", "{r:r}:log:head"]).trim(), "0");
}

#[tokio::test]
async fn appends_to_many_rooms_at_once_leave_together() {
    const ROOMS: u64 = 64;
    let server = Redis::start();
    let log = open_log(&server.url(), "");
    // Connected, and the script is known.
    append(&log, "before").await;
    let read = || -> u64 {
        let stats = server.run(&["INFO", "stats"]);
        let value = stats.lines().find_map(|line| line.strip_prefix("total_reads_processed:"));
        value.unwrap().trim().parse().unwrap()
    };
    let before = read();
    let appends = (0..ROOMS).map(|number| {
        let log = &log;
        async move {
            let append =
                Append { key: LogKey::Room(room(format!("r{number}"))), ..says(&number.to_string()) };
            log.append(&append, &RETENTION).await
        }
    });
    for answer in join_all(appends).await {
        assert!(matches!(answer, Ok(Appended::New(Some(Position { offset: 1, .. })))), "{answer:?}");
    }
    // A server reads 16 KiB at a time. Our questions are read, too.
    let reads = read() - before;
    assert!(reads < ROOMS / 4, "{reads} reads of the server for {ROOMS} appends");
}

#[tokio::test]
async fn a_server_that_stands_still_costs_a_bound_and_then_nothing() {
    let server = Redis::start();
    let log = open_log_impatient(&server.url());
    append(&log, "before").await;
    server.freeze();
    let calls = (0..20).map(|number| {
        let log = &log;
        async move { log.append(&says(&format!("lost {number}")), &RETENTION).await }
    });
    for answer in join_all(calls).await {
        assert_eq!(answer.unwrap_err().kind(), ErrorKind::Unavailable);
    }
    assert!(log.counters().is_refusing);
    server.thaw();
    wait_until("it serves again", async || log.append(&says("after"), &RETENTION).await.is_ok()).await;
    // What was on its way may have been done or not: each of it once at most, in the order of its offsets.
    let page = all(&log).await;
    let mut seen = texts(&page);
    assert_eq!(page.entries.len() as u64, page.position.unwrap().offset);
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), page.entries.len());
}

/// Appends without a key; whether it was answered.
async fn says_once(log: &RedisLog, text: &str) -> bool {
    let append = Append { idempotency: None, ..says(text) };
    log.append(&append, &Retention { messages: 10_000, ..RETENTION }).await.is_ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_of_a_cluster_that_hangs_up_is_given_no_append_twice() {
    let cluster = RedisCluster::shared();
    let log = open_log(&cluster.url(), &format!("{}:", unique("hang-up")));
    let mut answered = 0;
    let serves = || wait_until("it serves again", async || log.ping().await.is_ok());
    for round in 0..40 {
        // Or the breaker would refuse most of the rounds.
        serves().await;
        let calls = (0..25).map(|number| {
            let log = &log;
            async move { says_once(log, &format!("{round} {number}")).await }
        });
        let kill = async {
            for master in cluster.masters() {
                master.run(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
            }
        };
        let (answers, ()) = tokio::join!(join_all(calls), kill);
        answered += answers.iter().filter(|is_answered| **is_answered).count();
    }
    let mut attempts = 0..;
    wait_until("it takes appends again", async || {
        says_once(&log, &format!("at last {}", attempts.next().unwrap())).await
    })
    .await;
    answered += 1;
    let mut seen = texts(&all(&log).await);
    let count = seen.len();
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), count, "each once");
    assert!(answered > 0 && answered <= count, "{answered} answered, {count} there");
}
