//! Appends that wait together share transactions, and none waits for a log that is held elsewhere.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use roomcast_runtime::config::Database;
use roomcast_store::{
    Log, MysqlMessages,
    log::{ANY_AGE, Append, Appended, Idempotency, LogKey, Part, Read, Retention},
};
use roomcast_test_servers::MariaDb;
use roomcast_types::{Incarnation, MessageId, Position};
use tokio::time::timeout;

use super::{fresh, name, open_messages, raw, room, run};

const LOGS: usize = 64;
const RETENTION: Retention = Retention {
    messages: 10_000,
    bytes: 1 << 40,
    age: Duration::from_secs(600),
    idempotency: Duration::from_secs(600),
};

fn key(log: usize) -> LogKey {
    LogKey::Room(room(&format!("room-{log}")))
}

fn says(log: usize, text: &str) -> Append {
    let message_id = MessageId::new(1, Incarnation::random(), log as u64);
    let payload = Some(Bytes::copy_from_slice(text.as_bytes()));
    Append { key: key(log), message_id, payload, idempotency: None }
}

/// Appends all at the same time.
async fn all_at_once(log: &MysqlMessages, appends: &[Append]) -> Vec<Appended> {
    let answers = join_all(appends.iter().map(|append| log.append(append, &RETENTION))).await;
    answers.into_iter().map(|answer| answer.unwrap()).collect()
}

/// Handles on logs that have begun.
async fn begun(section: &Database) -> MysqlMessages {
    let log = open_messages(section);
    let reads: Vec<Read> = (0..LOGS)
        .map(|log| Read { key: key(log), part: Part::Position, limit: 0, bytes_max: 0, age: ANY_AGE })
        .collect();
    log.read(&reads).await.unwrap();
    log
}

/// Texts of a log, in the order of their offsets.
async fn texts(log: &MysqlMessages, number: usize) -> Vec<String> {
    let part = Part::After { offset: 0, up_to: u64::MAX };
    let read = Read { key: key(number), part, limit: 1_000, bytes_max: u64::MAX, age: ANY_AGE };
    let page = log.read(&[read]).await.unwrap().remove(0);
    page.entries.iter().map(|entry| String::from_utf8(entry.payload.to_vec()).unwrap()).collect()
}

#[tokio::test]
async fn appends_to_many_rooms_at_once_share_a_few_transactions() {
    let log = begun(&fresh(MariaDb::shared()).await).await;
    let before = Log::counters(&log).transactions;
    let appends: Vec<Append> =
        (0..LOGS).chain(0..LOGS).enumerate().map(|(at, log)| says(log, &format!("{at} 'x'"))).collect();
    let answers = all_at_once(&log, &appends).await;
    let transactions = Log::counters(&log).transactions - before;
    assert!(transactions <= 12, "{transactions} transactions for {} appends", appends.len());
    for number in 0..LOGS {
        let offset = |at: usize| match answers[at] {
            Appended::New(Some(Position { offset, .. })) => offset,
            other => panic!("{other:?}"),
        };
        assert_eq!((offset(number), offset(number + LOGS)), (1, 2));
        let second = number + LOGS;
        assert_eq!(texts(&log, number).await, [format!("{number} 'x'"), format!("{second} 'x'")]);
    }
}

#[tokio::test]
async fn keys_of_appends_that_travel_together_are_each_used_once() {
    let log = begun(&fresh(MariaDb::shared()).await).await;
    let once = |log: usize, text: &str, key: &str, digest| {
        let idempotency = Some(Idempotency { key: key.to_owned(), digest });
        Append { idempotency, ..says(log, text) }
    };
    let first = [once(0, "a", "k", 1), once(1, "b", "k", 2), once(1, "c", "l", 3), says(1, "d")];
    let begun = all_at_once(&log, &first).await;
    assert!(begun.iter().all(|answer| matches!(answer, Appended::New(Some(_)))), "{begun:?}");
    // Among others, two new ones under one key.
    let second = [once(0, "a", "k", 1), once(1, "other", "k", 9), once(2, "e", "k", 1), once(2, "e", "k", 1)];
    let answers = all_at_once(&log, &second).await;
    let Appended::New(position) = begun[0] else { unreachable!("it was checked") };
    assert_eq!(answers[0], Appended::Repeat { message_id: first[0].message_id, position });
    assert_eq!(answers[1], Appended::KeyTaken { message_id: first[1].message_id });
    let new = answers[2..].iter().filter(|answer| matches!(answer, Appended::New(Some(_)))).count();
    assert_eq!(new, 1, "{answers:?}");
    assert_eq!((texts(&log, 1).await.len(), texts(&log, 2).await), (3, vec!["e".to_owned()]));
}

#[tokio::test]
async fn a_log_that_somebody_holds_delays_no_other() {
    let server = MariaDb::shared();
    let section = fresh(server).await;
    let log = begun(&section).await;
    let mut other = raw(server, name(&section)).await;
    run(&mut other, "BEGIN; SELECT * FROM logs WHERE log_key = 'rroom-7' FOR UPDATE").await;
    let appends: Vec<Append> = (0..LOGS).map(|log| says(log, "x")).collect();
    let (held, free): (Vec<_>, Vec<_>) = appends.iter().partition(|append| append.key == key(7));
    let held = log.append(held[0], &RETENTION);
    tokio::pin!(held);
    let free = join_all(free.into_iter().map(|append| log.append(append, &RETENTION)));
    tokio::select! {
        biased;
        answer = &mut held => panic!("it is held: {answer:?}"),
        answers = timeout(Duration::from_secs(20), free) => {
            assert!(answers.expect("none waits for the one that is held").iter().all(Result::is_ok));
        }
    }
    run(&mut other, "ROLLBACK").await;
    assert!(matches!(held.await, Ok(Appended::New(Some(_)))));
    assert_eq!(texts(&log, 7).await, ["x"]);
}

#[tokio::test]
async fn appends_that_are_given_up_do_not_stop_those_beside_them() {
    let log = begun(&fresh(MariaDb::shared()).await).await;
    for round in 0..100 {
        let (gone, stays) = (says(0, "gone"), says(1, &round.to_string()));
        let limit = Duration::from_micros(round * 50);
        let (_, answer) =
            tokio::join!(timeout(limit, log.append(&gone, &RETENTION)), log.append(&stays, &RETENTION));
        assert!(matches!(answer, Ok(Appended::New(Some(_)))), "{answer:?}");
    }
    let wanted: Vec<String> = (0..100).map(|round: u64| round.to_string()).collect();
    assert_eq!(texts(&log, 1).await, wanted);
}
