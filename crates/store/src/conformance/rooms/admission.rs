//! Rules of admission.

#![allow(missing_docs, reason = "a rule's name is its contract")]

use roomcast_types::RoomState;
use tokio::task::JoinSet;

use super::{Record, at, holders, join, members, new_room, room, seat, seat_version, seats, user};
use crate::{error::ErrorKind, rooms::SeatRequest};

pub async fn a_first_join_creates_the_room(record: &Record) {
    let (rooms, id) = (record.rooms(), room("r"));
    let admission = rooms.admit(&id, &[seat("ann")], Some(new_room(7)), at(5)).await.unwrap();
    assert_eq!((admission.members, admission.admitted), (1, vec![true]));
    let row = rooms.room(&id).await.unwrap().unwrap();
    assert_eq!(row.card, admission.card);
    assert_eq!((row.card.max_users, row.card.state), (7, RoomState::Active));
    assert_ne!(row.card.version, 0);
    assert!(row.is_auto_created);
    let ann = rooms.seat(&id, &user("ann")).await.unwrap().unwrap();
    assert_eq!(ann.joined_at, at(5));
}

pub async fn without_create_an_unknown_room_is_no_such_room(record: &Record) {
    let (rooms, id) = (record.rooms(), room("r"));
    let error = rooms.admit(&id, &[seat("ann")], None, at(5)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSuchRoom);
    assert_eq!(rooms.room(&id).await.unwrap(), None);
    assert_eq!(rooms.seat(&id, &user("ann")).await.unwrap(), None);
}

pub async fn racing_joins_never_exceed_the_limit(record: &Record) {
    let id = room("r");
    record.rooms().create(&id, new_room(50), at(1)).await.unwrap();
    let mut tasks = JoinSet::new();
    let mut waiting = seats("u", 200);
    let mut number = 0;
    while !waiting.is_empty() {
        number += 1;
        let batch: Vec<SeatRequest> = waiting.drain(..waiting.len().min(number % 7 + 1)).collect();
        let (rooms, id) = (record.handle(number), id.clone());
        tasks.spawn(async move { (rooms.admit(&id, &batch, None, at(2)).await.unwrap(), batch) });
    }
    let mut admitted = Vec::new();
    while let Some(answer) = tasks.join_next().await {
        let (admission, batch) = answer.unwrap();
        assert!(admission.members <= 50);
        let yes = batch.into_iter().zip(admission.admitted).filter(|(_, is_admitted)| *is_admitted);
        admitted.extend(yes.map(|(request, _)| String::from(request.user_id)));
    }
    admitted.sort();
    assert_eq!(admitted.len(), 50);
    assert_eq!(holders(record.rooms(), &id).await, admitted);
    assert_eq!(members(record.rooms(), &id).await, 50);
}

pub async fn racing_first_joins_create_one_room(record: &Record) {
    let id = room("r");
    let mut tasks = JoinSet::new();
    for number in 0..20 {
        let (rooms, id) = (record.handle(number), id.clone());
        tasks.spawn(async move {
            let request = [seat(&format!("u{number}"))];
            rooms.admit(&id, &request, Some(new_room(100)), at(2)).await.unwrap()
        });
    }
    let admissions = tasks.join_all().await;
    assert!(admissions.iter().all(|admission| admission.admitted == [true]));
    assert!(admissions.iter().all(|admission| admission.card == admissions[0].card));
    assert_eq!(members(record.rooms(), &id).await, 20);
    assert_eq!(holders(record.rooms(), &id).await.len(), 20);
}

pub async fn holders_are_admitted_when_full(record: &Record) {
    let (rooms, id) = (record.rooms(), room("r"));
    rooms.admit(&id, &[seat("ann"), seat("bob")], Some(new_room(2)), at(1)).await.unwrap();
    let again =
        rooms.admit(&id, &[seat("cid"), seat("bob"), seat("ann")], Some(new_room(2)), at(2)).await.unwrap();
    assert_eq!((again.admitted, again.members), (vec![false, true, true], 2));
}

