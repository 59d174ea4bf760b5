//! Presence in Redis: one server, the master behind Sentinels, or a cluster, shared by any number of controllers.
//!
//! Each thing has a hash tag (`keys`), each method with several steps is one Lua script on one tag (`script`), over
//! one connection that all calls share (`link`) and a gate that refuses calls while nobody answers.

mod cards;
mod dial;
mod due;
mod fault;
mod keys;
mod link;
mod memory;
mod nodes;
mod record;
mod rooms;
mod script;
mod users;

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use async_trait::async_trait;
use redis::RedisResult;
use roomcast_runtime::{
    Gate, GateSettings, Refused,
    config::{self, RedisServer},
};
use roomcast_types::{RoomCard, RoomId, SessionId, SessionPolicy, StoreTime, UserId};
use tokio::sync::Semaphore;

use self::{dial::Dialer, keys::Keys, link::Wire, record::Absence};
use crate::{
    counters::Counters,
    error::{Error, Result},
    presence::{
        CardEntry, Claim, Exit, IndexedSession, Load, NodeRef, Occupancy, Presence, SLICES, SessionEntry,
    },
};

const BACKEND: &str = "redis";

/// Calls that wait or are under way: ten thousand clients that join at the same moment wait, a store that stands still
/// does not gather more.
const CALLS_MAX: usize = 20_000;

/// Calls that Redis has before it at once: enough to keep it busy, and so few that each is answered in milliseconds. The
/// others wait here, in order, where waiting does not look like a server that is late.
const AT_ONCE: usize = 256;

/// Who is where, in Redis.
pub struct RedisPresence {
    wire: Wire,
    gate: Gate,
    /// See [`CALLS_MAX`].
    places: Semaphore,
    /// See [`AT_ONCE`].
    turns: Semaphore,
    keys: Keys,
    generations: Vec<String>,
    /// The latest time this handle has read, in milliseconds: behind a Sentinel the next master's clock may be late.
    latest: AtomicI64,
}

impl RedisPresence {
    /// A handle. Connects with the first call, and again when a connection was lost.
    pub fn open(server: &RedisServer, section: &config::Redis) -> Result<Self> {
        let wire = Wire::new(Dialer::new(server, section.timeout)?);
        let keys = Keys::new(&section.key_prefix);
        let gate = Gate::new(GateSettings {
            name: "Redis",
            calls_max: AT_ONCE,
            deadline: section.timeout,
            failures: 5,
            pause_min: Duration::from_millis(100),
            pause_max: Duration::from_secs(1),
        })
        .quiet_until_answered();
        let generations = keys.generations(wire.is_cluster());
        let (places, turns) = (Semaphore::new(CALLS_MAX), Semaphore::new(AT_ONCE));
        Ok(Self { wire, gate, places, turns, keys, generations, latest: AtomicI64::new(i64::MIN) })
    }

    /// Makes a call through the gate. `what` completes "redis is not available: cannot …".
    async fn call<T>(&self, what: &str, call: impl Future<Output = RedisResult<T>> + Send) -> Result<T> {
        let Ok(_place) = self.places.try_acquire() else {
            let (context, refused) = (format!("cannot {what}"), Refused::Busy { calls: CALLS_MAX });
            return Err(Error::Unavailable { backend: BACKEND, context, source: Some(refused.into()) });
        };
        // Closed by nobody: an error would only mean to go on without a place in the order.
        let _turn = self.turns.acquire().await;
        let number = self.wire.number();
        let answer = match self.gate.pass(call, fault::is_outage).await {
            Ok(answer) => answer,
            Err(refused) => {
                // Its host may be gone without a word: a server that only stood still will take a new connection.
                // One late call says little, and hanging up fails all the others.
                if matches!(refused, Refused::Late { .. }) && self.gate.is_open() {
                    self.wire.hang_up(number);
                }
                let (context, source) = (format!("cannot {what}"), Some(refused.into()));
                return Err(Error::Unavailable { backend: BACKEND, context, source });
            }
        };
        answer.map_err(|error| fault::error(&format!("cannot {what}"), error))
    }
}

#[async_trait]
impl Presence for RedisPresence {
    async fn now(&self) -> Result<StoreTime> {
        let read = self.call("read the clock", memory::now(&self.wire, &self.keys)).await?.as_millis();
        let before = self.latest.fetch_max(read, Ordering::Relaxed);
        Ok(StoreTime::from_millis(read.max(before)))
    }

    async fn claim(&self, user: &UserId, entry: &SessionEntry, policy: SessionPolicy) -> Result<Claim> {
        self.call("claim a slot", users::claim(&self.wire, &self.keys, user, entry, policy)).await
    }

    async fn drop_session(&self, user: &UserId, session: SessionId) -> Result<bool> {
        self.call("drop a session", users::drop_session(&self.wire, &self.keys, user, session)).await
    }

    async fn sessions(&self, user: &UserId) -> Result<Vec<SessionEntry>> {
        self.call("read a user's sessions", users::sessions(&self.wire, &self.keys, user)).await
    }

