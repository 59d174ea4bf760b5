//! A controller that answers reports as the test says, over gRPC; and answers for the one without a wire.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt, stream};
use roomcast_proto::pubsub::{
    Applied, ChangeResult, ControllerHello, ControllerReply, CreateRoomRequest, DeleteRoomReply,
    DeleteRoomRequest, GetRoomInfoRequest, GetRoomStatsRequest, GetUserNodeRequest, JoinRoomReply,
    JoinRoomRequest, Joined, KickUserReply, KickUserRequest, LeaveRoomReply, LeaveRoomRequest,
    ListNodesReply, ListNodesRequest, ListRoomsReply, ListRoomsRequest, ListSessionsReply,
    ListSessionsRequest, NodeInfo, NodeReport, Refusal, RoomCard, RoomInfo, RoomStats,
    SelectConnectNodeReply, SelectConnectNodeRequest, SessionChange, SessionRecord, Slice, UpdateRoomRequest,
    UserNode, change_result,
    controller_service_server::{ControllerService, ControllerServiceServer},
    session_change::Change,
};
use tokio::{sync::watch, task::AbortHandle};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

/// Says yes to everything; a room has as many members as its name has bytes.
pub fn willing(change: &SessionChange) -> Option<ChangeResult> {
    let result = match change.change.as_ref()? {
        Change::Opened(_) => change_result::Result::SlotHeld(true),
        Change::Join(join) => change_result::Result::Joined(Joined {
            card: Some(RoomCard { room_id: join.room_id.clone(), version: 1, ..RoomCard::default() }),
            members: join.room_id.len() as u64,
            ..Joined::default()
        }),
        Change::Closed(_) | Change::Leave(_) => change_result::Result::Applied(Applied {}),
    };
    Some(ChangeResult { request: change.request, result: Some(result) })
}

pub fn refusal(change: &SessionChange, code: &str) -> ChangeResult {
    let error = Refusal { code: code.into(), message: "no".into(), retry_after_ms: 0 };
    ChangeResult { request: change.request, result: Some(change_result::Result::Error(error)) }
}

/// How long it says nothing at most.
const SIGN_OF_LIFE: Duration = Duration::from_millis(200);

type Answer = Box<dyn Fn(&SessionChange) -> Option<ChangeResult> + Send>;

/// What the controller saw and how it answers.
pub struct Script {
    pub answer: Mutex<Answer>,
    pub hellos: Mutex<Vec<u64>>,
    pub changes: Mutex<Vec<SessionChange>>,
    pub slices: Mutex<Vec<Slice>>,
    /// Asked for with the next reply.
    pub want: Mutex<Vec<u32>>,
    pub versions: Mutex<Vec<u64>>,
    pub largest_message: Mutex<usize>,
    pub store_time_ms: i64,
    /// True: as if the process were stopped, it takes nothing and says nothing.
    pub is_frozen: watch::Sender<bool>,
    /// It ends, and sends the node to another one.
    pub is_draining: AtomicBool,
}

/// A running controller; dropping it closes its port and its streams.
pub struct FakeController {
    pub script: Arc<Script>,
    pub address: String,
    serving: AbortHandle,
}

impl Drop for FakeController {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl FakeController {
    pub async fn start(answer: impl Fn(&SessionChange) -> Option<ChangeResult> + Send + 'static) -> Self {
        let script = Arc::new(Script {
            answer: Mutex::new(Box::new(answer)),
            hellos: Mutex::default(),
            changes: Mutex::default(),
            slices: Mutex::default(),
            want: Mutex::default(),
            versions: Mutex::default(),
            largest_message: Mutex::default(),
            store_time_ms: 1_000_000_000,
            is_frozen: watch::Sender::new(false),
            is_draining: AtomicBool::new(false),
        });
        let bound = roomcast_runtime::bind([127, 0, 0, 1].into(), 0, "test", "test").await.unwrap();
        let address = bound.address.to_string();
        let service = ControllerServiceServer::new(Service(script.clone()));
        let router = tonic::service::Routes::new(service).into_axum_router();
        let serving = roomcast_runtime::serve(bound, router, CancellationToken::new());
        Self { script, address, serving: tokio::spawn(serving).abort_handle() }
    }
}

impl Script {
    fn take(&self, report: NodeReport) -> ControllerReply {
        let mut reply = ControllerReply { store_time_ms: self.store_time_ms, ..ControllerReply::default() };
        reply.draining = self.is_draining.load(Ordering::Relaxed);
        if let Some(hello) = &report.hello {
            self.hellos.lock().unwrap().push(hello.incarnation);
            reply.hello = Some(ControllerHello { controller_id: "controller-1".into() });
        }
        let answer = self.answer.lock().unwrap();
        reply.results = report.changes.iter().filter_map(&**answer).collect();
        self.changes.lock().unwrap().extend(report.changes);
        let sessions = report.slices.iter().map(|slice| slice.sessions.len()).sum::<usize>();
        let mut largest = self.largest_message.lock().unwrap();
        *largest = sessions.max(*largest);
        self.slices.lock().unwrap().extend(report.slices);
        if !report.versions.is_empty() {
            *self.versions.lock().unwrap() = report.versions;
        }
        reply.want_slices = std::mem::take(&mut *self.want.lock().unwrap());
        reply
    }

