//! Tells nodes to close sessions or to take them out of a room.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures_util::FutureExt;
use roomcast_proto::pubsub::{KickRequest, kick_request::Reason};
use roomcast_runtime::Backoff;
use roomcast_store::presence::{NodeRef, SessionEntry};
use roomcast_types::{NodeId, RoomId, SessionId};
use tokio::time::timeout;

use crate::{concurrent, controller::Controller, sweep};

/// How long a node may take to answer one call.
const WAIT: Duration = Duration::from_secs(1);
/// Calls to one node before it counts as unreachable. What it then still holds, its next reports bring up again.
const ATTEMPTS: u32 = 3;
/// Nodes told at once.
const NODES_AT_ONCE: usize = 32;
/// Orders under way that nobody waits for. Further ones are not given: what a node then still holds, its next reports
/// bring up again.
pub(crate) const IN_BACKGROUND_MAX: usize = 1_024;

/// What is to happen to sessions.
#[derive(Debug, Clone)]
pub(crate) struct Order {
    reason: Reason,
    /// `None`: the whole session is closed.
    room: Option<RoomId>,
}

impl Order {
    /// Close: a later session took the slot.
    pub(crate) fn take_over() -> Self {
        Self { reason: Reason::TakenOver, room: None }
    }

    /// Leave the room: the seat was taken away.
    pub(crate) fn evict(room: RoomId) -> Self {
        Self { reason: Reason::Evicted, room: Some(room) }
    }

    /// By request: leave the room, or close when none is given.
    pub(crate) fn kick(room: Option<RoomId>) -> Self {
        Self { reason: Reason::Kicked, room }
    }
}

/// What an order came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Kicked {
    /// Sessions that the nodes found.
    pub(crate) sessions: u32,
    /// Nodes that did not answer.
    pub(crate) unreachable: Vec<NodeId>,
}

/// Tells the nodes of these sessions, and waits for their answers.
pub(crate) async fn now(controller: &Controller, order: &Order, sessions: Vec<SessionEntry>) -> Kicked {
    let mut nodes: HashMap<NodeRef, Vec<SessionId>> = HashMap::new();
    for entry in sessions {
        nodes.entry(entry.node).or_default().push(entry.session_id);
    }
    let orders = nodes.into_iter().map(|(node, sessions)| {
        async move { (tell(controller, order, &node, &sessions).await, node.node_id) }.boxed()
    });
    let mut kicked = Kicked::default();
    for (answer, node) in concurrent::every(orders.collect(), NODES_AT_ONCE).await {
        match answer {
            Some(found) => kicked.sessions += found,
            None => kicked.unreachable.push(node),
        }
    }
    kicked.unreachable.sort();
    kicked
}

/// As [`now`], without anybody waiting.
pub(crate) fn in_background(controller: &Arc<Controller>, order: Order, sessions: Vec<SessionEntry>) {
    if sessions.is_empty() {
        return;
    }
    let Ok(permit) = controller.orders.clone().try_acquire_owned() else {
        controller.metrics.kicks_failed.increment(1);
        return;
    };
    let owner = controller.clone();
    controller.tasks.spawn(async move {
        let _permit = permit;
        let kicked = now(&owner, &order, sessions).await;
        for node in kicked.unreachable {
            tracing::warn!(node_id = %node, "a node did not take the order to let sessions go");
        }
    });
}

/// How many of the sessions the node found, 0 when it is dead; `None` when it did not answer.
async fn tell(controller: &Controller, order: &Order, node: &NodeRef, sessions: &[SessionId]) -> Option<u32> {
    let request = KickRequest {
        session_ids: sessions.iter().map(|session| session.as_bytes().to_vec()).collect(),
        user_id: String::new(),
        room_id: order.room.as_ref().map(ToString::to_string).unwrap_or_default(),
        reason: order.reason.into(),
    };
    controller.metrics.kicks.increment(sessions.len() as u64);
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
    for attempt in 1..=ATTEMPTS {
        if controller.suspects.is_dead(node) {
            return Some(0);
        }
        // Looked up each time: it may have come back under another address.
        if let Some(registration) = controller.registered(node.node_id.as_str()) {
            if registration.incarnation != node.incarnation {
                // That life of the node is over, and its sessions with it.
                return Some(0);
            }
            if let Some(mut client) = controller.peers.node(&registration.grpc_address) {
                match timeout(WAIT, client.kick(request.clone())).await {
                    Ok(Ok(reply)) => return Some(reply.into_inner().sessions),
                    Ok(Err(status)) => {
                        tracing::debug!(node_id = %node.node_id, %status, "a kick failed");
                        if sweep::refuses(&registration.grpc_address).await {
                            // Dead, and perhaps nobody has noticed: where its reports went may have died with it.
                            controller.suspects.look_at(node.clone());
                            return Some(0);
                        }
                    }
                    Err(_) => tracing::debug!(node_id = %node.node_id, "a kick was not answered"),
                }
            }
        }
        if attempt < ATTEMPTS {
            tokio::time::sleep(backoff.next_wait()).await;
        }
    }
    controller.metrics.kicks_failed.increment(1);
    None
}
