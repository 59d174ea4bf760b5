//! What every part of one controller shares.

use std::{sync::Arc, time::Duration};

use roomcast_registry::{Registration, Registry, Role, Roster};
use roomcast_runtime::{Config, Gate, GateSettings, Telemetry};
use roomcast_store::{
    Error as StoreError, Logs, Presence, Rooms,
    presence::CardEntry,
    rooms::{NewRoom, RoomRow},
};
use roomcast_types::{Code, Fault, Membership, OnLogFailure, RoomId, ServiceId, StoreTime};
use tokio::{sync::Semaphore, time::timeout};

use crate::{
    admission::Batches,
    backlog::Backlog,
    calls::Calls,
    cards::Burials,
    census::Census,
    clock::StoreClock,
    error::fault,
    kick,
    loads::Loads,
    logs::RoomLogs,
    memberships::Memberships,
    metrics::{Metrics, Missing},
    peers::Peers,
    reads::Reads,
    report::Streams,
    seats::Audits,
    sweep::Suspects,
    tasks::Tasks,
    watch::StoresHealth,
};

/// Presence where somebody waits who is answered within a second. 300 ms is several times what a burst of joins makes
/// it take, and leaves the record its turn. Sixteen calls in a row that met nothing are no accident: from then on nobody
/// waits for it, but for one trial a second at most. The bound on calls is far above the changes under way.
const PROMPT_PRESENCE: GateSettings = GateSettings {
    name: "presence, for those who wait",
    calls_max: 65_536,
    deadline: Duration::from_millis(300),
    failures: 16,
    pause_min: Duration::from_millis(250),
    pause_max: Duration::from_secs(1),
};
/// How long a read of the record may take before the reply is given without it.
const RECORD_WAIT: Duration = Duration::from_secs(1);
/// Changes that nodes reported, applied at once: more would only wait in the stores instead of here, and take so long
/// that a busy store looks like one that is away.
const CHANGES_AT_ONCE: usize = 4_096;

/// The parts of one controller; everything in it is safe to share.
pub(crate) struct Controller {
    pub(crate) id: ServiceId,
    pub(crate) config: Arc<Config>,
    pub(crate) rooms: Arc<dyn Rooms>,
    pub(crate) presence: Arc<dyn Presence>,
    pub(crate) logs: RoomLogs,
    pub(crate) clock: StoreClock,
    pub(crate) nodes: Roster,
    pub(crate) push_managers: Roster,
    pub(crate) peers: Peers,
    pub(crate) tasks: Tasks,
    pub(crate) metrics: Metrics,
    pub(crate) telemetry: Telemetry,
    /// Calls under way.
    pub(crate) calls: Calls,
    /// Joins that wait for their transaction.
    pub(crate) batches: Batches,
    /// Nodes that report here.
    pub(crate) streams: Streams,
    /// Rooms whose seats are to be compared with presence.
    pub(crate) audits: Audits,
    /// Rooms whose number of members in presence is out of date.
    pub(crate) stale_cards: Backlog,
    /// Deleted rooms that presence could not be told of yet.
    pub(crate) burials: Burials,
    /// Before presence where somebody waits.
    pub(crate) prompt_presence: Gate,
    /// One permit for each change that is being applied.
    pub(crate) changes: Semaphore,
    /// One permit for each order to nodes that nobody waits for.
    pub(crate) orders: Arc<Semaphore>,
    /// Who is online in all rooms, as counted last.
    pub(crate) census: Census,
    /// How full nodes are that report to other controllers.
    pub(crate) loads: Loads,
    /// How far members have read.
    pub(crate) reads: Reads,
    /// How long seats last, as read a moment ago.
    pub(crate) memberships: Memberships,
    /// Nodes that may have died.
    pub(crate) suspects: Suspects,
    pub(crate) stores_health: StoresHealth,
}

impl Controller {
    pub(crate) fn new(
        id: ServiceId,
        config: Arc<Config>,
        registry: &Arc<dyn Registry>,
        stores: (Arc<dyn Rooms>, Arc<dyn Presence>, Logs),
        telemetry: Telemetry,
    ) -> Self {
        let (rooms, presence, logs) = stores;
        Self {
            id,
            clock: StoreClock::new(presence.clone()),
            nodes: Roster::start(registry.clone(), Role::ConnectNode),
            push_managers: Roster::start(registry.clone(), Role::PushManager),
            peers: Peers::default(),
            tasks: Tasks::default(),
            metrics: telemetry.register(Metrics::register),
            telemetry,
            calls: Calls::default(),
            batches: Batches::new(config.database.connections_max as usize),
            streams: Streams::default(),
            audits: Audits::default(),
            stale_cards: Backlog::default(),
            burials: Burials::default(),
            prompt_presence: Gate::new(PROMPT_PRESENCE),
            changes: Semaphore::new(CHANGES_AT_ONCE),
            orders: Arc::new(Semaphore::new(kick::IN_BACKGROUND_MAX)),
            census: Census::default(),
            loads: Loads::default(),
            reads: Reads::default(),
            memberships: Memberships::default(),
            suspects: Suspects::default(),
            stores_health: StoresHealth::default(),
            config,
            rooms,
            presence,
            logs: RoomLogs::new(logs),
        }
    }

