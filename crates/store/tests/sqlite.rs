//! What SQLite adds to the rules of the record: files and their errors, counting, and calls that are given up.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{error::Error as _, path::Path, sync::Arc, time::Duration};

use roomcast_store::{
    ErrorKind, Rooms, SqliteMessages, SqliteRooms,
    rooms::{NewRoom, SeatRequest},
};
use roomcast_types::{LogPolicy, Membership, OnLogFailure, RoomId, StoreTime, UserId};
use tokio::task::JoinSet;

fn now() -> StoreTime {
    StoreTime::from_millis(1_000)
}

fn room() -> RoomId {
    RoomId::new("room").unwrap()
}

fn seats(prefix: &str, count: usize) -> Vec<SeatRequest> {
    (0..count)
        .map(|number| SeatRequest {
            user_id: UserId::new(format!("{prefix}{number}")).unwrap(),
            user_name: format!("User {number}"),
        })
        .collect()
}

fn new_room(max_users: u32) -> NewRoom {
    NewRoom {
        max_users,
        membership: Membership::Follow,
        log: LogPolicy::Recent,
        on_log_failure: OnLogFailure::Degrade,
        is_auto_created: true,
    }
}

async fn open(path: &Path) -> SqliteRooms {
    SqliteRooms::open(path).await.unwrap()
}

#[tokio::test]
async fn what_was_written_is_there_after_opening_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new/folders/rooms.db");
    open(&path).await.admit(&room(), &seats("u", 3), Some(new_room(9)), now()).await.unwrap();
    let rooms = open(&path).await;
    assert_eq!(rooms.room(&room()).await.unwrap().unwrap().members, 3);
    assert_eq!(rooms.seats(&room(), None, 10).await.unwrap().len(), 3);
}

#[tokio::test]
async fn a_record_that_was_closed_is_complete_in_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let (path, copy) = (folder.path().join("rooms.db"), folder.path().join("copy/rooms.db"));
    let rooms = open(&path).await;
    rooms.admit(&room(), &seats("u", 3), Some(new_room(9)), now()).await.unwrap();
    rooms.room(&room()).await.unwrap();
    rooms.close().await.unwrap();
    std::fs::create_dir(copy.parent().unwrap()).unwrap();
    std::fs::copy(&path, &copy).unwrap();
    assert_eq!(open(&copy).await.room(&room()).await.unwrap().unwrap().members, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_may_open_a_new_file_at_once() {
    for _ in 0..10 {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rooms.db");
        let mut tasks = JoinSet::new();
        for _ in 0..4 {
            let path = path.clone();
            tasks.spawn(async move { open(&path).await.ping().await.unwrap() });
        }
        tasks.join_all().await;
    }
}

#[tokio::test]
async fn a_path_that_cannot_be_used_is_named_with_advice() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "not a database, but long enough to have a header of one").unwrap();
    for path in [file.join("rooms.db"), file, folder.path().to_owned()] {
        let error = SqliteRooms::open(&path).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Failed);
        let text = error.to_string();
        assert!(text.contains(path.to_str().unwrap()), "{text}");
        assert!(text.contains("configure another path"), "{text}");
        assert!(error.source().is_some());
    }
}

#[tokio::test]
async fn tables_of_another_version_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rooms.db");
    open(&path).await;
    set_schema_version(&path, 99).await;
    let error = SqliteRooms::open(&path).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("99") && text.contains(path.to_str().unwrap()), "{text}");
}

#[tokio::test]
async fn tables_without_logs_are_migrated_with_what_is_in_them() {
    use sqlx::{ConnectOptions, sqlite::SqliteConnectOptions};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rooms.db");
    let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
    let mut connection = options.connect().await.unwrap();
    for sql in [
        include_str!("version_1/sqlite.sql"),
        "INSERT INTO rooms VALUES (CAST('room' AS BLOB), 3, 4, 'DURABLE', 9, 1, 0, 1, 2, NULL)",
        "INSERT INTO room_users VALUES (CAST('room' AS BLOB), CAST('ann' AS BLOB), 'Ann', 4, 2, NULL)",
    ] {
        sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
    }
    drop(connection);
    for _ in 0..2 {
        let rooms = open(&path).await;
        rooms.ping().await.unwrap();
        let row = rooms.room(&room()).await.unwrap().unwrap();
        assert_eq!((row.members, row.card.version, row.card.membership), (1, 3, Membership::Durable));
        assert_eq!((row.card.log, row.card.on_log_failure), (LogPolicy::Recent, OnLogFailure::Degrade));
        assert_eq!(rooms.seats(&room(), None, 9).await.unwrap().len(), 1);
        SqliteMessages::open(&path).await.unwrap();
    }
}

