//! The node's own view: who is here, and what the lanes and the controller are told of it.
//!
//! [`Core`] is shared by everything on the main runtime; [`Handle`] is what the shards call. The one lock of the state
//! is short and never held across an await; what a session asks for runs as a task of its own.

pub mod announcement;
pub mod eviction;
mod inbox;
pub mod inspect;
mod logged;
mod membership;
mod opening;
pub mod session;
pub mod state;
pub mod target;
pub mod tasks;
pub mod topic;
pub mod walks;

use std::{
    sync::{Arc, Mutex, MutexGuard, OnceLock},
    time::Duration,
};

use opentelemetry::trace::SpanKind;
use roomcast_proto::pubsub::LaneHello;
use roomcast_registry::State as Life;
use roomcast_runtime::{Config, Tracing, config::UserLog};
use roomcast_types::{Code, Fault, Incarnation, MessageId, NodeId, Position, RoomId, ServiceId};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use self::{session::Operation, state::State, tasks::Tasks, walks::Walks};
use crate::{
    drain::{self, Departures},
    failpoint::Failpoints,
    lane::{
        LANES_MAX, Lane, Seat,
        state::{Attached, Limits},
    },
    ledger::Ledger,
    log::{compare::Comparing, reader::Reader, returning::Since},
    metrics::Metrics,
    ports::{Arrival, Hub, OpenedSession, SessionKey, Shards, ToShard},
};

/// Who this node is, as others see it.
#[derive(Debug, Clone)]
pub struct Identity {
    pub node_id: NodeId,
    pub incarnation: Incarnation,
    /// host:port of the gRPC interface.
    pub grpc_address: String,
    /// Of `/ws`.
    pub url: String,
    pub started_at: Instant,
}

/// What the hub takes from the configuration.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// How long a claim or a join may wait for a controller.
    pub controller_timeout: Duration,
    /// How long interest in a room outlives its last session.
    pub room_linger: Duration,
    /// How long a push-manager trusts an echo.
    pub trust: Duration,
    /// Sessions this node takes.
    pub sessions_max: usize,
    /// Whether messages to users have a log.
    pub has_user_logs: bool,
    /// The most that a session catches up at once.
    pub catch_up_messages: u32,
    pub catch_up_bytes: u32,
    /// How long the end of the node takes at most.
    pub drain_limit: Duration,
}

impl Settings {
    /// Of this configuration.
    pub fn new(config: &Config) -> Self {
        Self {
            controller_timeout: config.connect_node.controller_timeout,
            room_linger: config.connect_node.room_linger,
            trust: config.push_manager.lane_trust,
            sessions_max: config.connect_node.sessions_max,
            has_user_logs: config.log.user == UserLog::Recent,
            catch_up_messages: config.connect_node.catch_up_messages,
            catch_up_bytes: u32::try_from(config.connect_node.catch_up_bytes.0).unwrap_or(u32::MAX),
            drain_limit: drain::limit(&config.connect_node.drain, config.connect_node.sessions_max),
        }
    }
}

/// See the module.
pub struct Core {
    pub identity: Identity,
    pub settings: Settings,
    pub metrics: Metrics,
    pub tracing: Tracing,
    pub tasks: Tasks,
    pub ledger: Arc<Ledger>,
    pub walks: Walks,
    pub reader: Reader,
    pub comparing: Comparing,
    pub failpoints: Failpoints,
    /// Who left because the node drains.
    pub departures: Arc<Departures>,
    /// Cancelled when somebody asks for a drain.
    pub drain_asked: CancellationToken,
    state: Mutex<State>,
    /// Set once, before the first session: the shards need the hub to be started.
    shards: OnceLock<Shards>,
    /// Wakes who waits for lanes to come into sync.
    lanes: watch::Sender<()>,
    life: watch::Sender<Life>,
}

/// Counts for stats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Totals {
    pub sessions: usize,
    pub users: usize,
    pub rooms: usize,
    pub lanes: usize,
}

impl Core {
    /// A node without shards; must run inside the main runtime.
    pub fn new(identity: Identity, settings: Settings, metrics: Metrics, tracing: Tracing) -> Arc<Self> {
        let state = State::new(settings.room_linger, settings.has_user_logs, Instant::now());
        Arc::new(Self {
            identity,
            settings,
            ledger: Ledger::new(metrics.unaccounted.clone()),
            walks: Walks::default(),
            reader: Reader::default(),
            comparing: Comparing::default(),
            failpoints: Failpoints::default(),
            departures: Arc::default(),
            drain_asked: CancellationToken::new(),
            metrics,
            tracing,
            tasks: Tasks::new(),
            state: Mutex::new(state),
            shards: OnceLock::new(),
            lanes: watch::Sender::new(()),
            life: watch::Sender::new(Life::Starting),
        })
    }

    /// Gives the hub its shards; the first call counts.
    pub fn set_shards(&self, shards: Shards) {
        let _ = self.shards.set(shards);
    }

    pub(crate) fn shards(&self) -> &Shards {
        static NONE: std::sync::LazyLock<Shards> = std::sync::LazyLock::new(|| Shards::new(Vec::new()));
        self.shards.get().unwrap_or(&NONE)
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }

    /// Where the node is in its life.
    pub fn life(&self) -> Life {
        *self.life.borrow()
    }

    /// Says where the node is in its life.
    pub fn set_life(&self, life: Life) {
        self.life.send_replace(life);
    }

    /// Counts, as of now.
    pub fn totals(&self) -> Totals {
        let state = self.state();
        Totals {
            sessions: state.sessions.len(),
            users: state.users.len(),
            rooms: state.rooms.len(),
            lanes: state.lanes.iter().filter(|lane| lane.is_in_sync()).count(),
        }
    }