    /// Bounds a call of presence whose caller cannot wait.
    pub(crate) async fn promptly<T>(
        &self,
        call: impl Future<Output = roomcast_store::Result<T>>,
    ) -> roomcast_store::Result<T> {
        let answer = self.prompt_presence.pass(call, StoreError::is_retryable).await;
        answer.unwrap_or_else(|refused| Err(unanswered("presence", refused.to_string())))
    }

    /// Bounds a read of the record whose caller can do without, or has to be told.
    pub(crate) async fn readily<T>(
        &self,
        call: impl Future<Output = roomcast_store::Result<T>>,
    ) -> roomcast_store::Result<T> {
        let answer = timeout(RECORD_WAIT, call).await;
        answer.unwrap_or_else(|_| Err(unanswered("record", format!("no answer within {RECORD_WAIT:?}"))))
    }

    /// What a reply says in `degraded`; counted.
    pub(crate) fn does_without(&self, missing: impl IntoIterator<Item = Missing>) -> Vec<String> {
        let word = |missing: Missing| {
            self.metrics.degraded(missing);
            missing.word().to_owned()
        };
        missing.into_iter().map(word).collect()
    }

    /// How a join creates a room that is not there; `None` when it must not.
    pub(crate) fn auto_create(&self) -> Option<NewRoom> {
        self.config.room.auto_create.then_some(NewRoom {
            max_users: self.config.room.default_max_users,
            membership: Membership::Follow,
            log: self.config.log.room,
            on_log_failure: OnLogFailure::default(),
            is_auto_created: true,
        })
    }

    /// When an absence that begins at `now` is due for release; `None` for seats that are kept.
    pub(crate) fn due(&self, membership: Membership, now: StoreTime) -> Option<StoreTime> {
        (membership == Membership::Follow).then(|| now.plus(self.config.room.rejoin_grace))
    }

    /// How long seats of a room last. A room that nobody knows counts as FOLLOW: a release asks the record again.
    pub(crate) async fn membership(&self, room: &RoomId) -> Membership {
        if let Some(membership) = self.memberships.get(room) {
            return membership;
        }
        let membership = self.read_membership(room).await;
        self.memberships.put(room, membership);
        membership
    }

    async fn read_membership(&self, room: &RoomId) -> Membership {
        if let Ok(CardEntry::Known { card, .. }) = self.promptly(self.presence.card(room)).await {
            return card.membership;
        }
        match self.rooms.room(room).await {
            Ok(Some(row)) => row.card.membership,
            _ => Membership::Follow,
        }
    }

    /// The record's row of a room; else NOT_FOUND, or ROOM_DELETED when it was deleted by request just now.
    pub(crate) async fn row(&self, room: &RoomId) -> Result<RoomRow, Fault> {
        match self.readily(self.rooms.room(room)).await.map_err(|error| fault(&error))? {
            Some(row) => Ok(row),
            None => Err(self.no_such_room(room).await),
        }
    }

    /// Why a room is not there.
    pub(crate) async fn no_such_room(&self, room: &RoomId) -> Fault {
        match self.promptly(self.presence.card(room)).await {
            Ok(CardEntry::Buried { .. }) => room_deleted(room),
            _ if self.burials.contains(room) => room_deleted(room),
            _ => Fault::new(Code::NotFound, format!("room {room} does not exist")),
        }
    }

    /// A node's registration, whichever life of it.
    pub(crate) fn registered(&self, node: &str) -> Option<Registration> {
        let listing = self.nodes.current();
        listing.registrations.iter().find(|found| found.id.as_str() == node).cloned()
    }
}

/// What a call came to that was not made, or not answered in its time.
pub(crate) fn unanswered(backend: &'static str, context: String) -> StoreError {
    StoreError::Unavailable { backend, context, source: None }
}

/// The answer for a room that was deleted by request.
pub(crate) fn room_deleted(room: &RoomId) -> Fault {
    Fault::new(Code::RoomDeleted, format!("room {room} was deleted"))
}
