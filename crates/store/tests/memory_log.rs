//! Process memory keeps the rules of logs and inboxes, and its own bounds.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use roomcast_store::{
    ErrorKind, Inbox, Log, MemoryInbox, MemoryLog,
    conformance::{inbox::Letterboxes, log::Journal},
    log::{ANY_AGE, Append, Appended, Idempotency, LogKey, Part, Read, Retention, Stored},
};
use roomcast_types::{Incarnation, MessageId, Position, RoomId, StoreTime, UserId};

async fn logs() -> Journal {
    let log = Arc::new(MemoryLog::new());
    Journal::new(vec![log.clone(), log])
}

async fn inboxes() -> Letterboxes {
    let inbox = Arc::new(MemoryInbox::new());
    Letterboxes::new(vec![inbox.clone(), inbox])
}

mod log {
    roomcast_store::log_conformance!(super::logs());
}

mod inbox {
    roomcast_store::inbox_conformance!(super::inboxes());
}

const RETENTION: Retention = Retention {
    messages: 100,
    bytes: 1 << 20,
    age: Duration::from_secs(120),
    idempotency: Duration::from_secs(300),
};

fn key(id: &str) -> LogKey {
    LogKey::Room(RoomId::new(id).unwrap())
}

fn says(id: &str, size: usize) -> Append {
    let message_id = MessageId::new(1, Incarnation::random(), 1);
    Append { key: key(id), message_id, payload: Some(Bytes::from(vec![0; size])), idempotency: None }
}

async fn position(log: &MemoryLog, id: &str) -> Position {
    let (part, limit, bytes_max, age) = (Part::Position, 0, 0, ANY_AGE);
    let page = log.read(&[Read { key: key(id), part, limit, bytes_max, age }]).await.unwrap();
    page[0].position.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_log_nobody_asked_for_is_forgotten_after_a_day() {
    let log = MemoryLog::new();
    log.append(&says("used", 1), &RETENTION).await.unwrap();
    log.append(&says("left", 1), &RETENTION).await.unwrap();
    let (used, left) = (position(&log, "used").await, position(&log, "left").await);
    for _ in 0..2 {
        tokio::time::advance(Duration::from_secs(13 * 60 * 60)).await;
        assert_eq!(position(&log, "used").await, used);
        log.sweep(&RETENTION).await.unwrap();
    }
    assert_eq!(position(&log, "used").await, used);
    assert_ne!(position(&log, "left").await.epoch, left.epoch);
}

#[tokio::test(start_paused = true)]
async fn full_it_refuses_until_what_is_old_has_gone() {
    let log = MemoryLog::with_bytes_max(10_000);
    for number in 0..10 {
        log.append(&says(&format!("r{number}"), 1_000), &RETENTION).await.unwrap();
    }
    let error = log.append(&says("r0", 1), &RETENTION).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(position(&log, "r0").await.offset, 1, "nothing was changed");
    tokio::time::advance(Duration::from_secs(121)).await;
    let answer = log.append(&says("r0", 1), &RETENTION).await.unwrap();
    assert!(matches!(answer, Appended::New(Some(Position { offset: 2, .. }))), "{answer:?}");
}

#[tokio::test(start_paused = true)]
async fn what_is_over_goes_with_later_appends() {
    let log = MemoryLog::with_bytes_max(3_000);
    let idempotency = Some(Idempotency { key: "key".to_owned(), digest: 1 });
    log.append(&Append { idempotency, ..says("quiet", 1_000) }, &RETENTION).await.unwrap();
    tokio::time::advance(Duration::from_secs(600)).await;
    for _ in 0..1_100 {
        log.append(&says("busy", 1), &RETENTION).await.unwrap();
    }
    let swept = log.sweep(&RETENTION).await.unwrap();
    assert_eq!(swept, 0, "the appends left nothing to sweep");
}

#[tokio::test]
async fn a_log_that_is_flushed_or_restored_is_another_one_or_an_older_one() {
    let log = MemoryLog::new();
    log.append(&says("r", 1), &RETENTION).await.unwrap();
    let dump = log.dump();
    let before = position(&log, "r").await;
    log.append(&says("r", 1), &RETENTION).await.unwrap();
    log.restore(dump);
    assert_eq!(position(&log, "r").await, before);
    log.flush();
    assert_ne!(position(&log, "r").await.epoch, before.epoch);
    log.set_available(false);
    assert_eq!(log.ping().await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert!(log.append(&says("r", 1), &RETENTION).await.is_err());
}

#[tokio::test]
async fn full_inboxes_refuse_until_something_is_taken() {
    let inbox = MemoryInbox::with_bytes_max(10_000);
    let (now, expires_at) = (StoreTime::from_millis(0), StoreTime::from_millis(1_000));
    let user = |number: u32| UserId::new(format!("u{number}")).unwrap();
    let message = |number| {
        let message_id = MessageId::new(number, Incarnation::random(), 1);
        Stored { message_id, payload: Bytes::from(vec![0; 1_000]), expires_at }
    };
    let first = message(1);
    let users: Vec<UserId> = (0..7).map(user).collect();
    inbox.put(&users, &first, 10, now).await.unwrap();
    let error = inbox.put(&[user(7)], &message(2), 10, now).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(inbox.take(&user(0), &[first.message_id]).await.unwrap(), 1);
    inbox.put(&[user(7)], &message(2), 10, now).await.unwrap();
    assert_eq!(inbox.sweep(expires_at).await.unwrap(), 7);
    inbox.put(&users, &message(3), 10, now).await.unwrap();
}
