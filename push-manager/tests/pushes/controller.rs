//! A controller that knows the rooms a test gives it.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use roomcast_proto::{
    pubsub::{
        self, GetRoomInfoRequest, GetUserNodeRequest, ListNodesReply, ListNodesRequest, ListRoomsReply,
        ListRoomsRequest, ListSessionsReply, ListSessionsRequest, NodeInfo, RoomCard, RoomInfo, RoomMember,
        RoomSummary, SessionInfo, UserNode,
        controller_service_server::{ControllerService, ControllerServiceServer},
    },
    status,
};
use roomcast_registry::{Expect, Registration, Registry, Role, State};
use roomcast_runtime::{bind, serve};
use roomcast_types::{Code, Fault, Incarnation, ServiceId};
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

#[derive(Default)]
struct Inner {
    rooms: Mutex<BTreeMap<String, RoomCard>>,
    /// Members of each room, and how many of them are online.
    members: Mutex<(u64, u64)>,
    is_presence_away: AtomicBool,
    questions: AtomicUsize,
    is_mute: watch::Sender<bool>,
}

/// One controller.
pub struct FakeController {
    inner: Arc<Inner>,
    pub address: SocketAddr,
    server: JoinHandle<()>,
}

impl FakeController {
    pub async fn start() -> Self {
        let inner = Arc::<Inner>::default();
        let bound = bind([127, 0, 0, 1].into(), 0, "fake controller", "none").await.unwrap();
        let address = bound.address;
        let service = ControllerServiceServer::new(Service(inner.clone()));
        let router = tonic::service::Routes::new(service).into_axum_router();
        let server = tokio::spawn(serve(bound, router, CancellationToken::new()));
        Self { inner, address, server }
    }

    pub async fn register(&self, id: &str, registry: &dyn Registry) {
        let lease = registry.grant(std::time::Duration::from_secs(3600)).await.unwrap();
        let registration = Registration {
            role: Role::ControllerManager,
            id: ServiceId::new(id).unwrap(),
            grpc_address: self.address.to_string(),
            url: String::new(),
            incarnation: Incarnation::random(),
            state: State::Ready,
        };
        registry.put(&registration, lease, Expect::Absent).await.unwrap();
    }

    pub fn add_room(&self, room_id: &str) {
        let card = card(room_id, 1, pubsub::room_card::State::Active);
        self.inner.rooms.lock().unwrap().insert(room_id.to_owned(), card);
    }

    pub fn remove_room(&self, room_id: &str) {
        self.inner.rooms.lock().unwrap().remove(room_id);
    }

    /// A room whose members keep their seats: so many, of whom so many are online.
    pub fn add_durable_room(&self, room_id: &str, members: u64, online: u64) {
        let membership = pubsub::room_card::Membership::Durable.into();
        let card = RoomCard { membership, ..card(room_id, 1, pubsub::room_card::State::Active) };
        self.inner.rooms.lock().unwrap().insert(room_id.to_owned(), card);
        *self.inner.members.lock().unwrap() = (members, online);
    }

    /// Shows everybody as offline, as it cannot know better.
    pub fn lose_presence(&self) {
        self.inner.is_presence_away.store(true, Ordering::SeqCst);
    }

    /// Takes questions and answers none.
    pub fn mute(&self) {
        self.inner.is_mute.send_replace(true);
    }

    /// Answers again, also what was asked meanwhile.
    pub fn unmute(&self) {
        self.inner.is_mute.send_replace(false);
    }

    /// How often it was asked for a room.
    pub fn questions(&self) -> usize {
        self.inner.questions.load(Ordering::SeqCst)
    }
}

impl Drop for FakeController {
    fn drop(&mut self) {
        self.server.abort();
    }
}

pub fn card(room_id: &str, version: u64, state: pubsub::room_card::State) -> RoomCard {
    RoomCard {
        room_id: room_id.to_owned(),
        version,
        state: state.into(),
        max_users: 100,
        ..RoomCard::default()
    }
}

struct Service(Arc<Inner>);

#[tonic::async_trait]
impl ControllerService for Service {
    async fn get_room_info(
        &self,
        request: Request<GetRoomInfoRequest>,
    ) -> Result<Response<RoomInfo>, Status> {
        self.0.questions.fetch_add(1, Ordering::SeqCst);
        let _ = self.0.is_mute.subscribe().wait_for(|is_mute| !is_mute).await;
        let request = request.into_inner();
        let card = self.0.rooms.lock().unwrap().get(&request.room_id).cloned();
        let Some(card) = card else {
            let message = format!("room {} was never created", request.room_id);
            return Err(status(&Fault::new(Code::NotFound, message)));
        };
        if card.state() == pubsub::room_card::State::Deleted {
            return Err(status(&Fault::new(Code::RoomDeleted, "it was deleted")));
        }
        let member = RoomMember { user_id: "ann".into(), sessions: 1, ..RoomMember::default() };
        let members = if request.card_only { Vec::new() } else { vec![member] };
        let (member_count, online_count) = *self.0.members.lock().unwrap();
        let is_away = self.0.is_presence_away.load(Ordering::SeqCst);
        let degraded = if is_away { vec!["PRESENCE_UNAVAILABLE".to_owned()] } else { Vec::new() };
        Ok(Response::new(RoomInfo {
            card: Some(card),
            member_count: member_count.max(1),
            online_count,
            members,
            degraded,
            ..RoomInfo::default()
        }))
    }

    async fn list_rooms(
        &self,
        request: Request<ListRoomsRequest>,
    ) -> Result<Response<ListRoomsReply>, Status> {
        let request = request.into_inner();
        let next_page_token = format!("after-{}-{}", request.page_token, request.page_size);
        let rooms = self.0.rooms.lock().unwrap();
        let rooms =
            rooms.values().map(|card| RoomSummary { card: Some(card.clone()), member_count: 2 }).collect();
        Ok(Response::new(ListRoomsReply { rooms, next_page_token }))
    }

    async fn get_user_node(
        &self,
        request: Request<GetUserNodeRequest>,
    ) -> Result<Response<UserNode>, Status> {
        let user_id = request.into_inner().user_id;
        Ok(Response::new(UserNode { user_id, ..UserNode::default() }))
    }

    async fn list_sessions(
        &self,
        request: Request<ListSessionsRequest>,
    ) -> Result<Response<ListSessionsReply>, Status> {
        let request = request.into_inner();
        let session = SessionInfo { node_id: request.node_id, stamp_ms: 7, ..SessionInfo::default() };
        Ok(Response::new(ListSessionsReply {
            sessions: vec![session],
            next_page_token: request.page_token,
            ..ListSessionsReply::default()
        }))
    }

    async fn list_nodes(&self, _: Request<ListNodesRequest>) -> Result<Response<ListNodesReply>, Status> {
        let node = NodeInfo { node_id: "node-1".into(), sessions: 3, ..NodeInfo::default() };
        Ok(Response::new(ListNodesReply { nodes: vec![node], ..ListNodesReply::default() }))
    }
}
