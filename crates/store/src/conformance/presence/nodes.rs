//! Rules of the index of each node's sessions.

#![allow(missing_docs, reason = "a rule's name is its contract")]

use std::time::Duration;

use roomcast_types::{Incarnation, SessionId};

use super::{Memory, node, room, session, user, wait_until};
use crate::presence::{IndexedSession, Load, NodeRef, SLICES, SessionEntry};

const LONG: Duration = Duration::from_secs(60);

fn load(sessions: u64) -> Load {
    Load { sessions, sessions_max: u64::MAX, rooms: 3 }
}

fn indexed(node: &NodeRef) -> IndexedSession {
    IndexedSession {
        entry: SessionEntry { node: node.clone(), ..session("web", 1) },
        user_id: user("ann"),
        user_name: "Ann".to_owned(),
        rooms: vec![room("r"), room("R")],
    }
}

fn in_slice(node: &NodeRef, slice: u8) -> IndexedSession {
    let mut bytes = *SessionId::random().as_bytes();
    bytes[0] = slice;
    let mut session = indexed(node);
    session.entry.session_id = SessionId::from_bytes(&bytes).unwrap();
    session
}

pub async fn nothing_is_known_of_a_life_that_never_reported(memory: &Memory) {
    let (presence, node) = (&memory.presence, node("n"));
    assert_eq!(presence.slice_versions(&node).await.unwrap(), None);
    assert_eq!(presence.indexed(&node, 0).await.unwrap(), []);
    presence.unindex(&node, SessionId::random()).await.unwrap();
    presence.forget_node(&node).await.unwrap();
    assert_eq!(presence.slice_versions(&node).await.unwrap(), None);
    assert_eq!(presence.indexed_nodes().await.unwrap(), []);
}

pub async fn slice_versions_never_go_down(memory: &Memory) {
    let (presence, node) = (&memory.presence, node("n"));
    presence.set_slice_versions(&node, &[(0, 5), (63, 9)]).await.unwrap();
    presence.set_slice_versions(&node, &[(0, 4), (63, 10), (1, 1)]).await.unwrap();
    let versions = presence.slice_versions(&node).await.unwrap().unwrap();
    assert_eq!((versions[0], versions[1], versions[63]), (5, 1, 10));
    assert_eq!(versions.iter().sum::<u64>(), 16, "the others are 0");
}

pub async fn lives_of_a_node_have_their_own_index(memory: &Memory) {
    let (presence, old) = (&memory.presence, node("n"));
    let new = NodeRef { incarnation: Incarnation::random(), ..old.clone() };
    let (of_old, of_new) = (in_slice(&old, 7), in_slice(&new, 7));
    presence.index(&of_old).await.unwrap();
    presence.set_slice_versions(&old, &[(7, 5)]).await.unwrap();
    assert_eq!(presence.slice_versions(&new).await.unwrap(), None);
    presence.index(&of_new).await.unwrap();
    presence.set_slice_versions(&new, &[(7, 1)]).await.unwrap();
    assert_eq!(presence.slice_versions(&new).await.unwrap().unwrap()[7], 1);
    assert_eq!(presence.indexed(&old, 7).await.unwrap(), [of_old]);
    assert_eq!(presence.indexed(&new, 7).await.unwrap(), [of_new]);
    let nodes = presence.indexed_nodes().await.unwrap();
    assert!(nodes.len() == 2 && nodes.contains(&old) && nodes.contains(&new));
}

pub async fn a_session_is_indexed_in_its_slice(memory: &Memory) {
    let (presence, node) = (&memory.presence, node("n"));
    let sessions: Vec<IndexedSession> = (0..=u8::MAX).map(|byte| in_slice(&node, byte)).collect();
    for session in &sessions {
        presence.index(session).await.unwrap();
    }
    for slice in 0..SLICES {
        let found = presence.indexed(&node, slice).await.unwrap();
        let expected: Vec<_> =
            sessions.iter().filter(|session| session.entry.session_id.slice() == slice).collect();
        assert_eq!(found.len(), expected.len());
        assert!(expected.into_iter().all(|session| found.contains(session)));
    }
}

pub async fn a_session_is_indexed_once(memory: &Memory) {
    let (presence, node) = (&memory.presence, node("n"));
    let mut session = in_slice(&node, 3);
    presence.index(&session).await.unwrap();
    session.rooms = vec![room("s")];
    session.user_name = "Anna 😀".to_owned();
    presence.index(&session).await.unwrap();
    assert_eq!(presence.indexed(&node, 3).await.unwrap(), [session.clone()]);
    presence.unindex(&node, session.entry.session_id).await.unwrap();
    assert_eq!(presence.indexed(&node, 3).await.unwrap(), []);
}

pub async fn a_load_is_what_was_written_last(memory: &Memory) {
    let (presence, old) = (&memory.presence, node("n"));
    let new = NodeRef { incarnation: Incarnation::random(), ..old.clone() };
    assert_eq!(presence.load(&old).await.unwrap(), None);
    for sessions in [7, 0, 5] {
        presence.set_load(&old, load(sessions), LONG).await.unwrap();
        let (found, left) = presence.load(&old).await.unwrap().unwrap();
        assert_eq!(found, load(sessions));
        assert!(left <= LONG && left > LONG / 2, "{left:?}");
    }
    assert_eq!(presence.load(&new).await.unwrap(), None, "each life has its own");
    assert_eq!(presence.indexed_nodes().await.unwrap(), [], "a load says nothing of sessions");
    assert_eq!(presence.slice_versions(&old).await.unwrap(), None);
}

pub async fn a_load_ends(memory: &Memory) {
    let (presence, brief, lasting) = (&memory.presence, node("brief"), node("lasting"));
    presence.set_load(&lasting, load(1), Duration::from_millis(1)).await.unwrap();
    presence.set_load(&lasting, load(2), LONG).await.unwrap();
    presence.set_load(&brief, load(1), Duration::from_millis(50)).await.unwrap();
    wait_until("the load ended", async || presence.load(&brief).await.unwrap().is_none()).await;
    let (found, left) = presence.load(&lasting).await.unwrap().unwrap();
    assert_eq!(found, load(2), "its time began anew");
    assert!(left < LONG, "its time passes: {left:?}");
}

pub async fn a_forgotten_node_is_unknown(memory: &Memory) {
    let (presence, node) = (&memory.presence, node("n"));
    presence.set_load(&node, load(1), LONG).await.unwrap();
    presence.index(&in_slice(&node, 3)).await.unwrap();
    presence.set_slice_versions(&node, &[(3, 5)]).await.unwrap();
    presence.forget_node(&node).await.unwrap();
    assert_eq!(presence.load(&node).await.unwrap(), None);
    assert_eq!(presence.slice_versions(&node).await.unwrap(), None);
    assert_eq!(presence.indexed(&node, 3).await.unwrap(), []);
    assert_eq!(presence.indexed_nodes().await.unwrap(), []);
}
