//! Process memory keeps the rules of presence, and its test controls do what they say.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "models/seats.rs"]
mod seats;
#[path = "models/slots.rs"]
mod slots;

use std::{sync::Arc, time::Duration};

use futures_util::FutureExt;
use roomcast_store::{ErrorKind, MemoryPresence, Presence, conformance::presence::Memory};
use roomcast_types::{RoomId, SessionId, UserId};

async fn fresh() -> Memory {
    let presence = Arc::new(MemoryPresence::new());
    let flushed = presence.clone();
    Memory::new(presence, move || {
        flushed.flush();
        std::future::ready(()).boxed()
    })
}

mod memory {
    roomcast_store::presence_conformance!(super::fresh());
}

#[tokio::test]
async fn switched_off_it_answers_unavailable_and_changes_nothing() {
    let presence = MemoryPresence::new();
    let (room, user) = (RoomId::new("r").unwrap(), UserId::new("u").unwrap());
    presence.set_available(false);
    let error = presence.enter(&room, &user, SessionId::random()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(presence.now().await.is_err() && presence.generation().await.is_err());
    presence.set_available(true);
    assert_eq!(presence.online_counts(&room).await.unwrap(), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn its_clock_moves_when_told() {
    let presence = MemoryPresence::new();
    let before = presence.now().await.unwrap();
    presence.advance(Duration::from_secs(31));
    assert_eq!(presence.now().await.unwrap(), before.plus(Duration::from_secs(31)));
}

#[tokio::test]
async fn a_slice_that_does_not_exist_is_an_error_and_changes_nothing() {
    use roomcast_store::presence::{NodeRef, SLICES};
    use roomcast_types::{Incarnation, NodeId};
    let presence = MemoryPresence::new();
    let node = NodeRef { node_id: NodeId::new("n").unwrap(), incarnation: Incarnation::random() };
    let error = presence.set_slice_versions(&node, &[(0, 1), (SLICES, 1)]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Failed);
    assert_eq!(presence.slice_versions(&node).await.unwrap(), None);
}
