//! `pubsub.ConnectNodeService`: lanes for push-managers, kicks for controllers, drains for operators, stats for everybody.

use std::sync::Arc;

use roomcast_proto::{
    add_reflection,
    pubsub::{
        DrainReply, DrainRequest, GetLedgerReply, GetLedgerRequest, GetNodeStatsRequest, InspectReply,
        InspectRequest, KickReply, KickRequest, LaneDown, NodeStats,
        connect_node_service_server::{ConnectNodeService, ConnectNodeServiceServer, SERVICE_NAME},
        kick_request::Reason,
    },
    status,
};
use roomcast_types::{Code, Fault, RoomId, SessionId, UserId};
use tonic::{Request, Response, Status, Streaming};

use crate::{
    drain::Drained,
    hub::{Core, eviction::Whom, inspect},
    lane::stream::{self, Up},
};

/// Largest message of a lane: a batch of pushes of a push-manager with its bound, and room for ids.
const LANE_MESSAGE_BYTES_MAX: usize = 64 << 20;
/// Sessions that one kick may name.
const KICK_SESSIONS_MAX: usize = 10_000;

struct Service(Arc<Core>);

#[tonic::async_trait]
impl ConnectNodeService for Service {
    async fn lane(&self, request: Request<Streaming<LaneDown>>) -> Result<Response<Up>, Status> {
        stream::open(self.0.clone(), request.into_inner()).await.map(Response::new)
    }

    async fn get_node_stats(&self, _: Request<GetNodeStatsRequest>) -> Result<Response<NodeStats>, Status> {
        Ok(Response::new(stats(&self.0)))
    }

    async fn kick(&self, request: Request<KickRequest>) -> Result<Response<KickReply>, Status> {
        let request = request.into_inner();
        let whom = whom(&request).map_err(|fault| status(&fault))?;
        let reason = Reason::try_from(request.reason)
            .map_err(|_| status(&Fault::bad_request(format!("reason {} is unknown", request.reason))))?;
        let sessions = if request.room_id.is_empty() {
            if reason == Reason::Evicted {
                return Err(status(&Fault::bad_request("room_id is empty; reason EVICTED needs it")));
            }
            self.0.close_sessions(&whom, reason).await
        } else {
            let room = RoomId::new(&request.room_id).map_err(|error| status(&error.into()))?;
            self.0.remove_sessions(&whom, &room, reason).await
        };
        Ok(Response::new(KickReply { sessions }))
    }

    async fn inspect(&self, request: Request<InspectRequest>) -> Result<Response<InspectReply>, Status> {
        let question = inspect::question(request.get_ref()).map_err(|fault| status(&fault))?;
        Ok(Response::new(self.0.inspect(question).await))
    }

    async fn drain(&self, request: Request<DrainRequest>) -> Result<Response<DrainReply>, Status> {
        let (asked, own) = (request.into_inner().incarnation, self.0.identity.incarnation.to_string());
        if !asked.is_empty() && asked != own {
            let message = format!("incarnation {asked} is another life of this node; it is {own}");
            return Err(status(&Fault::new(Code::NotFound, message)));
        }
        if !self.0.drain_asked.is_cancelled() {
            tracing::info!(node_id = %self.0.identity.node_id, "asked to drain");
            self.0.drain_asked.cancel();
        }
        Ok(Response::new(progress(&self.0)))
    }

    async fn get_ledger(
        &self,
        request: Request<GetLedgerRequest>,
    ) -> Result<Response<GetLedgerReply>, Status> {
        let GetLedgerRequest { since_ms, manager_incarnation } = request.into_inner();
        // The ledger first, then the lanes: see where they are written.
        let (entries, complete_since_ms) = self.0.ledger.entries(since_ms, manager_incarnation);
        Ok(Response::new(GetLedgerReply {
            node_id: self.0.identity.node_id.to_string(),
            incarnation: self.0.identity.incarnation.as_u64(),
            entries,
            settled_incarnations: self.0.managers_in_step(),
            complete_since_ms,
        }))
    }
}

/// How far a drain has come.
fn progress(hub: &Core) -> DrainReply {
    let Drained { moved, closed, lost, .. } = hub.departures.sum();
    DrainReply {
        node_id: hub.identity.node_id.to_string(),
        incarnation: hub.identity.incarnation.to_string(),
        sessions: hub.totals().sessions as u64,
        told: hub.departures.told_until_now() as u64,
        moved: moved as u64,
        closed: closed as u64,
        lost: lost as u64,
        limit_ms: hub.settings.drain_limit.as_millis() as u64,
    }
}

fn whom(request: &KickRequest) -> Result<Whom, Fault> {
    if request.session_ids.is_empty() {
        return Ok(Whom::User(UserId::new(&request.user_id)?));
    }
    if request.session_ids.len() > KICK_SESSIONS_MAX {
        let given = request.session_ids.len();
        return Err(Fault::bad_request(format!(
            "session_ids has {given} entries; at most {KICK_SESSIONS_MAX} are allowed"
        )));
    }
    let ids = request.session_ids.iter().map(|bytes| {
        SessionId::from_bytes(bytes).ok_or_else(|| {
            Fault::bad_request(format!("session_ids has an entry of {} bytes; it takes 16", bytes.len()))
        })
    });
    ids.collect::<Result<_, _>>().map(Whom::Sessions)
}

/// What this node holds now.
pub fn stats(hub: &Core) -> NodeStats {
    let totals = hub.totals();
    NodeStats {
        node_id: hub.identity.node_id.to_string(),
        node_address: hub.identity.grpc_address.clone(),
        url: hub.identity.url.clone(),
        incarnation: hub.identity.incarnation.to_string(),
        state: hub.life().as_str().to_owned(),
        connections: totals.sessions as u64,
        connections_max: hub.settings.sessions_max as u64,
        users: totals.users as u64,
        rooms: totals.rooms as u64,
        uptime_seconds: hub.identity.started_at.elapsed().as_secs(),
        lanes: totals.lanes as u64,
    }
}

/// The gRPC service of the node, with reflection.
pub fn router(hub: Arc<Core>) -> axum::Router {
    let service = ConnectNodeServiceServer::new(Service(hub))
        .max_decoding_message_size(LANE_MESSAGE_BYTES_MAX)
        .max_encoding_message_size(LANE_MESSAGE_BYTES_MAX);
    add_reflection(tonic::service::Routes::new(service), SERVICE_NAME).into_axum_router()
}
