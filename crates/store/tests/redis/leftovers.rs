//! What a server holds: each platform its own keys, and nothing of rooms, users and nodes that are gone.

use std::time::Duration;

use roomcast_store::{
    Presence, RedisPresence,
    presence::{Exit, IndexedSession, NodeRef, SessionEntry},
};
use roomcast_test_servers::{Redis, unique};
use roomcast_types::{
    ClientId, Incarnation, LogPolicy, Membership, NodeId, OnLogFailure, RoomCard, RoomState, SessionId,
    SessionPolicy, StoreTime,
};

use super::support::{at, keys, open, room, user, wait_until};

/// Later than any time that is ever due.
const NEVER: i64 = i64::MAX / 2;

fn fresh() -> (RedisPresence, String) {
    let prefix = format!("{}:", unique("left"));
    (open(&Redis::shared().url(), &prefix), prefix)
}

fn left(prefix: &str) -> Vec<String> {
    keys(Redis::shared(), prefix).into_iter().filter(|key| !key.contains("generation")).collect()
}

fn card(version: u64) -> RoomCard {
    let (state, membership) = (RoomState::Active, Membership::Follow);
    let (log, on_log_failure) = (LogPolicy::Recent, OnLogFailure::Degrade);
    RoomCard { room_id: room("r"), version, state, membership, max_users: 100, log, on_log_failure }
}

fn away(now: i64, due: i64) -> Exit {
    Exit::Away { now: at(now), due: Some(at(due)) }
}

#[tokio::test]
async fn two_platforms_on_one_server_do_not_see_each_other() {
    let ((one, _), (other, _)) = (fresh(), fresh());
    one.enter(&room("r"), &user("ann"), SessionId::random()).await.unwrap();
    one.mark_absent(&room("r"), &user("bob"), at(1), Some(at(2))).await.unwrap();
    assert_eq!(other.online_counts(&room("r")).await.unwrap(), (0, 0));
    assert_eq!(other.due_absences(at(3), 10).await.unwrap(), []);
    assert_ne!(one.generation().await.unwrap(), other.generation().await.unwrap());
}

#[tokio::test]
async fn nothing_of_a_room_is_left_when_everybody_is_gone() {
    let (presence, prefix) = fresh();
    let sessions: Vec<SessionId> = (0..3).map(|_| SessionId::random()).collect();
    presence.put_card(&card(1), 2).await.unwrap();
    for who in ["ann", "bob", "cid"] {
        for session in &sessions {
            presence.enter(&room("r"), &user(who), *session).await.unwrap();
        }
    }
    // Ann went away for good, and came back once in between; Bob left; Cid was evicted.
    presence.exit(&room("r"), &user("ann"), sessions[0], away(1, 31)).await.unwrap();
    presence.exit(&room("r"), &user("ann"), sessions[1], away(2, 32)).await.unwrap();
    presence.exit(&room("r"), &user("ann"), sessions[2], away(3, 33)).await.unwrap();
    assert!(presence.rejoin(&room("r"), &user("ann"), sessions[0]).await.unwrap());
    presence.exit(&room("r"), &user("ann"), sessions[0], away(4, 34)).await.unwrap();
    for session in &sessions {
        presence.exit(&room("r"), &user("bob"), *session, Exit::Left).await.unwrap();
    }
    assert_eq!(presence.evict(&room("r"), &user("cid")).await.unwrap().len(), 3);
    assert_eq!(presence.due_absences(at(40), 10).await.unwrap(), [(room("r"), user("ann"))]);
    assert!(presence.take_absence(&room("r"), &user("ann"), at(4)).await.unwrap());
    presence.forget_room(&room("r"), 1).await.unwrap();
    assert!(left(&prefix).iter().all(|key| key.contains("{due:")), "{:?}", left(&prefix));
    // Entries of absences that ended are put off once, then dropped.
    for _ in 0..2 {
        assert_eq!(presence.due_absences(at(NEVER), 10).await.unwrap(), []);
    }
    assert_eq!(left(&prefix), [""; 0]);
}

#[tokio::test]
async fn an_entry_whose_fact_comes_late_is_not_lost() {
    let (presence, prefix) = fresh();
    presence.mark_absent(&room("r"), &user("ann"), at(1), Some(at(2))).await.unwrap();
    let absent = format!("{prefix}{{r:r}}:absent");
    // As if the fact were on its way still.
    Redis::shared().run(&["RENAME", &absent, &format!("{absent}:later")]);
    assert_eq!(presence.due_absences(at(3), 10).await.unwrap(), []);
    Redis::shared().run(&["RENAME", &format!("{absent}:later"), &absent]);
    let soon = presence.now().await.unwrap().plus(Duration::from_secs(90));
    assert_eq!(presence.due_absences(soon, 10).await.unwrap(), [(room("r"), user("ann"))]);
}

#[tokio::test]
async fn a_burial_is_left_until_it_ends() {
    let (presence, prefix) = fresh();
    presence.put_card(&card(1), 1).await.unwrap();
    presence.enter(&room("r"), &user("ann"), SessionId::random()).await.unwrap();
    presence.bury(&room("r"), 2, Duration::from_millis(200)).await.unwrap();
    wait_until("the burial ended", async || left(&prefix).is_empty()).await;
}

#[tokio::test]
async fn nothing_of_users_and_nodes_is_left_when_they_are_forgotten() {
    let (presence, prefix) = fresh();
    let node = NodeRef { node_id: NodeId::new("node {1}:x").unwrap(), incarnation: Incarnation::random() };
    let mut entries = Vec::new();
    for number in 0..200 {
        let (session_id, stamp) = (SessionId::random(), StoreTime::from_millis(number));
        let entry =
            SessionEntry { session_id, node: node.clone(), client_id: ClientId::new("web").unwrap(), stamp };
        let (user_id, rooms) = (user(format!("user {number}")), vec![room("r")]);
        presence.claim(&user_id, &entry, SessionPolicy::Multi).await.unwrap();
        let session =
            IndexedSession { entry: entry.clone(), user_id: user_id.clone(), user_name: "N".into(), rooms };
        presence.index(&session).await.unwrap();
        entries.push((user_id, entry.session_id));
    }
    presence.set_slice_versions(&node, &[(0, 1), (63, 2)]).await.unwrap();
    assert_eq!(presence.indexed_nodes().await.unwrap(), std::slice::from_ref(&node));
    for (user, session) in &entries {
        assert!(presence.drop_session(user, *session).await.unwrap());
    }
    presence.forget_node(&node).await.unwrap();
    assert_eq!(left(&prefix), [""; 0]);
}

#[tokio::test]
async fn a_room_of_many_is_read_whole() {
    let (presence, _) = fresh();
    let ids: Vec<_> = (0..21_000).map(|number| user(format!("u{number}"))).collect();
    let (online, absent) = ids.split_at(11_000);
    let room = room("r");
    for some in online.chunks(500) {
        let calls = some.iter().map(|user| presence.enter(&room, user, SessionId::random()));
        futures_util::future::try_join_all(calls).await.unwrap();
    }
    let half = presence.occupancy(&room).await.unwrap();
    assert_eq!((half.online.len(), half.absent.len()), (11_000, 0), "at once");
    for some in absent.chunks(500) {
        let calls = some.iter().map(|user| presence.mark_absent(&room, user, at(1), None));
        futures_util::future::try_join_all(calls).await.unwrap();
    }
    let all = presence.occupancy(&room).await.unwrap();
    assert_eq!((all.online.len(), all.absent.len()), (11_000, 10_000), "in pages");
}
