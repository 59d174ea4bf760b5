//! Rules of presence in rooms.

#![allow(missing_docs, reason = "a rule's name is its contract")]

use roomcast_types::SessionId;

use super::{ABSENT, LOOK_ALIKES, Memory, ONLINE, UNKNOWN, at, away, room, user, whereabouts};
use crate::presence::{Exit, Occupancy};

pub async fn a_rejoin_needs_a_seat_in_the_memory(memory: &Memory) {
    let (presence, id, ann) = (&*memory.presence, room("r"), user("ann"));
    let [first, second] = [SessionId::random(), SessionId::random()];
    assert!(!presence.rejoin(&id, &ann, first).await.unwrap());
    assert_eq!(whereabouts(presence, &id, &ann).await, UNKNOWN);
    presence.enter(&id, &ann, first).await.unwrap();
    assert!(presence.rejoin(&id, &ann, second).await.unwrap());
    assert_eq!(presence.online_counts(&id).await.unwrap(), (2, 1));
    assert!(!presence.rejoin(&id, &user("bob"), second).await.unwrap());
    assert!(!presence.rejoin(&room("other"), &ann, second).await.unwrap());
}

pub async fn a_rejoin_ends_the_absence(memory: &Memory) {
    let (presence, id, ann) = (&*memory.presence, room("r"), user("ann"));
    let session = SessionId::random();
    presence.enter(&id, &ann, session).await.unwrap();
    presence.exit(&id, &ann, session, away(100, 30)).await.unwrap();
    assert!(presence.rejoin(&id, &ann, SessionId::random()).await.unwrap());
    assert_eq!(whereabouts(presence, &id, &ann).await, ONLINE);
    assert_eq!(presence.due_absences(at(1_000), 10).await.unwrap(), []);
    assert!(!presence.take_absence(&id, &ann, at(1_000)).await.unwrap());
}

pub async fn entering_puts_online_whatever_was_known(memory: &Memory) {
    let (presence, id, ann) = (&*memory.presence, room("r"), user("ann"));
    assert!(presence.mark_absent(&id, &ann, at(1), Some(at(2))).await.unwrap());
    presence.enter(&id, &ann, SessionId::random()).await.unwrap();
    assert_eq!(whereabouts(presence, &id, &ann).await, ONLINE);
    assert_eq!(presence.due_absences(at(1_000), 10).await.unwrap(), []);
}

pub async fn entering_twice_counts_once(memory: &Memory) {
    let (presence, id, ann) = (&*memory.presence, room("r"), user("ann"));
    let session = SessionId::random();
    presence.enter(&id, &ann, session).await.unwrap();
    presence.enter(&id, &ann, session).await.unwrap();
    assert!(presence.rejoin(&id, &ann, session).await.unwrap());
    assert_eq!(presence.online_counts(&id).await.unwrap(), (1, 1));
    assert_eq!(presence.exit(&id, &ann, session, Exit::Left).await.unwrap(), 0);
    assert_eq!(presence.online_counts(&id).await.unwrap(), (0, 0));
}

pub async fn only_the_last_session_makes_its_user_absent(memory: &Memory) {
    let (presence, id, ann) = (&*memory.presence, room("r"), user("ann"));
    let [first, second] = [SessionId::random(), SessionId::random()];
    presence.enter(&id, &ann, first).await.unwrap();
    presence.enter(&id, &ann, second).await.unwrap();
    assert_eq!(presence.exit(&id, &ann, first, away(100, 30)).await.unwrap(), 1);
    assert_eq!(whereabouts(presence, &id, &ann).await, ONLINE);
    assert_eq!(presence.exit(&id, &ann, second, away(200, 30)).await.unwrap(), 0);
    let occupancy = presence.occupancy(&id).await.unwrap();
    assert_eq!(occupancy, Occupancy { online: vec![], absent: vec![(ann, at(200))] });
}

pub async fn leaving_is_neither_online_nor_absent(memory: &Memory) {
    let (presence, id, ann) = (&*memory.presence, room("r"), user("ann"));
    let [first, second] = [SessionId::random(), SessionId::random()];
    presence.enter(&id, &ann, first).await.unwrap();
    presence.enter(&id, &ann, second).await.unwrap();
    assert_eq!(presence.exit(&id, &ann, first, Exit::Left).await.unwrap(), 1);
    assert_eq!(whereabouts(presence, &id, &ann).await, ONLINE);
    assert_eq!(presence.exit(&id, &ann, second, Exit::Left).await.unwrap(), 0);
    assert_eq!(whereabouts(presence, &id, &ann).await, UNKNOWN);
    assert!(!presence.rejoin(&id, &ann, first).await.unwrap());
}

