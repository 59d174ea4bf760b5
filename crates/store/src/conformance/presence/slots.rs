//! Rules of sessions and their slots.

#![allow(missing_docs, reason = "a rule's name is its contract")]

use roomcast_types::{SessionId, SessionPolicy};
use tokio::task::JoinSet;

use super::{LOOK_ALIKES, Memory, session, user};
use crate::presence::{Claim, SessionEntry};

fn ids(sessions: &[SessionEntry]) -> Vec<SessionId> {
    sessions.iter().map(|entry| entry.session_id).collect()
}

pub async fn a_later_stamp_displaces_the_earlier(memory: &Memory) {
    let (presence, ann) = (&memory.presence, user("ann"));
    for policy in [SessionPolicy::Multi, SessionPolicy::Single] {
        let (old, new) = (session("web", 10), session("web", 11));
        let first = presence.claim(&ann, &old, policy).await.unwrap();
        assert_eq!(first, Claim::Held { displaced: vec![] });
        assert_eq!(ids(&presence.sessions(&ann).await.unwrap()), [old.session_id]);
        let second = presence.claim(&ann, &new, policy).await.unwrap();
        assert_eq!(second, Claim::Held { displaced: vec![old] });
        assert_eq!(ids(&presence.sessions(&ann).await.unwrap()), [new.session_id]);
        presence.drop_session(&ann, new.session_id).await.unwrap();
    }
}

pub async fn the_later_stamp_wins_whatever_arrives_first(memory: &Memory) {
    let (presence, ann) = (&memory.presence, user("ann"));
    for policy in [SessionPolicy::Multi, SessionPolicy::Single] {
        let (old, new) = (session("web", 10), session("web", 11));
        presence.claim(&ann, &new, policy).await.unwrap();
        let late = presence.claim(&ann, &old, policy).await.unwrap();
        assert_eq!(late, Claim::Lost { holder: new.session_id });
        assert_eq!(ids(&presence.sessions(&ann).await.unwrap()), [new.session_id]);
        presence.drop_session(&ann, new.session_id).await.unwrap();
    }
}

pub async fn equal_stamps_are_decided_by_the_greater_session_id(memory: &Memory) {
    let (presence, ann) = (&memory.presence, user("ann"));
    for is_smaller_first in [true, false] {
        let mut pair = [session("web", 10), session("web", 10)];
        pair.sort_by_key(|entry| entry.session_id);
        let [smaller, greater] = pair;
        if is_smaller_first {
            presence.claim(&ann, &smaller, SessionPolicy::Multi).await.unwrap();
            let claim = presence.claim(&ann, &greater, SessionPolicy::Multi).await.unwrap();
            assert_eq!(claim, Claim::Held { displaced: vec![smaller] });
        } else {
            presence.claim(&ann, &greater, SessionPolicy::Multi).await.unwrap();
            let claim = presence.claim(&ann, &smaller, SessionPolicy::Multi).await.unwrap();
            assert_eq!(claim, Claim::Lost { holder: greater.session_id });
        }
        assert_eq!(ids(&presence.sessions(&ann).await.unwrap()), [greater.session_id]);
        presence.drop_session(&ann, greater.session_id).await.unwrap();
    }
}

pub async fn under_multi_other_clients_keep_their_slots(memory: &Memory) {
    let (presence, ann) = (&memory.presence, user("ann"));
    let (web, phone, upper) = (session("web", 10), session("phone", 5), session("WEB", 7));
    for entry in [&web, &phone, &upper] {
        let claim = presence.claim(&ann, entry, SessionPolicy::Multi).await.unwrap();
        assert_eq!(claim, Claim::Held { displaced: vec![] });
    }
    let newer = session("phone", 11);
    let claim = presence.claim(&ann, &newer, SessionPolicy::Multi).await.unwrap();
    assert_eq!(claim, Claim::Held { displaced: vec![phone] });
    assert_eq!(presence.sessions(&ann).await.unwrap(), [newer, web, upper]);
}

pub async fn under_single_one_session_holds_the_user(memory: &Memory) {
    let (presence, ann) = (&memory.presence, user("ann"));
    let (web, phone) = (session("web", 10), session("phone", 11));
    presence.claim(&ann, &web, SessionPolicy::Single).await.unwrap();
    let claim = presence.claim(&ann, &phone, SessionPolicy::Single).await.unwrap();
    assert_eq!(claim, Claim::Held { displaced: vec![web.clone()] });
    let claim = presence.claim(&ann, &web, SessionPolicy::Single).await.unwrap();
    assert_eq!(claim, Claim::Lost { holder: phone.session_id });
    assert_eq!(presence.sessions(&ann).await.unwrap(), [phone]);
}

