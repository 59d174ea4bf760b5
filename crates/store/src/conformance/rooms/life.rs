//! Rules of creation, change and removal.

#![allow(missing_docs, reason = "a rule's name is its contract")]

use roomcast_types::{LogPolicy, Membership, OnLogFailure};

use super::{Record, at, holders, join, members, new_room, room, seat, seat_version, user};
use crate::{
    error::ErrorKind,
    rooms::{NewRoom, RoomChange, RoomTotals},
};

pub async fn a_created_room_reads_as_given(record: &Record) {
    let rooms = record.rooms();
    let (degrade, refuse) = (OnLogFailure::Degrade, OnLogFailure::Refuse);
    for (id, membership, is_auto_created, log, on_log_failure) in [
        ("a", Membership::Follow, true, LogPolicy::Recent, degrade),
        ("b", Membership::Durable, false, LogPolicy::Durable, refuse),
        ("c", Membership::Follow, false, LogPolicy::None, degrade),
    ] {
        let new = NewRoom { membership, is_auto_created, log, on_log_failure, ..new_room(1_000_000) };
        let row = rooms.create(&room(id), new, at(77)).await.unwrap();
        assert_eq!((row.card.room_id.as_str(), row.card.max_users), (id, 1_000_000));
        assert_eq!((row.card.log, row.card.on_log_failure), (log, on_log_failure));
        assert_eq!((row.card.membership, row.is_auto_created), (membership, is_auto_created));
        assert_eq!((row.members, row.created_at, row.empty_since), (0, at(77), Some(at(77))));
        assert_ne!(row.card.version, 0);
        assert_eq!(rooms.room(&room(id)).await.unwrap(), Some(row));
    }
    assert_eq!(rooms.room(&room("d")).await.unwrap(), None);
}

pub async fn a_room_cannot_be_created_twice(record: &Record) {
    let (rooms, id) = (record.rooms(), room("r"));
    let row = rooms.create(&id, new_room(9), at(1)).await.unwrap();
    let error = rooms.create(&id, new_room(10), at(2)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RoomExists);
    assert_eq!(rooms.room(&id).await.unwrap(), Some(row));
}

pub async fn an_update_changes_what_it_names_and_the_version(record: &Record) {
    let (rooms, id) = (record.rooms(), room("r"));
    let mut card = rooms.create(&id, new_room(9), at(1)).await.unwrap().card;
    join(rooms, &id, &["ann"]).await;
    let limit = RoomChange { max_users: Some(5), ..RoomChange::default() };
    let membership = RoomChange { membership: Some(Membership::Durable), ..RoomChange::default() };
    let log = RoomChange { log: Some(LogPolicy::None), ..RoomChange::default() };
    let refuse = RoomChange { on_log_failure: Some(OnLogFailure::Refuse), ..RoomChange::default() };
    for change in [limit, membership, log, refuse, RoomChange::default()] {
        let row = rooms.update(&id, change, at(2)).await.unwrap();
        card.version += 1;
        card.max_users = change.max_users.unwrap_or(card.max_users);
        card.membership = change.membership.unwrap_or(card.membership);
        card.log = change.log.unwrap_or(card.log);
        card.on_log_failure = change.on_log_failure.unwrap_or(card.on_log_failure);
        assert_eq!((&row.card, row.members), (&card, 1));
        assert_eq!(rooms.room(&id).await.unwrap(), Some(row));
    }
}

