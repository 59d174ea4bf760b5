//! Rules of release.

#![allow(missing_docs, reason = "a rule's name is its contract")]

use roomcast_types::{Epoch, Position, RoomId};
use tokio::task::JoinSet;

use super::{Record, at, holders, join, members, new_room, room, seat, seat_version, seats, user};
use crate::rooms::ReadMark;

pub async fn a_released_seat_gives_its_place_back(record: &Record) {
    let (rooms, id) = (record.rooms(), room("r"));
    rooms.admit(&id, &[seat("ann"), seat("bob")], Some(new_room(2)), at(1)).await.unwrap();
    assert_eq!(rooms.release(&id, &[(user("ann"), None)], at(2)).await.unwrap(), 1);
    assert_eq!(rooms.seat(&id, &user("ann")).await.unwrap(), None);
    assert_eq!(members(rooms, &id).await, 1);
    let admission = rooms.admit(&id, &[seat("cid"), seat("ann")], None, at(3)).await.unwrap();
    assert_eq!((admission.admitted, admission.members), (vec![true, false], 2));
    assert_eq!(holders(rooms, &id).await, ["bob", "cid"]);
}

pub async fn releasing_what_is_not_there_releases_nothing(record: &Record) {
    let (rooms, id) = (record.rooms(), room("r"));
    assert_eq!(rooms.release(&id, &[(user("ann"), None)], at(1)).await.unwrap(), 0);
    join(rooms, &id, &["ann"]).await;
    assert_eq!(rooms.release(&id, &[(user("bob"), None)], at(1)).await.unwrap(), 0);
    assert_eq!(rooms.release(&id, &[], at(1)).await.unwrap(), 0);
    assert_eq!(rooms.release(&id, &[(user("ann"), None)], at(1)).await.unwrap(), 1);
    assert_eq!(rooms.release(&id, &[(user("ann"), None)], at(1)).await.unwrap(), 0);
    assert_eq!(members(rooms, &id).await, 0);
}

pub async fn a_seat_admitted_again_outlives_its_release(record: &Record) {
    let (rooms, id) = (record.rooms(), room("r"));
    join(rooms, &id, &["ann", "bob"]).await;
    let read = seat_version(rooms, &id, "ann").await;
    join(rooms, &id, &["ann"]).await;
    let wanted = [(user("ann"), Some(read)), (user("bob"), Some(read))];
    assert_eq!(rooms.release(&id, &wanted, at(2)).await.unwrap(), 1);
    assert_eq!(holders(rooms, &id).await, ["ann"]);
    assert_eq!(members(rooms, &id).await, 1);
    let current = seat_version(rooms, &id, "ann").await;
    assert_eq!(rooms.release(&id, &[(user("ann"), Some(current))], at(3)).await.unwrap(), 1);
}

pub async fn a_release_without_a_version_takes_any_seat(record: &Record) {
    let (rooms, id) = (record.rooms(), room("r"));
    join(rooms, &id, &["ann"]).await;
    join(rooms, &id, &["ann"]).await;
    assert_eq!(rooms.release(&id, &[(user("ann"), None)], at(2)).await.unwrap(), 1);
    assert_eq!(holders(rooms, &id).await, [""; 0]);
}

pub async fn a_release_of_many_takes_each_once(record: &Record) {
    let (rooms, id) = (record.rooms(), room("r"));
    rooms.admit(&id, &seats("u", 1_000), Some(new_room(1_000)), at(1)).await.unwrap();
    let version = seat_version(rooms, &id, "u0000").await;
    let mut wanted: Vec<_> = seats("u", 600).into_iter().map(|seat| (seat.user_id, Some(version))).collect();
    wanted.extend([
        (user("u0000"), None),
        (user("u0001"), Some(version + 1)),
        (user("u0002"), Some(version)),
    ]);
    assert_eq!(rooms.release(&id, &wanted, at(2)).await.unwrap(), 600);
    assert_eq!(members(rooms, &id).await, 400);
    assert_eq!(holders(rooms, &id).await.first().map(String::as_str), Some("u0600"));
}

