//! Rules of admission to several rooms at once.

#![allow(missing_docs, reason = "a rule's name is its contract")]

use roomcast_types::RoomId;
use tokio::task::JoinSet;

use super::{Record, at, holders, join, members, new_room, room, seat, seats, user};
use crate::rooms::{Admission, RoomRequests, Rooms, SeatRequest};

fn asks(id: &RoomId, requests: &[SeatRequest]) -> RoomRequests {
    RoomRequests { room: id.clone(), requests: requests.to_vec() }
}

/// As a controller does it: alone what could not go together.
async fn admitted(rooms: &dyn Rooms, asked: &[RoomRequests], now: i64) -> Vec<Admission> {
    let together = rooms.admit_together(asked, at(now)).await.unwrap();
    let mut admissions = Vec::new();
    for (RoomRequests { room, requests }, admission) in asked.iter().zip(together) {
        admissions.push(match admission {
            Some(admission) => admission,
            None => rooms.admit(room, requests, Some(new_room(50)), at(now)).await.unwrap(),
        });
    }
    admissions
}

pub async fn rooms_admitted_together_have_outcomes_of_their_own(record: &Record) {
    let rooms = record.rooms();
    let [full, free, missing, quiet] = ["full", "free", "missing", "quiet"].map(room);
    rooms.admit(&full, &[seat("ann")], Some(new_room(1)), at(1)).await.unwrap();
    let card = rooms.create(&free, new_room(2), at(1)).await.unwrap().card;
    rooms.create(&quiet, new_room(2), at(1)).await.unwrap();
    let asked = [
        asks(&free, &[seat("ann"), seat("bob"), seat("cid"), seat("ann")]),
        asks(&missing, &[seat("ann")]),
        asks(&full, &[seat("bob"), seat("ann")]),
        asks(&quiet, &[]),
    ];
    let admissions = rooms.admit_together(&asked, at(2)).await.unwrap();
    let of = |number: usize| {
        let admission = admissions[number].as_ref();
        admission.map(|admission| (admission.members, admission.admitted.clone()))
    };
    assert_eq!(of(0), Some((2, vec![true, true, false, true])));
    assert_eq!(admissions[0].as_ref().unwrap().card, card);
    assert_eq!((of(1), of(2), of(3)), (None, Some((1, vec![false, true])), Some((0, vec![]))));
    assert_eq!((members(rooms, &free).await, members(rooms, &full).await), (2, 1));
    assert_eq!(
        (holders(rooms, &free).await, holders(rooms, &full).await.len()),
        (vec!["ann".into(), "bob".into()], 1)
    );
    assert_eq!(rooms.room(&missing).await.unwrap(), None);
    let row = rooms.room(&quiet).await.unwrap().unwrap();
    assert_eq!((row.members, row.empty_since), (0, Some(at(1))));
    assert_eq!(rooms.admit_together(&[], at(3)).await.unwrap(), []);
}

pub async fn a_seat_given_together_is_as_one_given_alone(record: &Record) {
    let rooms = record.rooms();
    let (alone, together, other) = (room("alone"), room("to'g%e\\ther"), room("other"));
    for id in [&alone, &together, &other] {
        rooms.create(id, new_room(3), at(1)).await.unwrap();
    }
    let named = |id: &str, name: &str| SeatRequest { user_id: user(id), user_name: name.to_owned() };
    let steps = [
        (2, vec![named("a'\"\\", "\u{1f600} 'x'"), named("bob", "")]),
        (3, vec![named("a'\"\\", ""), named("cid", "Cid")]),
        (4, vec![named("bob", "Bob"), named("dan", "")]),
    ];
    for (now, requests) in steps {
        let one = rooms.admit(&alone, &requests, None, at(now)).await.unwrap();
        let asked = [asks(&other, &[seat("ann")]), asks(&together, &requests)];
        let many = rooms.admit_together(&asked, at(now)).await.unwrap().remove(1).unwrap();
        assert_eq!((one.members, one.admitted), (many.members, many.admitted));
        let seats = async |id| rooms.seats(id, None, 10).await.unwrap();
        assert_eq!(seats(&alone).await, seats(&together).await);
    }
    // A seat of an earlier version was given again.
    let bob = rooms.seat(&together, &user("bob")).await.unwrap().unwrap();
    rooms.admit_together(&[asks(&together, &[seat("bob")])], at(5)).await.unwrap();
    assert_eq!(rooms.release(&together, &[(user("bob"), Some(bob.version))], at(6)).await.unwrap(), 0);
    for id in [&alone, &together] {
        let users = ["a'\"\\", "bob", "cid"].map(|id| (user(id), None));
        assert_eq!(rooms.release(id, &users, at(7)).await.unwrap(), 3);
        assert_eq!(rooms.room(id).await.unwrap().unwrap().empty_since, Some(at(7)));
    }
    admitted(rooms, &[asks(&together, &[seat("bob")])], 8).await;
    let row = rooms.room(&together).await.unwrap().unwrap();
    assert_eq!((row.members, row.empty_since), (1, None));
    let bob = rooms.seat(&together, &user("bob")).await.unwrap().unwrap();
    assert_eq!((bob.joined_at, bob.user_name.as_str()), (at(8), ""));
}

pub async fn racing_admissions_of_many_rooms_never_exceed_a_limit(record: &Record) {
    let ids: Vec<RoomId> = (0..6).map(|number| room(&format!("r{number}"))).collect();
    join(record.rooms(), &ids[0], &["first"]).await;
    for id in &ids[1..] {
        record.rooms().create(id, new_room(50), at(1)).await.unwrap();
    }
    let mut tasks = JoinSet::new();
    for number in 0..24 {
        // Each of another part of the rooms, some in another order.
        let mut asked: Vec<RoomRequests> = (0..4)
            .map(|step| asks(&ids[(number + step) % ids.len()], &seats(&format!("u{number}-"), 5)))
            .collect();
        if number % 2 == 0 {
            asked.reverse();
        }
        let rooms = record.handle(number);
        tasks.spawn(async move { (admitted(&*rooms, &asked, 2).await, asked) });
    }
    let mut given = vec![0; ids.len()];
    given[0] = 1;
    for (admissions, asked) in tasks.join_all().await {
        for (admission, RoomRequests { room, .. }) in admissions.into_iter().zip(asked) {
            let number = ids.iter().position(|id| *id == room).unwrap();
            given[number] += admission.admitted.iter().filter(|is_admitted| **is_admitted).count();
        }
    }
    for (id, given) in ids.iter().zip(given) {
        let row = record.rooms().room(id).await.unwrap().unwrap();
        assert_eq!(holders(record.rooms(), id).await.len(), given);
        assert_eq!(
            (row.members, given),
            (given as u64, (row.card.max_users as usize).min(if *id == ids[0] { 81 } else { 80 }))
        );
    }
}
