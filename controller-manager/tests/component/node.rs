//! A connect-node played by a test: reports over a real stream, answers Kick and GetNodeStats, sends slices when asked.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use roomcast_proto::pubsub::{
    self, ChangeResult, ControllerReply, GetNodeStatsRequest, Joined, KickReply, KickRequest, NodeHello,
    NodeLoad, NodeReport, NodeStats, Refusal, RoomChange, SessionChange, SessionRecord, Slice,
    change_result::Result as Answer,
    connect_node_service_server::{ConnectNodeService, ConnectNodeServiceServer},
    session_change::Change,
};
use roomcast_registry::{Member, Registration, Role, State};
use roomcast_types::{Incarnation, ServiceId, SessionId};
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
    task::JoinSet,
};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

use super::world::{PATIENCE, World};

/// How often the node sends its versions; a real one does every 2 s.
const VERSIONS_EVERY: Duration = Duration::from_millis(100);

pub struct FakeNode {
    pub id: String,
    pub incarnation: Incarnation,
    pub address: String,
    shared: Arc<Shared>,
    reports: mpsc::Sender<NodeReport>,
    member: Option<Member>,
    /// Ends the server when dropped.
    server: JoinSet<()>,
    stream: JoinSet<()>,
}

#[derive(Default)]
struct Shared {
    kicks: Mutex<Vec<KickRequest>>,
    truth: Mutex<Truth>,
    waiting: Mutex<HashMap<u64, oneshot::Sender<ChangeResult>>>,
    asked: Mutex<Vec<u32>>,
    store_time_ms: Mutex<i64>,
    replies: Mutex<usize>,
}

struct Truth {
    sessions: HashMap<SessionId, SessionRecord>,
    versions: [u64; 64],
    next_request: u64,
}

impl Default for Truth {
    fn default() -> Self {
        Self { sessions: HashMap::new(), versions: [0; 64], next_request: 1 }
    }
}

impl Truth {
    fn enter(&mut self, session: SessionId, room: &str) {
        let rooms = &mut self.sessions.get_mut(&session).unwrap().room_ids;
        if !rooms.iter().any(|known| known == room) {
            rooms.push(room.to_owned());
        }
    }
}

impl FakeNode {
    /// Serves, registers as ready and reports to a controller.
    pub async fn start(world: &World, controller: usize, id: &str) -> Self {
        let incarnation = Incarnation::random();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let shared = Arc::new(Shared::default());
        let service = ConnectNodeServiceServer::new(Service { shared: shared.clone(), incarnation });
        let mut server = JoinSet::new();
        server.spawn(async move {
            let serving = tonic::transport::Server::builder().add_service(service);
            serving.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap();
        });
        let registration = Registration {
            role: Role::ConnectNode,
            id: ServiceId::new(id).unwrap(),
            grpc_address: address.clone(),
            url: format!("ws://{id}/ws"),
            incarnation,
            state: State::Ready,
        };
        let member =
            Member::join(world.registry.clone(), registration, Duration::from_secs(5)).await.unwrap();
        let (reports, _) = mpsc::channel(1);
        let mut node = Self {
            id: id.to_owned(),
            incarnation,
            address,
            shared,
            reports,
            member: Some(member),
            server,
            stream: JoinSet::new(),
        };
        node.report_to(world, controller).await;
        node
    }

    /// Opens a stream to a controller, in place of the one before.
    pub async fn report_to(&mut self, world: &World, controller: usize) {
        self.stream.abort_all();
        let (reports, stream) = mpsc::channel(64);
        let hello = NodeHello { node_id: self.id.clone(), incarnation: self.incarnation.as_u64() };
        reports.send(NodeReport { hello: Some(hello), ..Default::default() }).await.unwrap();
        let mut client = world.client_of(controller).await;
        let replies = client.report(ReceiverStream::new(stream)).await.unwrap().into_inner();
        self.stream.spawn(read(self.shared.clone(), replies, reports.clone()));
        self.stream.spawn(beat(self.shared.clone(), reports.clone()));
        self.reports = reports;
    }

    /// As if the process was killed: the port closes, the stream breaks, the lease runs on.
    pub async fn kill(&mut self) {
        self.fall_silent().await;
        self.server.shutdown().await;
    }

    /// Its stream ends; it still answers, and says nothing of itself.
    pub async fn fall_silent(&mut self) {
        self.stream.shutdown().await;
        self.reports = mpsc::channel(1).0;
    }

    /// Takes back the registration.
    pub async fn unregister(&mut self) {
        if let Some(member) = self.member.take() {
            member.leave().await;
        }
    }

