//! Rules of lists, sums and ids.

#![allow(missing_docs, reason = "a rule's name is its contract")]

use super::{LOOK_ALIKES, Record, at, holders, join, members, new_room, room, seats, user};
use crate::rooms::{RoomTotals, SeatRequest};

pub async fn rooms_are_listed_by_page_in_order_of_bytes(record: &Record) {
    let rooms = record.rooms();
    let mut ids = vec!["b", "a", "B", "é", "z", "a ", "10", "9", "\u{10348}"];
    for id in &ids {
        rooms.create(&room(id), new_room(9), at(1)).await.unwrap();
    }
    ids.sort_unstable();
    let mut found = Vec::new();
    loop {
        let page = rooms.rooms(found.last(), 4).await.unwrap();
        assert!(page.len() <= 4);
        if page.is_empty() {
            break;
        }
        found.extend(page.into_iter().map(|row| row.card.room_id));
    }
    assert_eq!(found.iter().map(AsRef::as_ref).collect::<Vec<&str>>(), ids);
}

pub async fn seats_are_listed_by_page_in_order_of_bytes(record: &Record) {
    let (rooms, id) = (record.rooms(), room("r"));
    let mut users = vec!["b", "a", "B", "é", "z", "a ", "10", "9", "\u{10348}"];
    join(rooms, &id, &users).await;
    join(rooms, &room("other"), &["c", "d"]).await;
    rooms.release(&id, &[(user("z"), None)], at(2)).await.unwrap();
    users.retain(|user| *user != "z");
    users.sort_unstable();
    let mut found = Vec::new();
    loop {
        let page = rooms.seats(&id, found.last(), 3).await.unwrap();
        assert!(page.len() <= 3);
        if page.is_empty() {
            break;
        }
        found.extend(page.into_iter().map(|row| row.user_id));
    }
    assert_eq!(found.iter().map(AsRef::as_ref).collect::<Vec<&str>>(), users);
    assert_eq!(rooms.seats(&room("unknown"), None, 3).await.unwrap(), []);
}

pub async fn totals_sum_over_rooms(record: &Record) {
    let rooms = record.rooms();
    assert_eq!(rooms.totals().await.unwrap(), RoomTotals::default());
    for (id, count) in [("a", 3), ("b", 5), ("c", 0)] {
        rooms.admit(&room(id), &seats("u", count), Some(new_room(9)), at(1)).await.unwrap();
    }
    assert_eq!(rooms.totals().await.unwrap(), RoomTotals { rooms: 3, members: 8 });
}

pub async fn room_ids_that_look_alike_are_different_rooms(record: &Record) {
    let rooms = record.rooms();
    for (number, id) in LOOK_ALIKES.iter().enumerate() {
        assert_eq!(rooms.room(&room(id)).await.unwrap(), None, "{id:?}");
        rooms.admit(&room(id), &seats("u", number + 1), Some(new_room(50)), at(1)).await.unwrap();
    }
    for (number, id) in LOOK_ALIKES.iter().enumerate() {
        assert_eq!(members(rooms, &room(id)).await, number as u64 + 1, "{id:?}");
    }
    rooms.delete(&room(LOOK_ALIKES[0])).await.unwrap();
    assert_eq!(rooms.totals().await.unwrap().rooms, LOOK_ALIKES.len() as u64 - 1);
}

pub async fn user_ids_that_look_alike_are_different_users(record: &Record) {
    let (rooms, id) = (record.rooms(), room("r"));
    for (number, look_alike) in LOOK_ALIKES.iter().enumerate() {
        join(rooms, &id, &[look_alike]).await;
        assert_eq!(members(rooms, &id).await, number as u64 + 1, "{look_alike:?}");
    }
    assert_eq!(join(rooms, &id, &LOOK_ALIKES).await, [true; LOOK_ALIKES.len()]);
    assert_eq!(members(rooms, &id).await, LOOK_ALIKES.len() as u64);
    for look_alike in LOOK_ALIKES {
        assert_eq!(
            rooms.release(&id, &[(user(look_alike), None)], at(2)).await.unwrap(),
            1,
            "{look_alike:?}"
        );
    }
    assert_eq!(members(rooms, &id).await, 0);
}

pub async fn ids_and_names_of_any_characters_read_as_written(record: &Record) {
    let rooms = record.rooms();
    let longest = "é".repeat(64);
    let texts = ["'; DROP TABLE rooms; --", "\"\\\"", "%_*?", "[1,2]", "null", "😀 \u{202e}", &longest];
    for text in texts {
        let request = SeatRequest { user_id: user(text), user_name: text.to_owned() };
        let admission = rooms.admit(&room(text), &[request], Some(new_room(9)), at(1)).await.unwrap();
        assert_eq!((admission.card.room_id.as_str(), admission.admitted), (text, vec![true]));
        assert_eq!(holders(rooms, &room(text)).await, [text]);
        assert_eq!(rooms.seat(&room(text), &user(text)).await.unwrap().unwrap().user_name, text);
    }
    for text in texts {
        assert_eq!(rooms.release(&room(text), &[(user(text), None)], at(2)).await.unwrap(), 1);
        assert_eq!(rooms.delete(&room(text)).await.unwrap().unwrap().card.room_id.as_str(), text);
    }
}

pub async fn it_answers(record: &Record) {
    record.rooms().ping().await.unwrap();
}
