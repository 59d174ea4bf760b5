//! ControllerService on the wire: each method bounded in time, counted and traced; the work is in the modules below.

mod fields;
mod nodes;
mod rooms;
mod users;

use std::{sync::Arc, time::Duration};

use opentelemetry::trace::SpanKind;
use roomcast_proto::{
    pubsub::{controller_service_server::ControllerService, *},
    status,
};
use roomcast_types::Fault;
use tokio::time::{Instant, timeout};
use tonic::{Request, Response, Status, Streaming, codegen::BoxStream};

use crate::{controller::Controller, error::retry_after, report};

/// How long a call may take; a caller that waits longer has given up.
const WAIT: Duration = Duration::from_secs(5);
/// Largest message taken: one slice of a full node with every session in a hundred rooms.
pub(crate) const MESSAGE_BYTES_MAX: usize = 16 << 20;
/// Metadata key of the caller's trace context.
const TRACEPARENT: &str = "traceparent";

/// The service.
#[derive(Clone)]
pub(crate) struct Rpc(pub(crate) Arc<Controller>);

impl Rpc {
    async fn answer<Q, A, F>(
        &self,
        method: &'static str,
        request: Request<Q>,
        work: impl FnOnce(Arc<Controller>, Q) -> F,
    ) -> Result<Response<A>, Status>
    where
        F: Future<Output = Result<A, Fault>>,
    {
        let started = Instant::now();
        let parent = request.metadata().get(TRACEPARENT).and_then(|value| value.to_str().ok());
        // Only what somebody else traces: lookups on their own would drown the pushes.
        let mut span = parent
            .map(|parent| self.0.telemetry.tracing().start(method, SpanKind::Server, parent))
            .unwrap_or_default();
        let request = request.into_inner();
        let work = async {
            let _call = self.0.calls.begin()?;
            work(self.0.clone(), request).await
        };
        let answer = timeout(WAIT, work)
            .await
            .unwrap_or_else(|_| Err(Fault::unavailable(format!("no answer within {WAIT:?}"), retry_after())));
        self.0.metrics.rpc(method, started.elapsed().as_secs_f64());
        answer.map(Response::new).map_err(|fault| {
            span.fail(fault.code.as_str());
            status(&fault)
        })
    }
}

#[tonic::async_trait]
impl ControllerService for Rpc {
    async fn get_room_stats(
        &self,
        request: Request<GetRoomStatsRequest>,
    ) -> Result<Response<RoomStats>, Status> {
        self.answer("GetRoomStats", request, rooms::stats).await
    }

    async fn get_room_info(
        &self,
        request: Request<GetRoomInfoRequest>,
    ) -> Result<Response<RoomInfo>, Status> {
        self.answer("GetRoomInfo", request, rooms::info).await
    }

    async fn list_rooms(
        &self,
        request: Request<ListRoomsRequest>,
    ) -> Result<Response<ListRoomsReply>, Status> {
        self.answer("ListRooms", request, rooms::list).await
    }

    async fn create_room(&self, request: Request<CreateRoomRequest>) -> Result<Response<RoomCard>, Status> {
        self.answer("CreateRoom", request, rooms::create).await
    }

    async fn update_room(&self, request: Request<UpdateRoomRequest>) -> Result<Response<RoomCard>, Status> {
        self.answer("UpdateRoom", request, rooms::update).await
    }

    async fn delete_room(
        &self,
        request: Request<DeleteRoomRequest>,
    ) -> Result<Response<DeleteRoomReply>, Status> {
        self.answer("DeleteRoom", request, rooms::delete).await
    }

    async fn join_room(&self, request: Request<JoinRoomRequest>) -> Result<Response<JoinRoomReply>, Status> {
        self.answer("JoinRoom", request, users::join).await
    }

    async fn leave_room(
        &self,
        request: Request<LeaveRoomRequest>,
    ) -> Result<Response<LeaveRoomReply>, Status> {
        self.answer("LeaveRoom", request, users::leave).await
    }

    async fn get_user_node(
        &self,
        request: Request<GetUserNodeRequest>,
    ) -> Result<Response<UserNode>, Status> {
        self.answer("GetUserNode", request, users::node).await
    }

    async fn list_sessions(
        &self,
        request: Request<ListSessionsRequest>,
    ) -> Result<Response<ListSessionsReply>, Status> {
        self.answer("ListSessions", request, nodes::sessions).await
    }

    async fn list_nodes(
        &self,
        request: Request<ListNodesRequest>,
    ) -> Result<Response<ListNodesReply>, Status> {
        self.answer("ListNodes", request, nodes::list).await
    }

    async fn select_connect_node(
        &self,
        request: Request<SelectConnectNodeRequest>,
    ) -> Result<Response<SelectConnectNodeReply>, Status> {
        self.answer("SelectConnectNode", request, nodes::select).await
    }

    async fn kick_user(&self, request: Request<KickUserRequest>) -> Result<Response<KickUserReply>, Status> {
        self.answer("KickUser", request, users::kick).await
    }

    async fn report(
        &self,
        request: Request<Streaming<NodeReport>>,
    ) -> Result<Response<BoxStream<ControllerReply>>, Status> {
        Ok(Response::new(Box::pin(report::open(&self.0, request.into_inner()))))
    }
}