pub async fn under_single_the_latest_of_all_holds_the_user(memory: &Memory) {
    let (presence, ann) = (&memory.presence, user("ann"));
    let several = [session("a", 10), session("b", 30), session("c", 20)];
    for entry in &several {
        presence.claim(&ann, entry, SessionPolicy::Multi).await.unwrap();
    }
    let middle = session("d", 25);
    let claim = presence.claim(&ann, &middle, SessionPolicy::Single).await.unwrap();
    assert_eq!(claim, Claim::Lost { holder: several[1].session_id });
    let latest = session("e", 40);
    let Claim::Held { displaced } = presence.claim(&ann, &latest, SessionPolicy::Single).await.unwrap()
    else {
        panic!("the latest session lost its slot");
    };
    let (mut displaced, mut expected) = (ids(&displaced), ids(&several));
    displaced.sort_unstable();
    expected.sort_unstable();
    assert_eq!(displaced, expected);
    assert_eq!(presence.sessions(&ann).await.unwrap(), [latest]);
}

pub async fn repeating_a_claim_that_is_held_displaces_nobody(memory: &Memory) {
    let (presence, ann) = (&memory.presence, user("ann"));
    let (web, phone) = (session("web", 10), session("phone", 10));
    for _ in 0..3 {
        for entry in [&web, &phone] {
            let claim = presence.claim(&ann, entry, SessionPolicy::Multi).await.unwrap();
            assert_eq!(claim, Claim::Held { displaced: vec![] });
        }
    }
    assert_eq!(presence.sessions(&ann).await.unwrap().len(), 2);
}

pub async fn a_claim_that_turns_out_lost_is_taken_back(memory: &Memory) {
    let (presence, ann) = (&memory.presence, user("ann"));
    let (old, new) = (session("web", 10), session("phone", 11));
    presence.claim(&ann, &old, SessionPolicy::Multi).await.unwrap();
    presence.claim(&ann, &new, SessionPolicy::Multi).await.unwrap();
    let claim = presence.claim(&ann, &old, SessionPolicy::Single).await.unwrap();
    assert_eq!(claim, Claim::Lost { holder: new.session_id });
    assert_eq!(presence.sessions(&ann).await.unwrap(), [new]);
}

pub async fn racing_claims_leave_the_latest(memory: &Memory) {
    let ann = user("ann");
    let mut tasks = JoinSet::new();
    let entries: Vec<_> = (0..40).map(|number| session("web", (number * 17) % 40)).collect();
    for entry in entries.clone() {
        let (presence, ann) = (memory.presence.clone(), ann.clone());
        tasks.spawn(async move { presence.claim(&ann, &entry, SessionPolicy::Multi).await.unwrap() });
    }
    let (mut lost, mut displaced_total) = (0, 0);
    for claim in tasks.join_all().await {
        match claim {
            Claim::Held { displaced } => displaced_total += displaced.len(),
            Claim::Lost { .. } => lost += 1,
        }
    }
    assert_eq!(lost + displaced_total, entries.len() - 1, "each loser hears it once, from one side");
    let latest = entries.into_iter().max_by_key(|entry| entry.stamp).unwrap();
    assert_eq!(memory.presence.sessions(&ann).await.unwrap(), [latest]);
}

pub async fn a_late_drop_removes_its_own_session_only(memory: &Memory) {
    let (presence, ann) = (&memory.presence, user("ann"));
    let (old, new) = (session("web", 10), session("web", 11));
    presence.claim(&ann, &old, SessionPolicy::Multi).await.unwrap();
    presence.claim(&ann, &new, SessionPolicy::Multi).await.unwrap();
    assert!(!presence.drop_session(&ann, old.session_id).await.unwrap());
    assert_eq!(ids(&presence.sessions(&ann).await.unwrap()), [new.session_id]);
    assert!(presence.drop_session(&ann, new.session_id).await.unwrap());
    assert!(!presence.drop_session(&ann, new.session_id).await.unwrap());
    assert_eq!(presence.sessions(&ann).await.unwrap(), []);
}

pub async fn sessions_are_listed_newest_first(memory: &Memory) {
    let (presence, ann) = (&memory.presence, user("ann"));
    for (client, stamp) in [("a", 5), ("b", 9), ("c", 1), ("d", 7)] {
        presence.claim(&ann, &session(client, stamp), SessionPolicy::Multi).await.unwrap();
    }
    let stamps: Vec<i64> =
        presence.sessions(&ann).await.unwrap().iter().map(|entry| entry.stamp.as_millis()).collect();
    assert_eq!(stamps, [9, 7, 5, 1]);
}

pub async fn users_that_look_alike_have_their_own_sessions(memory: &Memory) {
    let presence = &memory.presence;
    for look_alike in LOOK_ALIKES {
        let claim =
            presence.claim(&user(look_alike), &session("web", 1), SessionPolicy::Single).await.unwrap();
        assert_eq!(claim, Claim::Held { displaced: vec![] }, "{look_alike:?}");
    }
    for look_alike in LOOK_ALIKES {
        assert_eq!(presence.sessions(&user(look_alike)).await.unwrap().len(), 1, "{look_alike:?}");
    }
}
