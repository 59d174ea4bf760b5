//! Rules of room cards and burials.

#![allow(missing_docs, reason = "a rule's name is its contract")]

use std::time::Duration;

use roomcast_types::{RoomCard, RoomState, SessionId};

use super::{Memory, at, away, card, room, user, wait_until};
use crate::presence::{CardEntry, Occupancy};

const LONG: Duration = Duration::from_secs(60);

pub async fn a_card_is_known_once_written(memory: &Memory) {
    let presence = &memory.presence;
    assert_eq!(presence.card(&room("r")).await.unwrap(), CardEntry::Unknown);
    presence.put_card(&card("r", 3), 5).await.unwrap();
    let known = CardEntry::Known { card: card("r", 3), members: 5 };
    assert_eq!(presence.card(&room("r")).await.unwrap(), known);
    assert_eq!(presence.card(&room("R")).await.unwrap(), CardEntry::Unknown);
}

pub async fn an_older_card_does_not_replace_a_newer_one(memory: &Memory) {
    let presence = &memory.presence;
    let newer = RoomCard { max_users: 50, ..card("r", 4) };
    presence.put_card(&card("r", 3), 1).await.unwrap();
    presence.put_card(&newer, 2).await.unwrap();
    presence.put_card(&card("r", 3), 3).await.unwrap();
    let known = CardEntry::Known { card: newer, members: 3 };
    assert_eq!(
        presence.card(&room("r")).await.unwrap(),
        known,
        "the card stays, the number of seats is the last"
    );
}

pub async fn a_buried_room_answers_so_and_forgets_its_presence(memory: &Memory) {
    let (presence, id, ann) = (&memory.presence, room("r"), user("ann"));
    let session = SessionId::random();
    presence.put_card(&card("r", 3), 1).await.unwrap();
    presence.enter(&id, &ann, session).await.unwrap();
    presence.enter(&id, &user("bob"), session).await.unwrap();
    presence.exit(&id, &user("bob"), session, away(1, 30)).await.unwrap();
    presence.bury(&id, 4, LONG).await.unwrap();
    assert_eq!(presence.card(&id).await.unwrap(), CardEntry::Buried { version: 4 });
    assert_eq!(presence.occupancy(&id).await.unwrap(), Occupancy::default());
    assert_eq!(presence.due_absences(at(1_000), 10).await.unwrap(), []);
    assert!(!presence.rejoin(&id, &ann, session).await.unwrap());
    assert!(!presence.rejoin(&id, &user("bob"), session).await.unwrap());
    presence.enter(&id, &ann, session).await.unwrap();
    assert!(!presence.rejoin(&id, &ann, SessionId::random()).await.unwrap(), "a buried room takes no rejoin");
}

pub async fn only_a_newer_active_card_unburies(memory: &Memory) {
    let (presence, id) = (&memory.presence, room("r"));
    presence.bury(&id, 4, LONG).await.unwrap();
    let deleted = RoomCard { state: RoomState::Deleted, ..card("r", 9) };
    for ignored in [card("r", 3), card("r", 4), deleted] {
        presence.put_card(&ignored, 1).await.unwrap();
        assert_eq!(presence.card(&id).await.unwrap(), CardEntry::Buried { version: 4 });
    }
    presence.put_card(&card("r", 5), 1).await.unwrap();
    let known = CardEntry::Known { card: card("r", 5), members: 1 };
    assert_eq!(presence.card(&id).await.unwrap(), known);
    presence.enter(&id, &user("ann"), SessionId::random()).await.unwrap();
    assert!(presence.rejoin(&id, &user("ann"), SessionId::random()).await.unwrap());
}

pub async fn a_burial_ends(memory: &Memory) {
    let (presence, id) = (&memory.presence, room("r"));
    presence.put_card(&card("r", 3), 1).await.unwrap();
    presence.bury(&id, 4, Duration::from_millis(50)).await.unwrap();
    wait_until("the burial ended", async || presence.card(&id).await.unwrap() == CardEntry::Unknown).await;
    presence.put_card(&card("r", 1), 1).await.unwrap();
    let known = CardEntry::Known { card: card("r", 1), members: 1 };
    assert_eq!(presence.card(&id).await.unwrap(), known);
}

pub async fn a_late_burial_spares_a_room_created_anew(memory: &Memory) {
    let (presence, id, ann) = (&memory.presence, room("r"), user("ann"));
    presence.put_card(&card("r", 5), 1).await.unwrap();
    presence.enter(&id, &ann, SessionId::random()).await.unwrap();
    presence.bury(&id, 4, LONG).await.unwrap();
    let known = CardEntry::Known { card: card("r", 5), members: 1 };
    assert_eq!(presence.card(&id).await.unwrap(), known);
    assert!(presence.rejoin(&id, &ann, SessionId::random()).await.unwrap());
}

pub async fn a_forgotten_room_is_unknown(memory: &Memory) {
    let (presence, id, ann) = (&memory.presence, room("r"), user("ann"));
    presence.put_card(&card("r", 3), 1).await.unwrap();
    presence.enter(&id, &ann, SessionId::random()).await.unwrap();
    presence.mark_absent(&id, &user("bob"), at(1), Some(at(2))).await.unwrap();
    presence.forget_room(&id, 3).await.unwrap();
    assert_eq!(presence.card(&id).await.unwrap(), CardEntry::Unknown);
    assert_eq!(presence.occupancy(&id).await.unwrap(), Occupancy::default());
    assert_eq!(presence.due_absences(at(1_000), 10).await.unwrap(), []);
    assert!(!presence.rejoin(&id, &ann, SessionId::random()).await.unwrap());
    presence.put_card(&card("r", 1), 1).await.unwrap();
    let known = CardEntry::Known { card: card("r", 1), members: 1 };
    assert_eq!(presence.card(&id).await.unwrap(), known);
}

pub async fn a_late_forgetting_spares_a_room_created_anew(memory: &Memory) {
    let (presence, id, ann) = (&memory.presence, room("r"), user("ann"));
    presence.put_card(&card("r", 5), 1).await.unwrap();
    presence.enter(&id, &ann, SessionId::random()).await.unwrap();
    presence.forget_room(&id, 4).await.unwrap();
    let known = CardEntry::Known { card: card("r", 5), members: 1 };
    assert_eq!(presence.card(&id).await.unwrap(), known);
    assert!(presence.rejoin(&id, &ann, SessionId::random()).await.unwrap());
}