    /// Does what time brings: overdue announcements, ended interests, changed numbers. Runs until it is dropped.
    pub async fn keep_time(self: Arc<Self>) {
        let wake = self.state().tick_wake.clone();
        loop {
            let next = self.state().tick(Instant::now());
            self.publish();
            tokio::select! {
                () = tokio::time::sleep_until(next) => {}
                () = wake.notified() => {}
            }
        }
    }

    fn publish(&self) {
        let totals = self.totals();
        self.metrics.users.set(totals.users as f64);
        self.metrics.rooms.set(totals.rooms as f64);
        self.metrics.lanes.set(totals.lanes as f64);
    }

    // ---- lanes ----

    /// The lane of this life of a push-manager, made on its first hello.
    pub(crate) fn lane(&self, manager: ServiceId, incarnation: Incarnation) -> Result<Arc<Lane>, Status> {
        let now = Instant::now();
        let mut state = self.state();
        let known =
            state.lanes.iter().find(|lane| lane.incarnation == incarnation && lane.manager_id == manager);
        if let Some(lane) = known {
            return Ok(lane.clone());
        }
        if state.lanes.len() >= LANES_MAX {
            let fault = Fault::new(Code::RateLimited, format!("this node has {LANES_MAX} lanes already"));
            return Err(roomcast_proto::status(&fault));
        }
        let lane = Arc::new(Lane::new(manager, incarnation, Limits::new(self.settings.trust), now));
        state.lanes.push(lane.clone());
        Ok(lane)
    }

    /// Begins a stream of a lane; the snapshot is taken and put on it in one step. `None`: a newer stream has it.
    pub(crate) fn attach(&self, lane: &Arc<Lane>, seat: &Seat, hello: &LaneHello) -> Option<Attached> {
        let mut hello = hello.clone();
        if hello.node_incarnation != self.identity.incarnation.as_u64() {
            // What it saw came from another life of this node.
            hello.up_seen = 0;
        }
        let mut state = self.state();
        if !state.lanes.iter().any(|kept| Arc::ptr_eq(kept, lane)) {
            // It was given up as abandoned just now.
            state.lanes.push(lane.clone());
        }
        let snapshot = state.snapshot();
        lane.attach(seat, &hello, snapshot, Instant::now())
    }

    /// Withdraws every interest that outlived its sessions: nothing is pushed here any more that would reach nobody.
    pub fn withdraw_all(&self) {
        self.state().withdraw_ended();
    }

    /// Ends the streams of all lanes.
    pub fn end_lanes(&self) {
        self.state().lanes.iter().for_each(|lane| lane.end());
    }

    /// Wakes who waits for lanes.
    pub(crate) fn lanes_changed(&self) {
        self.lanes.send_replace(());
        self.publish();
    }

    /// Wakes when a lane came into sync or was lost.
    pub fn watch_lanes(&self) -> watch::Receiver<()> {
        self.lanes.subscribe()
    }

    /// Whether the lane of this life of a push-manager is in sync.
    pub fn is_linked(&self, manager: &ServiceId, incarnation: Incarnation) -> bool {
        let state = self.state();
        state
            .lanes
            .iter()
            .any(|lane| lane.incarnation == incarnation && lane.manager_id == *manager && lane.is_in_sync())
    }

    /// The push-managers that have taken everything that was put on their lane.
    pub fn managers_in_step(&self) -> Vec<u64> {
        let state = self.state();
        let taken = state.lanes.iter().filter(|lane| lane.is_taken());
        taken.map(|lane| lane.incarnation.as_u64()).collect()
    }

    /// Whether everything was told to those who listen.
    pub fn is_settled(&self) -> bool {
        let state = self.state();
        let is_reported = !state.outbox.is_linked() || state.outbox.is_settled();
        is_reported && state.lanes.iter().all(|lane| lane.is_settled())
    }

    /// Sends one command to the shard of a session.
    pub(crate) async fn send(&self, session: SessionKey, command: ToShard) {
        // False: the shard has ended, and the session with it.
        let _ = self.shards().send(session.shard, command).await;
    }
}

/// The hub as the shards call it.
#[derive(Clone)]
pub struct Handle(pub Arc<Core>);

impl Hub for Handle {
    fn opened(&self, session: OpenedSession) {
        self.0.open(session);
    }

    fn join(&self, session: SessionKey, request: Option<u64>, room: RoomId, since: Option<Since>) {
        self.0.operate(session, room, Operation::Join { request, since });
    }

    fn leave(&self, session: SessionKey, request: Option<u64>, room: RoomId) {
        self.0.operate(session, room, Operation::Leave { request });
    }

    fn received(&self, arrival: Arrival) {
        let Arrival { message_id, session_id, traceparent, written_at, received_at } = arrival;
        let mut span = self.0.tracing.start_at("receive", SpanKind::Consumer, &traceparent, Some(written_at));
        if span.is_recording() {
            span.set("pubsub.node_id", self.0.identity.node_id.to_string());
            span.set("pubsub.message_id", message_id.to_string());
            span.set("pubsub.session_id", session_id.to_string());
        }
        span.end_at(received_at);
    }

    fn acknowledged(&self, session: SessionKey, messages: Vec<MessageId>) {
        self.0.inbox_acknowledged(session, &messages);
    }

    fn has_read(&self, session: SessionKey, room: RoomId, position: Position) {
        self.0.note_read(session, room, position);
    }

    fn closed(&self, session: SessionKey) {
        self.0.close(session);
    }
}