pub async fn a_seat_taken_anew_is_a_new_seat(record: &Record) {
    let (rooms, id) = (record.rooms(), room("r"));
    rooms.admit(&id, &[seat("ann")], Some(new_room(9)), at(10)).await.unwrap();
    let first = rooms.seat(&id, &user("ann")).await.unwrap().unwrap();
    rooms.release(&id, &[(user("ann"), Some(first.version))], at(20)).await.unwrap();
    rooms.admit(&id, &[seat("ann")], Some(new_room(9)), at(30)).await.unwrap();
    let second = rooms.seat(&id, &user("ann")).await.unwrap().unwrap();
    assert_eq!(second.joined_at, at(30));
    assert!(second.version > first.version);
    assert_eq!(rooms.release(&id, &[(user("ann"), Some(first.version))], at(40)).await.unwrap(), 0);
}

pub async fn racing_releases_and_joins_keep_the_count(record: &Record) {
    let id = room("r");
    record.rooms().create(&id, new_room(25), at(1)).await.unwrap();
    let mut tasks = JoinSet::new();
    for task in 0..8 {
        let (rooms, id) = (record.handle(task), id.clone());
        tasks.spawn(async move {
            for round in 0..25 {
                let name = format!("u{}", (task * 7 + round) % 40);
                if (task + round) % 3 == 0 {
                    rooms.release(&id, &[(user(&name), None)], at(2)).await.unwrap();
                } else {
                    let admission = rooms.admit(&id, &[seat(&name)], None, at(2)).await.unwrap();
                    assert!(admission.members <= 25);
                }
            }
        });
    }
    tasks.join_all().await;
    assert_eq!(members(record.rooms(), &id).await, holders(record.rooms(), &id).await.len() as u64);
}

fn mark(id: &RoomId, who: &str, position: Position) -> ReadMark {
    ReadMark { room: id.clone(), user: user(who), position }
}

pub async fn what_was_read_moves_up_or_into_another_epoch(record: &Record) {
    let (rooms, id) = (record.rooms(), room("r"));
    join(rooms, &id, &["ann", "bob"]).await;
    let ann = async || rooms.seat(&id, &user("ann")).await.unwrap().unwrap().read;
    assert_eq!(ann().await, None);
    let (epoch, other) = (Epoch::random(), Epoch::random());
    for (epoch, offset, wanted) in [(epoch, 7, 7), (epoch, 5, 7), (epoch, 9, 9), (other, 2, 2), (other, 1, 2)]
    {
        rooms.mark_read(&[mark(&id, "ann", Position { epoch, offset })]).await.unwrap();
        assert_eq!(ann().await, Some(Position { epoch, offset: wanted }));
    }
    let (low, high) = (Position { epoch, offset: 3 }, Position { epoch, offset: 4 });
    rooms.mark_read(&[mark(&id, "bob", low), mark(&id, "bob", high)]).await.unwrap();
    let users = ["bob", "cid", "ann", "bob"].map(user);
    let wanted = [Some(high), None, ann().await, Some(high)];
    assert_eq!(rooms.read_positions(&id, &users).await.unwrap(), wanted);
    assert_eq!(rooms.seats(&id, None, 9).await.unwrap()[1].read, Some(high));
}

pub async fn only_holders_of_seats_have_read(record: &Record) {
    let (rooms, id) = (record.rooms(), room("r"));
    let position = Position { epoch: Epoch::random(), offset: 7 };
    join(rooms, &id, &["ann"]).await;
    let marks: Vec<ReadMark> = (0..200).map(|number| mark(&id, &format!("u{number}"), position)).collect();
    rooms.mark_read(&marks).await.unwrap();
    rooms.mark_read(&[mark(&room("elsewhere"), "ann", position)]).await.unwrap();
    rooms.mark_read(&[]).await.unwrap();
    assert_eq!(holders(rooms, &id).await, ["ann"]);
    assert_eq!(rooms.read_positions(&id, &["u7", "ann"].map(user)).await.unwrap(), [None, None]);
    rooms.mark_read(&[mark(&id, "ann", position)]).await.unwrap();
    rooms.release(&id, &[(user("ann"), None)], at(2)).await.unwrap();
    assert_eq!(rooms.read_positions(&id, &[user("ann")]).await.unwrap(), [None]);
}
