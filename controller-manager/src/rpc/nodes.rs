//! Methods on nodes: the list, the choice of one, and the sessions of one.

use std::{collections::BTreeMap, mem, sync::Arc};

use futures_util::FutureExt;
use roomcast_proto::pubsub::{
    ListNodesReply, ListNodesRequest, ListSessionsReply, ListSessionsRequest, NodeInfo,
    SelectConnectNodeReply, SelectConnectNodeRequest, SessionInfo,
};
use roomcast_registry::{Registration, State};
use roomcast_store::{
    Error as StoreError,
    presence::{IndexedSession, Load, NodeRef, SLICES},
};
use roomcast_types::{Code, Fault, NodeId, SessionId};

use super::fields;
use crate::{
    concurrent,
    controller::Controller,
    error::{fault, retry_after},
    loads::{Known, Reported},
    metrics::Missing,
    page::{self, List},
    select::{Candidate, pick},
};

/// A list of registrations older than this may be wrong: it is made anew every 5 s while the registry answers.
const STALE: std::time::Duration = std::time::Duration::from_secs(10);
/// First bytes of session ids whose slices are read at once for a page, to begin with.
const BYTES_AT_FIRST: usize = 4;
/// Nodes that a caller may exclude.
const EXCLUDED_MAX: usize = 1_000;

pub(super) async fn list(controller: Arc<Controller>, _: ListNodesRequest) -> Result<ListNodesReply, Fault> {
    let listing = controller.nodes.current();
    let lives: Vec<NodeRef> = listing.registrations.iter().filter_map(life).collect();
    let Known { loads, missing } = controller.loads.of(&controller, &lives).await;
    let nodes = listing.registrations.iter().map(|found| {
        let load = life(found).and_then(|life| loads.get(&life)).map(|reported| &reported.load);
        node_info(found, load)
    });
    let nodes = nodes.collect();
    let is_stale = listing.listed_at.is_none_or(|at| at.elapsed() > STALE);
    let missing = missing.into_iter().chain(is_stale.then_some(Missing::Registry));
    Ok(ListNodesReply { nodes, degraded: controller.does_without(missing) })
}

/// The life of a node that is registered.
fn life(registration: &Registration) -> Option<NodeRef> {
    let node_id = NodeId::new(registration.id.as_str()).ok()?;
    Some(NodeRef { node_id, incarnation: registration.incarnation })
}

fn node_info(registration: &Registration, load: Option<&Load>) -> NodeInfo {
    NodeInfo {
        node_id: registration.id.to_string(),
        grpc_address: registration.grpc_address.clone(),
        url: registration.url.clone(),
        incarnation: registration.incarnation.to_string(),
        state: registration.state.as_str().to_owned(),
        sessions: load.map_or(0, |load| load.sessions),
        sessions_max: load.map_or(0, |load| load.sessions_max),
        rooms: load.map_or(0, |load| load.rooms),
        reporting: load.is_some(),
    }
}

pub(super) async fn select(
    controller: Arc<Controller>,
    request: SelectConnectNodeRequest,
) -> Result<SelectConnectNodeReply, Fault> {
    let excluded = request.exclude_node_ids;
    if excluded.len() > EXCLUDED_MAX {
        let count = excluded.len();
        return Err(Fault::bad_request(format!(
            "exclude_node_ids has {count} entries; at most {EXCLUDED_MAX} are allowed"
        )));
    }
    let listing = controller.nodes.current();
    let ready: Vec<(&Registration, NodeRef)> = listing
        .registrations
        .iter()
        .filter(|found| found.state == State::Ready)
        .filter(|found| !excluded.iter().any(|id| id.as_str() == found.id.as_str()))
        .filter_map(|found| Some((found, life(found)?)))
        // A node that broke off, or was found dead, is on the list until its lease runs out.
        .filter(|(_, life)| !controller.suspects.is_doubtful(life))
        .collect();
    let lives: Vec<NodeRef> = ready.iter().map(|(_, life)| life.clone()).collect();
    let Known { loads, missing } = controller.loads.of(&controller, &lives).await;
    let candidates: Vec<Candidate<'_>> = ready
        .iter()
        .map(|(registration, life)| {
            let reported = loads.get(life);
            let free = reported.map(|Reported { load, .. }| load.sessions_max.saturating_sub(load.sessions));
            // Of a node that reports elsewhere nothing is known while presence does not answer.
            let is_sure = reported.map_or(missing.is_some(), |reported| reported.is_young);
            Candidate { registration, free, is_sure }
        })
        .collect();
    let why =
        if candidates.is_empty() { "no connect-node is ready" } else { "every ready connect-node is full" };
    let chosen = pick(&candidates, |total| rand::random_range(0..total))
        .ok_or_else(|| Fault { code: Code::Unavailable, ..Fault::unavailable(why, retry_after()) })?;
    Ok(SelectConnectNodeReply {
        node_id: chosen.id.to_string(),
        url: chosen.url.clone(),
        node_address: chosen.grpc_address.clone(),
        degraded: controller.does_without(missing),
    })
}

