//! A connect-node that does as it is told: it announces, delivers, freezes, breaks, refuses and comes back.

mod lane;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use roomcast_proto::pubsub::{
    Deliver, Interest, Outcome, PositionConflict, RoomCard, RoomInterest, UpItem, UserInterest,
    connect_node_service_server::ConnectNodeServiceServer,
    position_conflict,
    room_card::{Log, OnLogFailure},
    up_item,
};
use roomcast_registry::{Registration, Registry, Role, State as Life};
use roomcast_runtime::{bind, serve};
use roomcast_types::{Incarnation, MessageId, ServiceId};
use tokio::{sync::watch, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

use self::lane::Service;

/// Everything a test waits for comes within this, or the test fails.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// What the node knows and how it behaves.
#[derive(Debug, Default)]
struct State {
    rooms: BTreeMap<String, u64>,
    users: BTreeMap<String, u64>,
    durable: BTreeSet<String>,
    logs: BTreeMap<String, (Log, OnLogFailure)>,
    /// What became of each message that was walked.
    walked: BTreeMap<String, Outcome>,
    /// Last down number processed.
    seen: u64,
    knows_lane: bool,
    unacknowledged: Vec<(u64, UpItem)>,
    up_number: u64,
    delivered: Vec<Deliver>,
    cards: Vec<RoomCard>,
    /// Items that came with a number processed before.
    repeats: usize,
    links: usize,
    withholds_acks: bool,
    withholds_outcomes: bool,
    answer: Option<Outcome>,
}

#[derive(Debug)]
struct Inner {
    node_id: String,
    incarnation: u64,
    state: Mutex<State>,
    /// Grows with each change of the state.
    changes: watch::Sender<u64>,
    is_frozen: watch::Sender<bool>,
    /// Cancelled to cut the lane.
    cut: Mutex<CancellationToken>,
}

/// One life of a node.
pub struct FakeNode {
    inner: Arc<Inner>,
    pub address: SocketAddr,
    server: JoinHandle<()>,
}

impl FakeNode {
    /// Serves on a free port.
    pub async fn start(node_id: &str) -> Self {
        Self::start_at(node_id, 0).await
    }

    /// Serves on a port that another life may have had.
    pub async fn start_at(node_id: &str, port: u16) -> Self {
        let inner = Arc::new(Inner {
            node_id: node_id.to_owned(),
            incarnation: Incarnation::random().as_u64(),
            state: Mutex::default(),
            changes: watch::Sender::new(0),
            is_frozen: watch::Sender::new(false),
            cut: Mutex::default(),
        });
        let bound = bind([127, 0, 0, 1].into(), port, "fake node", "none").await.unwrap();
        let address = bound.address;
        let service = ConnectNodeServiceServer::new(Service(inner.clone()));
        let router = tonic::service::Routes::new(service).into_axum_router();
        let server = tokio::spawn(serve(bound, router, CancellationToken::new()));
        Self { inner, address, server }
    }

    pub fn registration(&self) -> Registration {
        Registration {
            role: Role::ConnectNode,
            id: ServiceId::new(&self.inner.node_id).unwrap(),
            grpc_address: self.address.to_string(),
            url: format!("ws://{}/ws", self.address),
            incarnation: Incarnation::from_u64(self.inner.incarnation).unwrap(),
            state: Life::Ready,
        }
    }

    /// Registers under a lease of its own, which nobody keeps.
    pub async fn register(&self, registry: &dyn Registry) {
        let lease = registry.grant(Duration::from_secs(3600)).await.unwrap();
        let expect = match registry.get(Role::ConnectNode, &self.registration().id).await.unwrap() {
            Some(held) => roomcast_registry::Expect::HeldBy(held.incarnation),
            None => roomcast_registry::Expect::Absent,
        };
        registry.put(&self.registration(), lease, expect).await.unwrap();
    }

    /// Ends as a killed process does: the port refuses, its connections are reset.
    pub async fn kill(mut self) -> u16 {
        self.server.abort();
        let _ = (&mut self.server).await;
        self.address.port()
    }

    /// Breaks the lane; the node goes on.
    pub fn cut(&self) {
        let mut cut = self.inner.cut.lock().unwrap();
        cut.cancel();
        *cut = CancellationToken::new();
    }

    pub fn freeze(&self) {
        self.inner.is_frozen.send_replace(true);
    }

    pub fn thaw(&self) {
        self.inner.is_frozen.send_replace(false);
    }

    pub fn withhold_acks(&self, withholds: bool) {
        self.inner.change(|state| state.withholds_acks = withholds);
    }

    pub fn withhold_outcomes(&self, withholds: bool) {
        self.inner.change(|state| state.withholds_outcomes = withholds);
    }

    /// Forgets the lane without dying: its next hello says `fresh`.
    pub fn forget_lane(&self) {
        self.inner.change(|state| {
            (state.knows_lane, state.seen, state.up_number) = (false, 0, 0);
            state.unacknowledged.clear();
        });
    }

    /// Answers every push with these counts.
    pub fn answer(&self, outcome: Outcome) {
        self.inner.change(|state| state.answer = Some(outcome));
    }

    /// Says what became of a message by now.
    pub fn tell(&self, message_id: &str, outcome: Outcome) {
        let message_id = MessageId::parse(message_id).unwrap().to_bytes().to_vec();
        self.inner.change(|state| {
            state.queue(up_item::Item::Outcome(Outcome { message_id: message_id.into(), ..outcome }))
        });
    }

    /// Has this many sessions in a room, and returns when every lane acknowledged it: a client would see `joined`.
    pub async fn room(&self, room_id: &str, sessions: u64) {
        self.announce(|state, interest| {
            state.rooms.insert(room_id.to_owned(), sessions);
            interest.rooms.push(state.room(room_id, sessions));
        })
        .await;
    }

    /// As [`FakeNode::room`], for a room whose members keep their seats.
    pub async fn durable_room(&self, room_id: &str, sessions: u64) {
        self.inner.change(|state| state.durable.insert(room_id.to_owned()));
        self.room(room_id, sessions).await;
    }

    /// As [`FakeNode::room`], for a room of this card.
    pub async fn logged_room(&self, room_id: &str, log: Log, on_log_failure: OnLogFailure) {
        self.inner.change(|state| state.logs.insert(room_id.to_owned(), (log, on_log_failure)));
        self.room(room_id, 1).await;
    }

    /// Knows a later position of a room than its log.
    pub fn conflict(&self, room_id: &str, epoch: u64) {
        let log = Some(position_conflict::Log::RoomId(room_id.to_owned()));
        let conflict = PositionConflict { log, epoch, policy: Log::Recent.into() };
        self.inner.change(|state| state.queue(up_item::Item::Conflict(conflict)));
    }

    /// Messages that came, in their order.
    pub fn deliveries(&self) -> Vec<Deliver> {
        self.with(|state| state.delivered.clone())
    }

    /// Has no interest in the room any more.
    pub async fn leave_room(&self, room_id: &str) {
        self.announce(|state, interest| {
            state.rooms.remove(room_id);
            let room_id = room_id.to_owned();
            interest.rooms.push(RoomInterest { room_id, withdrawn: true, ..RoomInterest::default() });
        })
        .await;
    }

    /// Has this many sessions of a user; 0 for none any more.
    pub async fn user(&self, user_id: &str, sessions: u64) {
        self.announce(|state, interest| {
            state.users.insert(user_id.to_owned(), sessions);
            state.users.retain(|_, sessions| *sessions > 0);
            interest.users.push(UserInterest { user_id: user_id.to_owned(), sessions });
        })
        .await;
    }

    /// Has a session of a user without having told anybody.
    pub fn holds_user(&self, user_id: &str) {
        self.inner.change(|state| state.users.insert(user_id.to_owned(), 1));
    }

    async fn announce(&self, change: impl FnOnce(&mut State, &mut Interest)) {
        let number = self.inner.change(|state| {
            let mut interest = Interest::default();
            change(state, &mut interest);
            interest.sessions = state.sessions();
            state.queue(up_item::Item::Interest(interest))
        });
        self.until(|state| state.knows_lane && state.unacknowledged.iter().all(|(own, _)| *own > number))
            .await;
    }

    /// What was delivered so far, as text.
    pub fn delivered(&self) -> Vec<String> {
        self.with(|state| {
            let text = |deliver: &Deliver| {
                let content = deliver.content.clone().unwrap_or_default();
                String::from_utf8_lossy(&content.data).into_owned()
            };
            state.delivered.iter().map(text).collect()
        })
    }

    pub fn last(&self) -> Deliver {
        self.with(|state| state.delivered.last().cloned()).expect("something was delivered")
    }

    pub fn cards(&self) -> Vec<RoomCard> {
        self.with(|state| state.cards.clone())
    }

    pub fn repeats(&self) -> usize {
        self.with(|state| state.repeats)
    }

    pub fn links(&self) -> usize {
        self.with(|state| state.links)
    }

    /// Returns when these were delivered, in this order, and nothing else.
    pub async fn until_delivered(&self, expected: &[&str]) {
        self.until(|state| state.delivered.len() >= expected.len()).await;
        assert_eq!(self.delivered(), expected);
    }

    pub async fn until_linked(&self, times: usize) {
        self.until(|state| state.links >= times).await;
    }

    pub async fn until_card(&self) {
        self.until(|state| !state.cards.is_empty()).await;
    }

    async fn until(&self, reached: impl Fn(&State) -> bool) {
        let mut changes = self.inner.changes.subscribe();
        let waiting = async {
            while !self.with(&reached) {
                changes.changed().await.unwrap();
            }
        };
        timeout(DEADLINE, waiting).await.expect("the node reaches the state in time");
    }

    fn with<R>(&self, see: impl FnOnce(&State) -> R) -> R {
        see(&self.inner.lock())
    }
}

impl Drop for FakeNode {
    fn drop(&mut self) {
        self.server.abort();
    }
}
