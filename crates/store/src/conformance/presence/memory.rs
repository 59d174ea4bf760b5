//! Rules of the memory as a whole: its clock and its loss.

#![allow(missing_docs, reason = "a rule's name is its contract")]

use roomcast_types::{SessionId, SessionPolicy};

use super::{Memory, at, card, node, room, session, user, wait_until};
use crate::presence::{CardEntry, Occupancy};

pub async fn the_clock_never_goes_backward(memory: &Memory) {
    let start = memory.presence.now().await.unwrap();
    let mut last = start;
    wait_until("the clock moved", async || {
        let now = memory.presence.now().await.unwrap();
        assert!(now >= last);
        last = now;
        now > start
    })
    .await;
}

pub async fn the_generation_changes_when_everything_was_lost(memory: &Memory) {
    let (presence, id, ann, node) = (&memory.presence, room("r"), user("ann"), node("n"));
    let generation = presence.generation().await.unwrap();
    presence.claim(&ann, &session("web", 1), SessionPolicy::Multi).await.unwrap();
    presence.put_card(&card("r", 3), 1).await.unwrap();
    presence.enter(&id, &ann, SessionId::random()).await.unwrap();
    presence.mark_absent(&id, &user("bob"), at(1), Some(at(2))).await.unwrap();
    presence.set_slice_versions(&node, &[(0, 1)]).await.unwrap();
    assert_eq!(presence.generation().await.unwrap(), generation);

    (memory.flush)().await;
    let after = presence.generation().await.unwrap();
    assert_ne!(after, generation);
    assert_eq!(presence.generation().await.unwrap(), after);
    assert_eq!(presence.sessions(&ann).await.unwrap(), []);
    assert_eq!(presence.card(&id).await.unwrap(), CardEntry::Unknown);
    assert_eq!(presence.occupancy(&id).await.unwrap(), Occupancy::default());
    assert_eq!(presence.due_absences(at(1_000), 10).await.unwrap(), []);
    assert_eq!(presence.slice_versions(&node).await.unwrap(), None);
}