pub(super) async fn sessions(
    controller: Arc<Controller>,
    request: ListSessionsRequest,
) -> Result<ListSessionsReply, Fault> {
    let node_id = NodeId::new(&request.node_id)?;
    let size = page::size(request.page_size)?;
    let after = page::after(List::Sessions, &request.page_token)?
        .map(|hex| SessionId::from_hex(&hex).ok_or_else(|| Fault::bad_request("page_token names no session")))
        .transpose()?;
    let (mut found, missing) = match next_sessions(&controller, &node_id, after, size + 1).await {
        Ok(found) => (found, None),
        Err(error) if error.is_retryable() => {
            (held_sessions(&controller, &node_id, after, size + 1)?, Some(Missing::Presence))
        }
        Err(error) => return Err(fault(&error)),
    };
    if found.is_empty() && missing.is_none() && controller.registered(node_id.as_str()).is_none() {
        is_known(&controller, &node_id).await?;
    }
    let key = |session: &IndexedSession| session.entry.session_id.to_string();
    let next_page_token = page::cut(List::Sessions, &mut found, size, key);
    let sessions = found.iter().map(|session| session_info(&controller, session)).collect();
    Ok(ListSessionsReply { sessions, next_page_token, degraded: controller.does_without(missing) })
}

/// NOT_FOUND when presence knows no life of the node.
async fn is_known(controller: &Controller, node_id: &NodeId) -> Result<(), Fault> {
    match lives(controller, node_id).await {
        Ok(lives) if lives.is_empty() => {
            Err(Fault::new(Code::NotFound, format!("node {node_id} is not known")))
        }
        Ok(_) => Ok(()),
        Err(error) => Err(fault(&error)),
    }
}

/// Every life of a node that holds sessions.
async fn lives(controller: &Controller, node_id: &NodeId) -> Result<Vec<NodeRef>, StoreError> {
    let mut lives = controller.promptly(controller.presence.indexed_nodes()).await?;
    lives.retain(|node| node.node_id == *node_id);
    Ok(lives)
}

/// The next sessions in order of their ids. A slice holds every 64th first byte, so slices are read in that order, each
/// once and little further than needed; more of them at once each time, so that a long way takes few round trips.
async fn next_sessions(
    controller: &Controller,
    node_id: &NodeId,
    after: Option<SessionId>,
    limit: usize,
) -> Result<Vec<IndexedSession>, StoreError> {
    let lives = lives(controller, node_id).await?;
    let mut bytes = after.map_or(0, |after| after.as_bytes()[0])..=u8::MAX;
    let mut found = BTreeMap::new();
    let mut slices_read = [false; SLICES];
    let mut bytes_at_once = BYTES_AT_FIRST;
    loop {
        let next: Vec<u8> = bytes.by_ref().take(bytes_at_once).collect();
        bytes_at_once *= 2;
        let Some(last) = next.last() else { break };
        let mut reads = Vec::new();
        for slice in next.iter().map(|byte| usize::from(*byte) % SLICES) {
            if !mem::replace(&mut slices_read[slice], true) {
                let read = |node| controller.promptly(controller.presence.indexed(node, slice)).boxed();
                reads.extend(lives.iter().map(read));
            }
        }
        let indexed = concurrent::all(reads, SLICES).await?;
        let is_wanted = |id: SessionId| after.is_none_or(|after| id > after);
        let wanted = indexed.into_iter().flatten().filter(|session| is_wanted(session.entry.session_id));
        found.extend(wanted.map(|session| (session.entry.session_id, session)));
        // Slices hold higher ids, too, between which others lie that are not read yet.
        let known = found.keys().take_while(|id| id.as_bytes()[0] <= *last).take(limit).count();
        if known == limit {
            break;
        }
    }
    Ok(found.into_values().take(limit).collect())
}

/// The same without presence, as the node reported it here.
fn held_sessions(
    controller: &Controller,
    node_id: &NodeId,
    after: Option<SessionId>,
    limit: usize,
) -> Result<Vec<IndexedSession>, Fault> {
    let held = controller.streams.held_by(node_id.as_str()).ok_or_else(|| {
        let message =
            format!("the shared memory does not answer, and node {node_id} does not report to this controller; try again");
        Fault::unavailable(message, retry_after())
    })?;
    let held = held.lock();
    let mut ids: Vec<SessionId> =
        held.keys().copied().filter(|id| after.is_none_or(|after| *id > after)).collect();
    ids.sort_unstable();
    ids.truncate(limit);
    Ok(ids.iter().filter_map(|id| held.get(id).cloned()).collect())
}

fn session_info(controller: &Controller, session: &IndexedSession) -> SessionInfo {
    SessionInfo {
        user_name: session.user_name.clone(),
        room_ids: session.rooms.iter().map(ToString::to_string).collect(),
        ..fields::session_info(controller, &session.entry, &session.user_id)
    }
}