pub async fn an_update_of_an_unknown_room_is_no_such_room(record: &Record) {
    let error = record.rooms().update(&room("r"), RoomChange::default(), at(1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSuchRoom);
}

pub async fn lowering_the_limit_removes_nobody(record: &Record) {
    let (rooms, id) = (record.rooms(), room("r"));
    join(rooms, &id, &["ann", "bob", "cid"]).await;
    rooms.update(&id, RoomChange { max_users: Some(1), ..RoomChange::default() }, at(2)).await.unwrap();
    assert_eq!(holders(rooms, &id).await, ["ann", "bob", "cid"]);
    let admission = rooms.admit(&id, &[seat("dan"), seat("cid")], None, at(3)).await.unwrap();
    assert_eq!((admission.admitted, admission.members), (vec![false, true], 3));
    rooms.release(&id, &[(user("ann"), None), (user("bob"), None)], at(4)).await.unwrap();
    assert_eq!(join(rooms, &id, &["dan"]).await, [false]);
    rooms.release(&id, &[(user("cid"), None)], at(5)).await.unwrap();
    assert_eq!(join(rooms, &id, &["dan"]).await, [true]);
}

pub async fn a_deleted_room_is_gone_with_its_seats(record: &Record) {
    let (rooms, id) = (record.rooms(), room("r"));
    join(rooms, &id, &["ann", "bob"]).await;
    join(rooms, &room("other"), &["ann"]).await;
    let last = rooms.room(&id).await.unwrap();
    assert_eq!(rooms.delete(&id).await.unwrap(), last);
    assert_eq!(rooms.delete(&id).await.unwrap(), None);
    assert_eq!(rooms.room(&id).await.unwrap(), None);
    assert_eq!(rooms.seat(&id, &user("ann")).await.unwrap(), None);
    assert_eq!(rooms.totals().await.unwrap(), RoomTotals { rooms: 1, members: 1 });
    rooms.create(&id, new_room(9), at(5)).await.unwrap();
    assert_eq!(holders(rooms, &id).await, [""; 0]);
    assert_eq!(holders(rooms, &room("other")).await, ["ann"]);
}

pub async fn a_room_created_anew_starts_above_its_former_versions(record: &Record) {
    let (rooms, id) = (record.rooms(), room("r"));
    let mut highest = (0, 0);
    for round in 0..3 {
        join(rooms, &id, &["ann"]).await;
        let version = seat_version(rooms, &id, "ann").await;
        let card = rooms.update(&id, RoomChange::default(), at(round)).await.unwrap().card;
        // The deletion itself is a version of the card.
        assert!(card.version > highest.0 + 1 && version > highest.1, "{card:?} {version} {highest:?}");
        highest = (card.version, version);
        if round == 1 {
            rooms.release(&id, &[(user("ann"), None)], at(round)).await.unwrap();
            assert!(rooms.delete_if_empty(&id, at(round)).await.unwrap());
        } else {
            rooms.delete(&id).await.unwrap();
        }
    }
}

pub async fn empty_since_follows_the_seats(record: &Record) {
    let (rooms, id) = (record.rooms(), room("r"));
    let empty_since = async || rooms.room(&id).await.unwrap().unwrap().empty_since;
    rooms.create(&id, new_room(9), at(10)).await.unwrap();
    rooms.admit(&id, &[], None, at(15)).await.unwrap();
    assert_eq!(empty_since().await, Some(at(10)));
    rooms.admit(&id, &[seat("ann"), seat("bob")], None, at(20)).await.unwrap();
    assert_eq!(empty_since().await, None);
    rooms.release(&id, &[(user("ann"), None)], at(30)).await.unwrap();
    assert_eq!(empty_since().await, None);
    rooms.release(&id, &[(user("bob"), None)], at(40)).await.unwrap();
    assert_eq!(empty_since().await, Some(at(40)));
    rooms.release(&id, &[(user("bob"), None)], at(50)).await.unwrap();
    assert_eq!(empty_since().await, Some(at(40)));
}

pub async fn only_an_empty_auto_created_room_is_deleted_as_empty(record: &Record) {
    let rooms = record.rooms();
    let by_request = NewRoom { is_auto_created: false, ..new_room(9) };
    rooms.create(&room("by request"), by_request, at(10)).await.unwrap();
    assert!(!rooms.delete_if_empty(&room("by request"), at(99)).await.unwrap());

    rooms.admit(&room("taken"), &[seat("ann")], Some(new_room(9)), at(10)).await.unwrap();
    assert!(!rooms.delete_if_empty(&room("taken"), at(99)).await.unwrap());
    assert_eq!(members(rooms, &room("taken")).await, 1);

    rooms.create(&room("empty"), new_room(9), at(10)).await.unwrap();
    assert!(!rooms.delete_if_empty(&room("empty"), at(9)).await.unwrap());
    assert!(rooms.delete_if_empty(&room("empty"), at(10)).await.unwrap());
    assert_eq!(rooms.room(&room("empty")).await.unwrap(), None);
    assert!(!rooms.delete_if_empty(&room("empty"), at(10)).await.unwrap());
}

pub async fn empty_rooms_are_found_oldest_or_not_at_all(record: &Record) {
    let rooms = record.rooms();
    for (id, created) in [("c", 10), ("b", 20), ("a", 30)] {
        rooms.create(&room(id), new_room(9), at(created)).await.unwrap();
    }
    let by_request = NewRoom { is_auto_created: false, ..new_room(9) };
    rooms.create(&room("by request"), by_request, at(1)).await.unwrap();
    rooms.admit(&room("taken"), &[seat("ann")], Some(new_room(9)), at(1)).await.unwrap();
    let mut found = rooms.empty_rooms(at(20), 10).await.unwrap();
    found.sort();
    assert_eq!(found, [room("b"), room("c")]);
    assert_eq!(rooms.empty_rooms(at(9), 10).await.unwrap(), []);
    assert_eq!(rooms.empty_rooms(at(99), 2).await.unwrap().len(), 2);
}

pub async fn a_join_that_races_a_sweep_of_empty_rooms_has_its_seat(record: &Record) {
    let id = room("r");
    for round in 0..30 {
        record.rooms().create(&id, new_room(9), at(1)).await.unwrap();
        let (joining, sweeping) = (record.handle(round), record.handle(round + 1));
        let request = [seat("ann")];
        let (admission, _) = tokio::join!(
            joining.admit(&id, &request, Some(new_room(9)), at(2)),
            sweeping.delete_if_empty(&id, at(2)),
        );
        assert_eq!(admission.unwrap().admitted, [true]);
        assert_eq!(holders(record.rooms(), &id).await, ["ann"]);
        assert_eq!(members(record.rooms(), &id).await, 1);
        record.rooms().delete(&id).await.unwrap();
    }
}
