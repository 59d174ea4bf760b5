//! Takes everything a dead node held out of presence; the seats wait for their users.

use std::{collections::HashSet, sync::Arc, time::Duration};

use futures_util::FutureExt;
use roomcast_store::{
    Error as StoreError,
    presence::{NodeRef, SLICES},
};
use roomcast_types::RoomId;

use super::{
    probe::probe,
    verdict::{Cause, Probe},
};
use crate::{concurrent, controller::Controller, report::drop_session};

/// Who was on the node is on the way to another one, and goes first.
const HEAD_START: Duration = Duration::from_secs(2);
/// Sessions dropped at once: little enough that those who come back hardly notice.
const AT_ONCE: usize = 16;

/// Sweeps one life of a node. What fails half-way is found again by the next look: the index goes last.
pub(super) async fn sweep(controller: &Arc<Controller>, node: &NodeRef, cause: Cause) {
    controller.streams.end(node);
    tokio::time::sleep(HEAD_START).await;
    if !controller.suspects.is_dead(node) {
        // It reports again.
        return;
    }
    if matches!(cause, Cause::Silent) && answers(controller, node).await {
        // It was frozen, and reports to another controller.
        controller.suspects.reports(node);
        return;
    }
    match clean(controller, node).await {
        Ok(sessions) => {
            controller.metrics.sweeps.increment(1);
            controller.metrics.sessions_swept.increment(sessions);
            tracing::info!(node_id = %node.node_id, incarnation = %node.incarnation, cause = cause.as_str(), sessions,
                "a dead node was swept");
        }
        Err(error) => {
            tracing::warn!(node_id = %node.node_id, %error, "a dead node was not swept; trying again");
        }
    }
}

/// Whether this life of the node gives a sign of life after all.
async fn answers(controller: &Controller, node: &NodeRef) -> bool {
    match controller.suspects.address(node) {
        Some(address) => probe(controller, node, &address).await == Probe::Same,
        None => false,
    }
}

async fn clean(controller: &Controller, node: &NodeRef) -> Result<u64, StoreError> {
    let (mut sessions, mut rooms) = (0, HashSet::new());
    // Other controllers sweep it as well, and each begins elsewhere: what one has done the others find empty.
    let begin = rand::random_range(0..SLICES);
    for slice in (begin..SLICES).chain(0..begin) {
        let indexed = controller.presence.indexed(node, slice).await?;
        sessions += indexed.len() as u64;
        rooms.extend(indexed.iter().flat_map(|session| session.rooms.iter().cloned()));
        let drops = indexed.iter().map(|session| {
            let (user, id) = (&session.user_id, session.entry.session_id);
            drop_session(controller, node, user, id, &session.rooms).boxed()
        });
        concurrent::all(drops.collect(), AT_ONCE).await?;
    }
    controller.presence.forget_node(node).await?;
    audit_later(controller, rooms);
    Ok(sessions)
}

/// A seat that was given while the node died may have no presence at all.
fn audit_later(controller: &Controller, rooms: HashSet<RoomId>) {
    for room in rooms {
        controller.audits.push(room);
    }
}