pub async fn a_late_exit_changes_nothing(memory: &Memory) {
    let (presence, id, ann) = (&*memory.presence, room("r"), user("ann"));
    let [old, new] = [SessionId::random(), SessionId::random()];
    for how in [away(50, 30), Exit::Left] {
        assert_eq!(presence.exit(&id, &ann, old, how).await.unwrap(), 0);
        assert_eq!(whereabouts(presence, &id, &ann).await, UNKNOWN);
    }
    presence.enter(&id, &ann, old).await.unwrap();
    presence.exit(&id, &ann, old, away(100, 30)).await.unwrap();
    for how in [away(500, 30), Exit::Left] {
        assert_eq!(presence.exit(&id, &ann, old, how).await.unwrap(), 0);
        assert_eq!(presence.occupancy(&id).await.unwrap().absent, [(ann.clone(), at(100))]);
    }
    presence.rejoin(&id, &ann, new).await.unwrap();
    for how in [away(500, 30), Exit::Left] {
        assert_eq!(presence.exit(&id, &ann, old, how).await.unwrap(), 1);
        assert_eq!(presence.occupancy(&id).await.unwrap().online, [(ann.clone(), vec![new])]);
    }
}

pub async fn an_absence_is_marked_only_where_nothing_is_known(memory: &Memory) {
    let (presence, id, ann) = (&*memory.presence, room("r"), user("ann"));
    assert!(presence.mark_absent(&id, &ann, at(10), Some(at(40))).await.unwrap());
    assert!(!presence.mark_absent(&id, &ann, at(20), Some(at(50))).await.unwrap());
    assert_eq!(presence.occupancy(&id).await.unwrap().absent, [(ann.clone(), at(10))]);
    assert_eq!(presence.due_absences(at(40), 10).await.unwrap(), [(id.clone(), ann.clone())]);
    presence.enter(&id, &ann, SessionId::random()).await.unwrap();
    assert!(!presence.mark_absent(&id, &ann, at(60), Some(at(90))).await.unwrap());
    assert_eq!(whereabouts(presence, &id, &ann).await, ONLINE);
}

pub async fn an_absence_is_taken_after_its_grace_only(memory: &Memory) {
    let (presence, id, ann) = (&*memory.presence, room("r"), user("ann"));
    presence.mark_absent(&id, &ann, at(100), Some(at(130))).await.unwrap();
    assert!(!presence.take_absence(&id, &ann, at(99)).await.unwrap());
    assert_eq!(whereabouts(presence, &id, &ann).await, ABSENT);
    assert!(presence.take_absence(&id, &ann, at(100)).await.unwrap());
    assert_eq!(whereabouts(presence, &id, &ann).await, UNKNOWN);
    assert_eq!(presence.due_absences(at(1_000), 10).await.unwrap(), []);
    assert!(!presence.take_absence(&id, &ann, at(100)).await.unwrap());
    assert!(!presence.rejoin(&id, &ann, SessionId::random()).await.unwrap());
}

pub async fn an_absence_that_ended_cannot_be_taken(memory: &Memory) {
    let (presence, id, ann) = (&*memory.presence, room("r"), user("ann"));
    let session = SessionId::random();
    presence.mark_absent(&id, &ann, at(100), Some(at(130))).await.unwrap();
    presence.rejoin(&id, &ann, session).await.unwrap();
    assert!(!presence.take_absence(&id, &ann, at(1_000)).await.unwrap());
    assert_eq!(presence.exit(&id, &ann, session, away(500, 30)).await.unwrap(), 0);
    assert!(!presence.take_absence(&id, &ann, at(499)).await.unwrap());
    assert!(presence.take_absence(&id, &ann, at(500)).await.unwrap());
}

pub async fn taking_an_absence_and_a_rejoin_exclude_each_other(memory: &Memory) {
    let (id, ann) = (room("r"), user("ann"));
    for round in 0..500 {
        let session = SessionId::random();
        memory.presence.mark_absent(&id, &ann, at(1), Some(at(2))).await.unwrap();
        let taking = tokio::spawn({
            let (presence, id, ann) = (memory.presence.clone(), id.clone(), ann.clone());
            async move { presence.take_absence(&id, &ann, at(10)).await.unwrap() }
        });
        let rejoining = tokio::spawn({
            let (presence, id, ann) = (memory.presence.clone(), id.clone(), ann.clone());
            async move { presence.rejoin(&id, &ann, session).await.unwrap() }
        });
        let (was_taken, has_rejoined) = (taking.await.unwrap(), rejoining.await.unwrap());
        assert_ne!(was_taken, has_rejoined, "round {round}");
        let expected = if was_taken { UNKNOWN } else { ONLINE };
        assert_eq!(whereabouts(&*memory.presence, &id, &ann).await, expected, "round {round}");
        memory.presence.evict(&id, &ann).await.unwrap();
    }
}

