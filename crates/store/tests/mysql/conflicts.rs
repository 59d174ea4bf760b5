//! Deadlocks, lock waits, and calls that are given up: what they answer, and that they leave nothing behind.

use std::{sync::Arc, time::Duration};

use roomcast_runtime::config::Database;
use roomcast_store::{
    MysqlRooms, Rooms,
    rooms::{Admission, RoomRequests},
};
use roomcast_test_servers::MariaDb;

use super::{
    fresh, holders, name, new_room, now, open, open_transactions, raw, room, run, seats, wait_until,
    wait_until_no_transaction,
};

/// A record with room `r` of 100 in it.
async fn with_a_room(section: &Database) -> Arc<MysqlRooms> {
    let rooms = open(section);
    rooms.create(&room("r"), new_room(100), now()).await.unwrap();
    Arc::new(rooms)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadlock_is_tried_again() {
    let server = MariaDb::shared();
    let section = fresh(server).await;
    let rooms = with_a_room(&section).await;
    let (mut other, mut look) = (raw(server, name(&section)).await, raw(server, name(&section)).await);
    // The other transaction has done more, so that InnoDB ends ours.
    run(&mut other, "BEGIN").await;
    run(
        &mut other,
        "INSERT INTO room_users SELECT 'elsewhere', seq, '', 1, 1, NULL, NULL, NULL FROM seq_1_to_1000",
    )
    .await;
    run(&mut other, "INSERT INTO room_users VALUES ('r', 'u0000', '', 1, 1, 1, NULL, NULL)").await;
    let before = rooms.counters().transactions;
    let admission = tokio::spawn({
        let rooms = rooms.clone();
        async move { rooms.admit(&room("r"), &seats("u", 3), None, now()).await }
    });
    wait_until("the admission waits for the seat", async || {
        open_transactions(&mut look, name(&section), "LOCK WAIT").await == 1
    })
    .await;
    run(&mut other, "UPDATE rooms SET max_users = 2 WHERE room_id = 'r'").await;
    run(&mut other, "COMMIT").await;
    let admission = admission.await.unwrap().unwrap();
    assert_eq!((admission.card.max_users, admission.admitted), (2, vec![true, true, false]));
    assert_eq!(rooms.counters().transactions - before, 2);
    assert_eq!(holders(&rooms, &room("r")).await, ["u0000", "u0001"]);
}

#[tokio::test]
async fn a_lock_that_is_never_let_go_is_unavailable_after_three_retries_and_no_outage() {
    let server = MariaDb::shared();
    // A wait for a lock is to end before a statement does: after one second here.
    let section = Database { statement_timeout: Duration::from_secs(2), ..fresh(server).await };
    let rooms = with_a_room(&section).await;
    let mut other = raw(server, name(&section)).await;
    run(&mut other, "BEGIN; UPDATE rooms SET seat_version = 9").await;
    let before = rooms.counters().transactions;
    let error = rooms.admit(&room("r"), &seats("u", 1), None, now()).await.unwrap_err();
    assert!(error.is_retryable(), "{error:?}");
    assert_eq!(rooms.counters().transactions - before, 4);
    assert!(!rooms.counters().is_refusing);
    assert_eq!(rooms.room(&room("r")).await.unwrap().unwrap().members, 0);
    run(&mut other, "ROLLBACK").await;
    assert_eq!(rooms.admit(&room("r"), &seats("u", 1), None, now()).await.unwrap().admitted, [true]);
}

#[tokio::test]
async fn a_room_that_somebody_holds_is_left_out_and_delays_no_other() {
    let server = MariaDb::shared();
    let section = fresh(server).await;
    let rooms = open(&section);
    let asked = ["held", "a", "b"].map(|id| RoomRequests { room: room(id), requests: seats("u", 2) });
    for asked in &asked {
        rooms.create(&asked.room, new_room(9), now()).await.unwrap();
    }
    let mut other = raw(server, name(&section)).await;
    run(&mut other, "BEGIN; UPDATE rooms SET seat_version = 9 WHERE room_id = 'held'").await;
    let members = |admissions: Vec<Option<Admission>>| -> Vec<Option<u64>> {
        admissions.into_iter().map(|admission| admission.map(|admission| admission.members)).collect()
    };
    // The other one holds its room for as long as this is under way.
    let admissions = rooms.admit_together(&asked, now()).await.unwrap();
    assert_eq!(members(admissions), [None, Some(2), Some(2)]);
    run(&mut other, "ROLLBACK").await;
    let admissions = rooms.admit_together(&asked, now()).await.unwrap();
    assert_eq!(members(admissions), [Some(2); 3]);
}

#[tokio::test]
async fn joins_of_many_rooms_take_six_statements() {
    let server = MariaDb::start();
    let rooms = open(&fresh(&server).await);
    let asked: Vec<RoomRequests> = (0..100)
        .map(|number| RoomRequests { room: room(&format!("r{number}")), requests: seats("u", 10) })
        .collect();
    for asked in &asked {
        rooms.create(&asked.room, new_room(9), now()).await.unwrap();
    }
    let statements = || -> u64 {
        let status = server.run("", "SHOW GLOBAL STATUS LIKE 'Questions'");
        status.trim().rsplit('\t').next().unwrap().parse().unwrap()
    };
    // What one look costs itself.
    let (first, second) = (statements(), statements());
    let admissions = rooms.admit_together(&asked, now()).await.unwrap();
    assert_eq!(statements() - second - (second - first), 6, "begin, lock, read, write, count, commit");
    for admission in admissions {
        assert_eq!(admission.unwrap().admitted.iter().filter(|is_admitted| **is_admitted).count(), 9);
    }
}

#[tokio::test]
async fn a_statement_that_takes_too_long_is_given_up_with_its_transaction() {
    let server = MariaDb::shared();
    let section = Database { statement_timeout: Duration::from_millis(300), ..fresh(server).await };
    let rooms = with_a_room(&section).await;
    let mut other = raw(server, name(&section)).await;
    // Ours has the room's lock when it comes to wait for the seat.
    run(&mut other, "BEGIN; INSERT INTO room_users VALUES ('r', 'u0000', '', 1, 1, 1, NULL, NULL)").await;
    let error = rooms.admit(&room("r"), &seats("u", 1), None, now()).await.unwrap_err();
    assert!(error.is_retryable(), "{error:?}");
    // Its lock is free although what it waited for is not.
    let patient = open(&Database { statement_timeout: Duration::from_secs(30), ..section.clone() });
    assert_eq!(patient.admit(&room("r"), &seats("v", 1), None, now()).await.unwrap().admitted, [true]);
    run(&mut other, "ROLLBACK").await;
    wait_until_no_transaction(server, name(&section)).await;
    assert_eq!(rooms.admit(&room("r"), &seats("u", 1), None, now()).await.unwrap().members, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_given_up_leaves_nothing_half_done() {
    let server = MariaDb::shared();
    let section = fresh(server).await;
    let rooms = with_a_room(&section).await;
    rooms
        .update(
            &room("r"),
            roomcast_store::rooms::RoomChange { max_users: Some(100_000), ..Default::default() },
            now(),
        )
        .await
        .unwrap();
    let mut given_up = 0;
    for round in 0..300 {
        let batch = seats(&format!("r{round}-"), 5);
        let (id, limit) = (room("r"), Duration::from_micros(round * 30));
        // Whether it still comes through is a matter of luck; that nothing is torn is not.
        let admission = tokio::time::timeout(limit, rooms.admit(&id, &batch, None, now())).await;
        given_up += usize::from(admission.is_err());
        let read = tokio::time::timeout(limit, rooms.seats(&id, None, 100_000)).await;
        given_up += usize::from(read.is_err());
        let seat = rooms.seat(&id, &batch[0].user_id).await.unwrap();
        assert!(admission.is_err() || seat.is_some());
    }
    assert!(given_up > 10, "{given_up}");
    wait_until_no_transaction(server, name(&section)).await;
    assert_eq!(holders(&rooms, &room("r")).await.len() % 5, 0);
    assert!(!rooms.counters().is_refusing);
}

#[tokio::test]
async fn ten_thousand_joins_in_batches_take_a_transaction_a_batch() {
    let rooms = open(&fresh(MariaDb::shared()).await);
    rooms.create(&room("r"), new_room(10_000), now()).await.unwrap();
    let before = rooms.counters().transactions;
    for batch in seats("u", 10_000).chunks(500) {
        let admission = rooms.admit(&room("r"), batch, None, now()).await.unwrap();
        assert!(admission.admitted.iter().all(|is_admitted| *is_admitted));
    }
    assert_eq!(rooms.counters().transactions - before, 20);
    assert_eq!(rooms.totals().await.unwrap().members, 10_000);
    assert_eq!(rooms.counters().transactions - before, 20, "a read is not counted");
}