    async fn rejoin(&self, room: &RoomId, user: &UserId, session: SessionId) -> Result<bool> {
        self.call("rejoin a room", rooms::rejoin(&self.wire, &self.keys, room, user, session)).await
    }

    async fn enter(&self, room: &RoomId, user: &UserId, session: SessionId) -> Result<()> {
        self.call("enter a room", rooms::enter(&self.wire, &self.keys, room, user, session)).await
    }

    async fn exit(&self, room: &RoomId, user: &UserId, session: SessionId, how: Exit) -> Result<u64> {
        self.call("leave a room", rooms::exit(&self.wire, &self.keys, room, user, session, how)).await
    }

    async fn mark_absent(
        &self,
        room: &RoomId,
        user: &UserId,
        now: StoreTime,
        due: Option<StoreTime>,
    ) -> Result<bool> {
        let absence = Absence { since: now, due };
        self.call("mark an absence", rooms::mark_absent(&self.wire, &self.keys, room, user, absence)).await
    }

    async fn take_absence(&self, room: &RoomId, user: &UserId, before: StoreTime) -> Result<bool> {
        self.call("take an absence", rooms::take_absence(&self.wire, &self.keys, room, user, before)).await
    }

    async fn evict(&self, room: &RoomId, user: &UserId) -> Result<Vec<SessionId>> {
        self.call("evict a user", rooms::evict(&self.wire, &self.keys, room, user)).await
    }

    async fn occupancy(&self, room: &RoomId) -> Result<Occupancy> {
        self.call("read a room's presence", rooms::occupancy(&self.wire, &self.keys, room)).await
    }

    async fn online_counts(&self, room: &RoomId) -> Result<(u64, u64)> {
        self.call("count who is online", rooms::online_counts(&self.wire, &self.keys, room)).await
    }

    async fn put_card(&self, card: &RoomCard, members: u64) -> Result<()> {
        self.call("write a card", cards::put_card(&self.wire, &self.keys, card, members)).await
    }

    async fn card(&self, room: &RoomId) -> Result<CardEntry> {
        self.call("read a card", cards::card(&self.wire, &self.keys, room)).await
    }

    async fn bury(&self, room: &RoomId, version: u64, ttl: Duration) -> Result<()> {
        self.call("bury a room", cards::bury(&self.wire, &self.keys, room, version, ttl)).await
    }

    async fn forget_room(&self, room: &RoomId, version: u64) -> Result<()> {
        self.call("forget a room", cards::forget_room(&self.wire, &self.keys, room, version)).await
    }

    async fn index(&self, session: &IndexedSession) -> Result<()> {
        self.call("index a session", nodes::index(&self.wire, &self.keys, session)).await
    }

    async fn unindex(&self, node: &NodeRef, session: SessionId) -> Result<()> {
        self.call("remove a session from its index", nodes::unindex(&self.wire, &self.keys, node, session))
            .await
    }

    async fn slice_versions(&self, node: &NodeRef) -> Result<Option<[u64; SLICES]>> {
        self.call("read versions of slices", nodes::slice_versions(&self.wire, &self.keys, node)).await
    }

    async fn set_slice_versions(&self, node: &NodeRef, versions: &[(usize, u64)]) -> Result<()> {
        if let Some((slice, _)) = versions.iter().find(|(slice, _)| *slice >= SLICES) {
            let context = format!("write the version of slice {slice}: there are {SLICES}");
            return Err(Error::Failed { backend: BACKEND, context, source: None });
        }
        let call = nodes::set_slice_versions(&self.wire, &self.keys, node, versions);
        self.call("write versions of slices", call).await
    }

    async fn indexed(&self, node: &NodeRef, slice: usize) -> Result<Vec<IndexedSession>> {
        self.call("read a slice", nodes::indexed(&self.wire, &self.keys, node, slice)).await
    }

    async fn indexed_nodes(&self) -> Result<Vec<NodeRef>> {
        self.call("list the nodes", nodes::indexed_nodes(&self.wire, &self.keys)).await
    }

    async fn set_load(&self, node: &NodeRef, load: Load, ttl: Duration) -> Result<()> {
        self.call("write a node's load", nodes::set_load(&self.wire, &self.keys, node, load, ttl)).await
    }

    async fn load(&self, node: &NodeRef) -> Result<Option<(Load, Duration)>> {
        self.call("read a node's load", nodes::load(&self.wire, &self.keys, node)).await
    }

    async fn forget_node(&self, node: &NodeRef) -> Result<()> {
        self.call("forget a node", nodes::forget(&self.wire, &self.keys, node)).await
    }

    async fn due_absences(&self, now: StoreTime, limit: usize) -> Result<Vec<(RoomId, UserId)>> {
        self.call("read the due absences", due::read(&self.wire, &self.keys, now, limit)).await
    }

    async fn generation(&self) -> Result<u64> {
        self.call("read the generation", memory::generation(&self.wire, &self.generations)).await
    }

    fn counters(&self) -> Counters {
        Counters {
            transactions: 0,
            calls_refused: self.gate.refused_total(),
            is_refusing: self.gate.is_open(),
        }
    }
}