pub async fn the_first_of_a_batch_get_the_places(record: &Record) {
    let (rooms, id) = (record.rooms(), room("r"));
    rooms.admit(&id, &[seat("m")], Some(new_room(3)), at(1)).await.unwrap();
    let batch = [seat("z"), seat("m"), seat("b"), seat("a"), seat("c")];
    let admission = rooms.admit(&id, &batch, None, at(2)).await.unwrap();
    assert_eq!((admission.admitted, admission.members), (vec![true, true, true, false, false], 3));
    assert_eq!(holders(rooms, &id).await, ["b", "m", "z"]);
}

pub async fn a_repeated_user_counts_once(record: &Record) {
    let (rooms, id) = (record.rooms(), room("r"));
    let batch = [seat("ann"), seat("ann"), seat("bob"), seat("cid"), seat("ann"), seat("cid")];
    let admission = rooms.admit(&id, &batch, Some(new_room(2)), at(1)).await.unwrap();
    assert_eq!(admission.admitted, [true, true, true, false, true, false]);
    assert_eq!(admission.members, 2);
    assert_eq!(members(rooms, &id).await, 2);
}

pub async fn an_admitted_seat_carries_the_new_seat_version(record: &Record) {
    let (rooms, id) = (record.rooms(), room("r"));
    join(rooms, &id, &["ann", "bob"]).await;
    let first = seat_version(rooms, &id, "ann").await;
    assert_eq!(seat_version(rooms, &id, "bob").await, first);
    join(rooms, &id, &["cid"]).await;
    assert_eq!(seat_version(rooms, &id, "cid").await, first + 1);
    join(rooms, &id, &["ann"]).await;
    assert_eq!(seat_version(rooms, &id, "ann").await, first + 2);
    assert_eq!(seat_version(rooms, &id, "bob").await, first);
}

pub async fn joining_again_keeps_when_the_seat_was_taken(record: &Record) {
    let (rooms, id) = (record.rooms(), room("r"));
    rooms.admit(&id, &[seat("ann")], Some(new_room(9)), at(10)).await.unwrap();
    rooms.admit(&id, &[seat("ann")], Some(new_room(9)), at(20)).await.unwrap();
    assert_eq!(rooms.seat(&id, &user("ann")).await.unwrap().unwrap().joined_at, at(10));
}

pub async fn an_empty_name_keeps_the_one_known(record: &Record) {
    let (rooms, id) = (record.rooms(), room("r"));
    for (given, shown) in [("", ""), ("Ann", "Ann"), ("", "Ann"), ("Anna", "Anna")] {
        let request = SeatRequest { user_id: user("ann"), user_name: given.to_owned() };
        rooms.admit(&id, &[request], Some(new_room(9)), at(1)).await.unwrap();
        assert_eq!(rooms.seat(&id, &user("ann")).await.unwrap().unwrap().user_name, shown);
    }
}

pub async fn admission_leaves_the_card_alone(record: &Record) {
    let (rooms, id) = (record.rooms(), room("r"));
    let card = rooms.create(&id, new_room(9), at(1)).await.unwrap().card;
    for name in ["ann", "bob", "ann"] {
        assert_eq!(rooms.admit(&id, &[seat(name)], None, at(2)).await.unwrap().card, card);
    }
    assert_eq!(rooms.room(&id).await.unwrap().unwrap().card, card);
}

pub async fn an_admission_of_nobody_answers_the_card(record: &Record) {
    let (rooms, id) = (record.rooms(), room("r"));
    let card = rooms.create(&id, new_room(9), at(1)).await.unwrap().card;
    let admission = rooms.admit(&id, &[], None, at(2)).await.unwrap();
    assert_eq!((admission.card, admission.members, admission.admitted), (card, 0, vec![]));
}

pub async fn a_batch_of_thousands_is_admitted_whole(record: &Record) {
    let (rooms, id) = (record.rooms(), room("r"));
    let admission = rooms.admit(&id, &seats("u", 5_000), Some(new_room(4_990)), at(1)).await.unwrap();
    assert_eq!(admission.members, 4_990);
    assert!(admission.admitted[..4_990].iter().all(|is_admitted| *is_admitted));
    assert!(admission.admitted[4_990..].iter().all(|is_admitted| !is_admitted));
    assert_eq!(holders(rooms, &id).await.len(), 4_990);
}