    /// Tells how far members have read.
    pub async fn read(&self, reads: Vec<pubsub::ReadMark>) {
        self.reports.send(NodeReport { reads, ..Default::default() }).await.unwrap();
    }

    /// A socket opens; its session and whether it holds the slot.
    pub async fn open(&self, user: &str, client: &str, stamp_ms: i64) -> (SessionId, bool) {
        let session = SessionId::random();
        let held = self.open_as(session, user, client, stamp_ms).await;
        (session, held)
    }

    pub async fn open_as(&self, session: SessionId, user: &str, client: &str, stamp_ms: i64) -> bool {
        let record = SessionRecord {
            session_id: session.as_bytes().to_vec(),
            user_id: user.to_owned(),
            client_id: client.to_owned(),
            user_name: String::new(),
            stamp_ms,
            room_ids: Vec::new(),
        };
        self.shared.truth.lock().unwrap().sessions.insert(session, record.clone());
        match self.change(session, Change::Opened(record)).await {
            Answer::SlotHeld(held) => held,
            other => panic!("{other:?}"),
        }
    }

    pub async fn close(&self, session: SessionId) {
        let record = self.shared.truth.lock().unwrap().sessions.remove(&session).unwrap();
        self.closed(record).await;
    }

    /// Reports a session as closed, whatever the node holds.
    pub async fn closed(&self, record: SessionRecord) {
        let session = SessionId::from_bytes(&record.session_id).unwrap();
        let answer = self.change(session, Change::Closed(record)).await;
        assert!(matches!(answer, Answer::Applied(_)), "{answer:?}");
    }

    /// Forgets a session without a word, as if the change had been lost.
    pub fn lose(&self, session: SessionId) -> SessionRecord {
        let mut truth = self.shared.truth.lock().unwrap();
        truth.versions[session.slice()] += 1;
        truth.sessions.remove(&session).unwrap()
    }

    pub async fn join(&self, session: SessionId, room: &str) -> Result<Joined, Refusal> {
        let change = self.room_change(session, room);
        match self.change(session, Change::Join(change)).await {
            Answer::Joined(joined) => {
                self.shared.truth.lock().unwrap().enter(session, room);
                Ok(joined)
            }
            Answer::Error(error) => Err(error),
            other => panic!("{other:?}"),
        }
    }

    pub async fn leave(&self, session: SessionId, room: &str) {
        let change = self.room_change(session, room);
        {
            let mut truth = self.shared.truth.lock().unwrap();
            truth.sessions.get_mut(&session).unwrap().room_ids.retain(|known| known != room);
        }
        let answer = self.change(session, Change::Leave(change)).await;
        assert!(matches!(answer, Answer::Applied(_)), "{answer:?}");
    }

    /// Sends joins of many sessions in one message and waits for all answers.
    pub async fn join_all(&self, joins: &[(SessionId, String)]) -> Vec<ChangeResult> {
        let changes: Vec<(SessionId, Change)> = joins
            .iter()
            .map(|(session, room)| (*session, Change::Join(self.room_change(*session, room))))
            .collect();
        let results = self.changes(changes).await;
        let mut truth = self.shared.truth.lock().unwrap();
        for ((session, room), result) in joins.iter().zip(&results) {
            if let Some(Answer::Joined(_)) = result.result {
                truth.enter(*session, room);
            }
        }
        drop(truth);
        results
    }

    /// Opens many sessions in one message.
    pub async fn open_all(&self, users: impl Iterator<Item = String>) -> Vec<SessionId> {
        let mut sessions = Vec::new();
        let mut changes = Vec::new();
        for user_id in users {
            let session = SessionId::random();
            let record = SessionRecord {
                session_id: session.as_bytes().to_vec(),
                user_id,
                client_id: "c".to_owned(),
                user_name: String::new(),
                stamp_ms: 1,
                room_ids: Vec::new(),
            };
            self.shared.truth.lock().unwrap().sessions.insert(session, record.clone());
            sessions.push(session);
            changes.push((session, Change::Opened(record)));
        }
        self.changes(changes).await;
        sessions
    }

    async fn changes(&self, changes: Vec<(SessionId, Change)>) -> Vec<ChangeResult> {
        let (mut sent, mut answers) = (Vec::new(), Vec::new());
        for (session, change) in changes {
            let (answer, change) = self.number(session, change);
            answers.push(answer);
            sent.push(change);
        }
        self.reports.send(NodeReport { changes: sent, ..Default::default() }).await.unwrap();
        let mut results = Vec::new();
        for answer in answers {
            results.push(tokio::time::timeout(PATIENCE, answer).await.expect("an answer in time").unwrap());
        }
        results
    }