    /// Records of all slices that were sent, the last of each session.
    pub fn records(&self) -> Vec<SessionRecord> {
        self.slices.lock().unwrap().iter().flat_map(|slice| slice.sessions.clone()).collect()
    }

    pub fn count(&self, is_meant: impl Fn(&Change) -> bool) -> usize {
        let changes = self.changes.lock().unwrap();
        changes.iter().filter(|change| change.change.as_ref().is_some_and(&is_meant)).count()
    }
}

struct Service(Arc<Script>);

fn not_asked<T>() -> Result<Response<T>, Status> {
    Err(Status::internal("no test asks this"))
}

#[tonic::async_trait]
impl ControllerService for Service {
    async fn report(
        &self,
        request: Request<Streaming<NodeReport>>,
    ) -> Result<Response<tonic::codegen::BoxStream<ControllerReply>>, Status> {
        let state = (request.into_inner(), self.0.clone());
        let replies = stream::unfold(state, |(mut reports, script)| async move {
            let report = tokio::time::timeout(SIGN_OF_LIFE, reports.message()).await;
            let _ = script.is_frozen.subscribe().wait_for(|is_frozen| !is_frozen).await;
            let reply = match report {
                Ok(report) => script.take(report.ok()??),
                Err(_) => script.take(NodeReport::default()),
            };
            Some((Ok(reply), (reports, script)))
        });
        Ok(Response::new(replies.boxed()))
    }

    async fn list_nodes(&self, _: Request<ListNodesRequest>) -> Result<Response<ListNodesReply>, Status> {
        let node = NodeInfo {
            node_id: "connect-node-1".into(),
            sessions: 7,
            reporting: true,
            ..NodeInfo::default()
        };
        Ok(Response::new(ListNodesReply { nodes: vec![node], ..ListNodesReply::default() }))
    }

    async fn get_room_stats(&self, _: Request<GetRoomStatsRequest>) -> Result<Response<RoomStats>, Status> {
        not_asked()
    }
    async fn get_room_info(&self, _: Request<GetRoomInfoRequest>) -> Result<Response<RoomInfo>, Status> {
        not_asked()
    }
    async fn list_rooms(&self, _: Request<ListRoomsRequest>) -> Result<Response<ListRoomsReply>, Status> {
        not_asked()
    }
    async fn create_room(&self, _: Request<CreateRoomRequest>) -> Result<Response<RoomCard>, Status> {
        not_asked()
    }
    async fn update_room(&self, _: Request<UpdateRoomRequest>) -> Result<Response<RoomCard>, Status> {
        not_asked()
    }
    async fn delete_room(&self, _: Request<DeleteRoomRequest>) -> Result<Response<DeleteRoomReply>, Status> {
        not_asked()
    }
    async fn join_room(&self, _: Request<JoinRoomRequest>) -> Result<Response<JoinRoomReply>, Status> {
        not_asked()
    }
    async fn leave_room(&self, _: Request<LeaveRoomRequest>) -> Result<Response<LeaveRoomReply>, Status> {
        not_asked()
    }
    async fn get_user_node(&self, _: Request<GetUserNodeRequest>) -> Result<Response<UserNode>, Status> {
        not_asked()
    }
    async fn list_sessions(
        &self,
        _: Request<ListSessionsRequest>,
    ) -> Result<Response<ListSessionsReply>, Status> {
        not_asked()
    }
    async fn select_connect_node(
        &self,
        _: Request<SelectConnectNodeRequest>,
    ) -> Result<Response<SelectConnectNodeReply>, Status> {
        not_asked()
    }
    async fn kick_user(&self, _: Request<KickUserRequest>) -> Result<Response<KickUserReply>, Status> {
        not_asked()
    }
}
