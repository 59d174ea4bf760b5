//! What every part of one controller shares.

use std::{sync::Arc, time::Duration};

use roomcast_registry::{Registration, Registry, Role, Roster};
use roomcast_runtime::{Config, Telemetry};
use roomcast_store::{
    Error as StoreError, Presence, Rooms,
    presence::CardEntry,
    rooms::{NewRoom, RoomRow},
};
use roomcast_types::{Code, Fault, Membership, RoomId, ServiceId, StoreTime};
use tokio::time::timeout;

use crate::{
    admission::Batches, backlog::Backlog, clock::StoreClock, error::fault, metrics::Metrics, peers::Peers,
    report::Streams, seats::Audits, sweep::Suspects, tasks::Tasks, watch::StoresHealth,
};

/// How long presence may take where a join waits for it: the record must still have its turn within the second.
const PRESENCE_WAIT: Duration = Duration::from_millis(100);

/// The parts of one controller; everything in it is safe to share.
pub(crate) struct Controller {
    pub(crate) id: ServiceId,
    pub(crate) config: Arc<Config>,
    pub(crate) rooms: Arc<dyn Rooms>,
    pub(crate) presence: Arc<dyn Presence>,
    pub(crate) clock: StoreClock,
    pub(crate) nodes: Roster,
    pub(crate) push_managers: Roster,
    pub(crate) peers: Peers,
    pub(crate) tasks: Tasks,
    pub(crate) metrics: Metrics,
    pub(crate) telemetry: Telemetry,
    /// Joins that wait for their transaction.
    pub(crate) batches: Batches,
    /// Nodes that report here.
    pub(crate) streams: Streams,
    /// Rooms whose seats are to be compared with presence.
    pub(crate) audits: Audits,
    /// Rooms whose number of members in presence is out of date.
    pub(crate) stale_cards: Backlog,
    /// Nodes that may have died.
    pub(crate) suspects: Suspects,
    pub(crate) stores_health: StoresHealth,
}

impl Controller {
    pub(crate) fn new(
        id: ServiceId,
        config: Arc<Config>,
        registry: &Arc<dyn Registry>,
        stores: (Arc<dyn Rooms>, Arc<dyn Presence>),
        telemetry: Telemetry,
    ) -> Self {
        let (rooms, presence) = stores;
        Self {
            id,
            clock: StoreClock::new(presence.clone()),
            nodes: Roster::start(registry.clone(), Role::ConnectNode),
            push_managers: Roster::start(registry.clone(), Role::PushManager),
            peers: Peers::default(),
            tasks: Tasks::default(),
            metrics: telemetry.register(Metrics::register),
            telemetry,
            batches: Batches::default(),
            streams: Streams::default(),
            audits: Audits::default(),
            stale_cards: Backlog::default(),
            suspects: Suspects::default(),
            stores_health: StoresHealth::default(),
            config,
            rooms,
            presence,
        }
    }

    /// Bounds a call of presence whose caller cannot wait.
    pub(crate) async fn promptly<T>(
        &self,
        call: impl Future<Output = roomcast_store::Result<T>>,
    ) -> roomcast_store::Result<T> {
        timeout(PRESENCE_WAIT, call).await.unwrap_or_else(|_| {
            Err(StoreError::Unavailable {
                backend: "presence",
                context: format!("no answer within {PRESENCE_WAIT:?}"),
                source: None,
            })
        })
    }

    /// How a join creates a room that is not there; `None` when it must not.
    pub(crate) fn auto_create(&self) -> Option<NewRoom> {
        self.config.room.auto_create.then_some(NewRoom {
            max_users: self.config.room.default_max_users,
            membership: Membership::Follow,
            is_auto_created: true,
        })
    }

    /// When an absence that begins at `now` is due for release; `None` for seats that are kept.
    pub(crate) fn due(&self, membership: Membership, now: StoreTime) -> Option<StoreTime> {
        (membership == Membership::Follow).then(|| now.plus(self.config.room.rejoin_grace))
    }

    /// How long seats of a room last. A room that nobody knows counts as FOLLOW: a release asks the record again.
    pub(crate) async fn membership(&self, room: &RoomId) -> Membership {
        if let Ok(CardEntry::Known { card, .. }) = self.presence.card(room).await {
            return card.membership;
        }
        match self.rooms.room(room).await {
            Ok(Some(row)) => row.card.membership,
            _ => Membership::Follow,
        }
    }

    /// The record's row of a room; else NOT_FOUND, or ROOM_DELETED when it was deleted by request just now.
    pub(crate) async fn row(&self, room: &RoomId) -> Result<RoomRow, Fault> {
        match self.rooms.room(room).await.map_err(|error| fault(&error))? {
            Some(row) => Ok(row),
            None => Err(self.no_such_room(room).await),
        }
    }

    /// Why a room is not there.
    pub(crate) async fn no_such_room(&self, room: &RoomId) -> Fault {
        match self.presence.card(room).await {
            Ok(CardEntry::Buried { .. }) => room_deleted(room),
            _ => Fault::new(Code::NotFound, format!("room {room} does not exist")),
        }
    }

    /// A node's registration, whichever life of it.
    pub(crate) fn registered(&self, node: &str) -> Option<Registration> {
        let listing = self.nodes.current();
        listing.registrations.iter().find(|found| found.id.as_str() == node).cloned()
    }
}

/// The answer for a room that was deleted by request.
pub(crate) fn room_deleted(room: &RoomId) -> Fault {
    Fault::new(Code::RoomDeleted, format!("room {room} was deleted"))
}