pub async fn absences_become_due_oldest_first(memory: &Memory) {
    let presence = &*memory.presence;
    for (id, who, due) in [("r", "ann", 30), ("s", "bob", 10), ("r", "cid", 20), ("s", "dan", 40)] {
        presence.mark_absent(&room(id), &user(who), at(1), Some(at(due))).await.unwrap();
    }
    assert_eq!(presence.due_absences(at(9), 10).await.unwrap(), []);
    let all = [("s", "bob"), ("r", "cid"), ("r", "ann")].map(|(id, who)| (room(id), user(who)));
    assert_eq!(presence.due_absences(at(39), 10).await.unwrap(), all);
    assert_eq!(presence.due_absences(at(39), 2).await.unwrap(), all[..2]);
    assert!(presence.take_absence(&room("s"), &user("bob"), at(1)).await.unwrap());
    assert_eq!(presence.due_absences(at(39), 10).await.unwrap(), all[1..]);
}

pub async fn a_durable_absence_is_never_due(memory: &Memory) {
    let (presence, id, ann) = (&*memory.presence, room("r"), user("ann"));
    let session = SessionId::random();
    presence.enter(&id, &ann, session).await.unwrap();
    presence.exit(&id, &ann, session, Exit::Away { now: at(1), due: None }).await.unwrap();
    presence.mark_absent(&id, &user("bob"), at(1), None).await.unwrap();
    assert_eq!(whereabouts(presence, &id, &ann).await, ABSENT);
    assert_eq!(whereabouts(presence, &id, &user("bob")).await, ABSENT);
    assert_eq!(presence.due_absences(at(i64::MAX / 2), 10).await.unwrap(), []);
    assert!(presence.rejoin(&id, &ann, session).await.unwrap());
}

pub async fn a_newer_absence_has_its_own_due_time(memory: &Memory) {
    let (presence, id, ann) = (&*memory.presence, room("r"), user("ann"));
    let session = SessionId::random();
    for now in [100, 200] {
        presence.enter(&id, &ann, session).await.unwrap();
        presence.exit(&id, &ann, session, away(now, 30)).await.unwrap();
    }
    assert_eq!(presence.due_absences(at(229), 10).await.unwrap(), []);
    assert_eq!(presence.due_absences(at(230), 10).await.unwrap(), [(id, ann)]);
}

pub async fn an_evicted_user_is_unknown(memory: &Memory) {
    let (presence, id, ann) = (&*memory.presence, room("r"), user("ann"));
    let mut sessions = [SessionId::random(), SessionId::random()];
    for session in sessions {
        presence.enter(&id, &ann, session).await.unwrap();
    }
    presence.mark_absent(&id, &user("bob"), at(1), Some(at(2))).await.unwrap();
    let mut evicted = presence.evict(&id, &ann).await.unwrap();
    evicted.sort_unstable();
    sessions.sort_unstable();
    assert_eq!(evicted, sessions);
    assert_eq!(presence.evict(&id, &user("bob")).await.unwrap(), []);
    assert_eq!(presence.evict(&id, &user("cid")).await.unwrap(), []);
    assert_eq!(presence.occupancy(&id).await.unwrap(), Occupancy::default());
    assert_eq!(presence.online_counts(&id).await.unwrap(), (0, 0));
    assert_eq!(presence.due_absences(at(1_000), 10).await.unwrap(), []);
    assert!(!presence.rejoin(&id, &ann, sessions[0]).await.unwrap());
}

pub async fn rooms_that_look_alike_have_their_own_presence(memory: &Memory) {
    let presence = &*memory.presence;
    for (number, look_alike) in LOOK_ALIKES.iter().enumerate() {
        for who in &LOOK_ALIKES[..=number] {
            presence.enter(&room(look_alike), &user(who), SessionId::random()).await.unwrap();
        }
    }
    for (number, look_alike) in LOOK_ALIKES.iter().enumerate() {
        let count = number as u64 + 1;
        assert_eq!(
            presence.online_counts(&room(look_alike)).await.unwrap(),
            (count, count),
            "{look_alike:?}"
        );
    }
}