async fn set_schema_version(path: &Path, version: i64) {
    use sqlx::{ConnectOptions, sqlite::SqliteConnectOptions};
    let mut connection = SqliteConnectOptions::new().filename(path).connect().await.unwrap();
    sqlx::query("UPDATE versions SET value = ?1 WHERE name = 'schema'")
        .bind(version)
        .execute(&mut connection)
        .await
        .unwrap();
}

#[tokio::test]
async fn ten_thousand_joins_in_batches_take_a_transaction_a_batch() {
    let rooms = SqliteRooms::ephemeral().await.unwrap();
    rooms.create(&room(), new_room(10_000), now()).await.unwrap();
    let before = rooms.counters().transactions;
    for batch in seats("u", 10_000).chunks(200) {
        let admission = rooms.admit(&room(), batch, None, now()).await.unwrap();
        assert!(admission.admitted.iter().all(|is_admitted| *is_admitted));
    }
    assert_eq!(rooms.counters().transactions - before, 50);
    assert_eq!(rooms.totals().await.unwrap().members, 10_000);
    assert_eq!(rooms.counters().transactions - before, 50, "a read is not counted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_given_up_leaves_nothing_half_done() {
    let rooms = Arc::new(SqliteRooms::ephemeral().await.unwrap());
    let room = room();
    rooms.create(&room, new_room(100_000), now()).await.unwrap();
    for round in 0..200 {
        let batch = seats(&format!("r{round}-"), 5);
        let admission = rooms.admit(&room, &batch, None, now());
        // Whether it still comes through is a matter of luck; that nothing is torn is not.
        let _ = tokio::time::timeout(Duration::from_micros(round * 5), admission).await;
        let members = rooms.room(&room).await.unwrap().unwrap().members;
        assert_eq!(rooms.seats(&room, None, 100_000).await.unwrap().len() as u64, members);
        assert_eq!(members % 5, 0);
    }
    assert_eq!(rooms.admit(&room, &seats("last", 1), None, now()).await.unwrap().admitted, [true]);
}

#[tokio::test]
async fn switched_off_it_answers_unavailable_and_changes_nothing() {
    let rooms = SqliteRooms::ephemeral().await.unwrap();
    rooms.set_available(false);
    let error = rooms.admit(&room(), &seats("u", 1), Some(new_room(9)), now()).await.unwrap_err();
    assert!(error.is_retryable());
    assert_eq!(rooms.ping().await.unwrap_err().kind(), ErrorKind::Unavailable);
    rooms.set_available(true);
    assert_eq!(rooms.room(&room()).await.unwrap(), None);
    rooms.ping().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_do_not_wait_for_a_writer() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rooms.db");
    let rooms = open(&path).await;
    rooms.create(&room(), new_room(9), now()).await.unwrap();
    let mut other = {
        use sqlx::{ConnectOptions, sqlite::SqliteConnectOptions};
        SqliteConnectOptions::new().filename(&path).connect().await.unwrap()
    };
    sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    let (room, batch) = (room(), seats("u", 1));
    let mut admission = Box::pin(rooms.admit(&room, &batch, None, now()));
    assert!(futures_util::poll!(&mut admission).is_pending());
    assert_eq!(rooms.room(&room).await.unwrap().unwrap().members, 0);
    assert!(futures_util::poll!(&mut admission).is_pending());
    sqlx::query("COMMIT").execute(&mut other).await.unwrap();
    assert_eq!(admission.await.unwrap().members, 1);
}