    fn number(&self, session: SessionId, change: Change) -> (oneshot::Receiver<ChangeResult>, SessionChange) {
        let (answer, waiting) = oneshot::channel();
        let mut truth = self.shared.truth.lock().unwrap();
        let request = truth.next_request;
        truth.next_request += 1;
        truth.versions[session.slice()] += 1;
        let slice_version = truth.versions[session.slice()];
        self.shared.waiting.lock().unwrap().insert(request, answer);
        let slice = session.slice() as u32;
        (waiting, SessionChange { request, slice, slice_version, change: Some(change) })
    }

    async fn change(&self, session: SessionId, change: Change) -> Answer {
        self.changes(vec![(session, change)]).await.remove(0).result.unwrap()
    }

    fn room_change(&self, session: SessionId, room: &str) -> RoomChange {
        let truth = self.shared.truth.lock().unwrap();
        let record = &truth.sessions[&session];
        RoomChange {
            session_id: record.session_id.clone(),
            user_id: record.user_id.clone(),
            user_name: record.user_name.clone(),
            room_id: room.to_owned(),
        }
    }

    pub fn kicks(&self) -> Vec<KickRequest> {
        self.shared.kicks.lock().unwrap().clone()
    }

    /// Slices the controller asked for so far.
    pub fn asked(&self) -> Vec<u32> {
        self.shared.asked.lock().unwrap().clone()
    }

    /// Replies so far.
    pub fn replies(&self) -> usize {
        *self.shared.replies.lock().unwrap()
    }

    /// The store's clock as of the last reply.
    pub fn store_time_ms(&self) -> i64 {
        *self.shared.store_time_ms.lock().unwrap()
    }
}

/// Takes in replies; sends slices when asked.
async fn read(
    shared: Arc<Shared>,
    mut replies: Streaming<ControllerReply>,
    reports: mpsc::Sender<NodeReport>,
) {
    while let Ok(Some(reply)) = replies.message().await {
        *shared.store_time_ms.lock().unwrap() = reply.store_time_ms;
        *shared.replies.lock().unwrap() += 1;
        for result in reply.results {
            if let Some(answer) = shared.waiting.lock().unwrap().remove(&result.request) {
                let _ = answer.send(result);
            }
        }
        if reply.want_slices.is_empty() {
            continue;
        }
        shared.asked.lock().unwrap().extend(&reply.want_slices);
        let slices = {
            let truth = shared.truth.lock().unwrap();
            let full = |index: &u32| Slice {
                index: *index,
                version: truth.versions[*index as usize],
                sessions: truth
                    .sessions
                    .iter()
                    .filter(|(session, _)| session.slice() == *index as usize)
                    .map(|(_, record)| record.clone())
                    .collect(),
            };
            reply.want_slices.iter().map(full).collect()
        };
        if reports.send(NodeReport { slices, ..Default::default() }).await.is_err() {
            return;
        }
    }
}

async fn beat(shared: Arc<Shared>, reports: mpsc::Sender<NodeReport>) {
    let mut ticks = tokio::time::interval(VERSIONS_EVERY);
    loop {
        ticks.tick().await;
        let report = {
            let truth = shared.truth.lock().unwrap();
            let load = NodeLoad { sessions: truth.sessions.len() as u64, sessions_max: 100, rooms: 1 };
            NodeReport { versions: truth.versions.to_vec(), load: Some(load), ..Default::default() }
        };
        if reports.send(report).await.is_err() {
            return;
        }
    }
}

struct Service {
    shared: Arc<Shared>,
    incarnation: Incarnation,
}

#[tonic::async_trait]
impl ConnectNodeService for Service {
    async fn get_node_stats(&self, _: Request<GetNodeStatsRequest>) -> Result<Response<NodeStats>, Status> {
        let incarnation = self.incarnation.to_string();
        Ok(Response::new(NodeStats { incarnation, ..Default::default() }))
    }

    async fn kick(&self, request: Request<KickRequest>) -> Result<Response<KickReply>, Status> {
        let request = request.into_inner();
        let truth = self.shared.truth.lock().unwrap();
        let holds =
            |id: &&Vec<u8>| SessionId::from_bytes(id).is_some_and(|id| truth.sessions.contains_key(&id));
        let sessions = request.session_ids.iter().filter(holds).count() as u32;
        self.shared.kicks.lock().unwrap().push(request);
        Ok(Response::new(pubsub::KickReply { sessions }))
    }
}
