//! Methods on nodes: the list, the choice of one, and the sessions of one.

use std::sync::Arc;

use roomcast_proto::pubsub::{
    ListNodesReply, ListNodesRequest, ListSessionsReply, ListSessionsRequest, NodeInfo,
    SelectConnectNodeReply, SelectConnectNodeRequest, SessionInfo,
};
use roomcast_registry::{Registration, State};
use roomcast_store::presence::{IndexedSession, NodeRef};
use roomcast_types::{Code, Fault, NodeId, SessionId};

use super::fields;
use crate::{
    controller::Controller,
    error::{RETRY_AFTER, fault},
    page::{self, List},
    select::{Candidate, pick},
};

/// A node that reported less recently than this is shown as not reporting.
const REPORTING: std::time::Duration = std::time::Duration::from_secs(10);
/// Nodes that a caller may exclude.
const EXCLUDED_MAX: usize = 1_000;

pub(super) async fn list(controller: Arc<Controller>, _: ListNodesRequest) -> Result<ListNodesReply, Fault> {
    let listing = controller.nodes.current();
    let nodes = listing.registrations.iter().map(|found| node_info(&controller, found)).collect();
    Ok(ListNodesReply { nodes })
}

fn node_info(controller: &Controller, registration: &Registration) -> NodeInfo {
    let reported = controller.streams.load(registration.id.as_str());
    let load = reported.and_then(|(load, _)| load);
    NodeInfo {
        node_id: registration.id.to_string(),
        grpc_address: registration.grpc_address.clone(),
        url: registration.url.clone(),
        incarnation: registration.incarnation.to_string(),
        state: registration.state.as_str().to_owned(),
        sessions: load.map_or(0, |load| load.sessions),
        sessions_max: load.map_or(0, |load| load.sessions_max),
        rooms: load.map_or(0, |load| load.rooms),
        reporting: reported.is_some_and(|(_, silence)| silence <= REPORTING),
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
    let ready = listing.registrations.iter().filter(|found| {
        let is_excluded = excluded.iter().any(|id| id.as_str() == found.id.as_str());
        found.state == State::Ready && !is_excluded && !is_doubtful(&controller, found)
    });
    let candidates: Vec<Candidate<'_>> = ready
        .map(|registration| {
            let load = controller.streams.load(registration.id.as_str()).and_then(|(load, _)| load);
            let max =
                load.map_or(controller.config.connect_node.sessions_max as u64, |load| load.sessions_max);
            let free = max.saturating_sub(load.map_or(0, |load| load.sessions));
            Candidate { registration, free }
        })
        .collect();
    let why =
        if candidates.is_empty() { "no connect-node is ready" } else { "every ready connect-node is full" };
    let chosen = pick(&candidates, |total| rand::random_range(0..total))
        .ok_or_else(|| Fault { code: Code::Unavailable, ..Fault::unavailable(why, RETRY_AFTER) })?;
    Ok(SelectConnectNodeReply {
        node_id: chosen.id.to_string(),
        url: chosen.url.clone(),
        node_address: chosen.grpc_address.clone(),
    })
}

/// A node that broke off, or was found dead, is on the list until its lease runs out.
fn is_doubtful(controller: &Controller, registration: &Registration) -> bool {
    NodeId::new(registration.id.as_str()).is_ok_and(|node_id| {
        controller.suspects.is_doubtful(&NodeRef { node_id, incarnation: registration.incarnation })
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
    let lives = lives(&controller, &node_id).await?;
    let mut found = next_sessions(&controller, &lives, after, size + 1).await?;
    let key = |session: &IndexedSession| session.entry.session_id.to_string();
    let next_page_token = page::cut(List::Sessions, &mut found, size, key);
    let sessions = found.iter().map(|session| session_info(&controller, session)).collect();
    Ok(ListSessionsReply { sessions, next_page_token })
}

/// Every life of a node that holds sessions; NOT_FOUND when neither presence nor the registry knows the node.
async fn lives(controller: &Controller, node_id: &NodeId) -> Result<Vec<NodeRef>, Fault> {
    let mut lives = controller.presence.indexed_nodes().await.map_err(|error| fault(&error))?;
    lives.retain(|node| node.node_id == *node_id);
    if lives.is_empty() && controller.registered(node_id.as_str()).is_none() {
        return Err(Fault::new(Code::NotFound, format!("node {node_id} is not known")));
    }
    Ok(lives)
}

/// The next sessions in order of their ids. A slice holds every 64th first byte, so slices are read in that order
/// and no further than needed.
async fn next_sessions(
    controller: &Controller,
    lives: &[NodeRef],
    after: Option<SessionId>,
    limit: usize,
) -> Result<Vec<IndexedSession>, Fault> {
    let first = after.map_or(0, |after| after.as_bytes()[0]);
    let mut found: Vec<IndexedSession> = Vec::new();
    for byte in first..=u8::MAX {
        let start = found.len();
        for node in lives {
            let slice = usize::from(byte) % roomcast_store::presence::SLICES;
            let indexed = controller.presence.indexed(node, slice).await.map_err(|error| fault(&error))?;
            found.extend(indexed.into_iter().filter(|session| {
                let id = session.entry.session_id;
                id.as_bytes()[0] == byte && after.is_none_or(|after| id > after)
            }));
        }
        found[start..].sort_unstable_by_key(|session| session.entry.session_id);
        if found.len() >= limit {
            found.truncate(limit);
            break;
        }
    }
    Ok(found)
}

fn session_info(controller: &Controller, session: &IndexedSession) -> SessionInfo {
    SessionInfo {
        user_name: session.user_name.clone(),
        room_ids: session.rooms.iter().map(ToString::to_string).collect(),
        ..fields::session_info(controller, &session.entry, &session.user_id)
    }
}
