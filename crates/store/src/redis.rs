//! Presence and recent logs in Redis: one server, the master behind Sentinels, or a cluster, shared by any number of
//! controllers and push-managers.
//!
//! Each thing has a hash tag (`keys`), each method with several steps is one Lua script on one tag (`script`), over
//! one connection that all calls share (`link`) and a gate that refuses calls while nobody answers.

mod access;
mod cards;
mod dial;
mod due;
mod fault;
mod keys;
mod link;
mod log;
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
use roomcast_runtime::config::{self, RedisServer};
use roomcast_types::{RoomCard, RoomId, SessionId, SessionPolicy, StoreTime, UserId};

pub use self::log::RedisLog;
use self::{
    access::Access,
    dial::{Dialer, Repeats},
    keys::Keys,
    record::Absence,
};
use crate::{
    counters::Counters,
    error::{Error, Result},
    presence::{
        CardEntry, Claim, Exit, IndexedSession, Load, NodeRef, Occupancy, Presence, SLICES, SessionEntry,
    },
};

const BACKEND: &str = "redis";

/// Who is where, in Redis.
pub struct RedisPresence {
    access: Access,
    keys: Keys,
    generations: Vec<String>,
    /// The latest time this handle has read, in milliseconds: behind a Sentinel the next master's clock may be late.
    latest: AtomicI64,
}

impl RedisPresence {
    /// A handle. Connects with the first call, and again when a connection was lost.
    pub fn open(server: &RedisServer, section: &config::Redis) -> Result<Self> {
        let access =
            Access::new("Redis", Dialer::new(server, section.timeout, Repeats::Safe)?, section.timeout);
        let keys = Keys::new(&section.key_prefix);
        let generations = keys.generations(access.wire.is_cluster());
        Ok(Self { access, keys, generations, latest: AtomicI64::new(i64::MIN) })
    }
}

#[async_trait]
impl Presence for RedisPresence {
    async fn now(&self) -> Result<StoreTime> {
        let read =
            self.access.call("read the clock", memory::now(&self.access.wire, &self.keys)).await?.as_millis();
        let before = self.latest.fetch_max(read, Ordering::Relaxed);
        Ok(StoreTime::from_millis(read.max(before)))
    }

    async fn claim(&self, user: &UserId, entry: &SessionEntry, policy: SessionPolicy) -> Result<Claim> {
        self.access
            .call("claim a slot", users::claim(&self.access.wire, &self.keys, user, entry, policy))
            .await
    }

    async fn drop_session(&self, user: &UserId, session: SessionId) -> Result<bool> {
        self.access
            .call("drop a session", users::drop_session(&self.access.wire, &self.keys, user, session))
            .await
    }

    async fn sessions(&self, user: &UserId) -> Result<Vec<SessionEntry>> {
        self.access.call("read a user's sessions", users::sessions(&self.access.wire, &self.keys, user)).await
    }

    async fn rejoin(&self, room: &RoomId, user: &UserId, session: SessionId) -> Result<bool> {
        self.access
            .call("rejoin a room", rooms::rejoin(&self.access.wire, &self.keys, room, user, session))
            .await
    }

    async fn enter(&self, room: &RoomId, user: &UserId, session: SessionId) -> Result<()> {
        self.access
            .call("enter a room", rooms::enter(&self.access.wire, &self.keys, room, user, session))
            .await
    }

    async fn exit(&self, room: &RoomId, user: &UserId, session: SessionId, how: Exit) -> Result<u64> {
        self.access
            .call("leave a room", rooms::exit(&self.access.wire, &self.keys, room, user, session, how))
            .await
    }

    async fn mark_absent(
        &self,
        room: &RoomId,
        user: &UserId,
        now: StoreTime,
        due: Option<StoreTime>,
    ) -> Result<bool> {
        let absence = Absence { since: now, due };
        self.access
            .call("mark an absence", rooms::mark_absent(&self.access.wire, &self.keys, room, user, absence))
            .await
    }

    async fn take_absence(&self, room: &RoomId, user: &UserId, before: StoreTime) -> Result<bool> {
        self.access
            .call("take an absence", rooms::take_absence(&self.access.wire, &self.keys, room, user, before))
            .await
    }

    async fn evict(&self, room: &RoomId, user: &UserId) -> Result<Vec<SessionId>> {
        self.access.call("evict a user", rooms::evict(&self.access.wire, &self.keys, room, user)).await
    }

    async fn occupancy(&self, room: &RoomId) -> Result<Occupancy> {
        self.access
            .call("read a room's presence", rooms::occupancy(&self.access.wire, &self.keys, room))
            .await
    }

    async fn online_counts(&self, room: &RoomId) -> Result<(u64, u64)> {
        self.access
            .call("count who is online", rooms::online_counts(&self.access.wire, &self.keys, room))
            .await
    }

    async fn put_card(&self, card: &RoomCard, members: u64) -> Result<()> {
        self.access.call("write a card", cards::put_card(&self.access.wire, &self.keys, card, members)).await
    }

    async fn card(&self, room: &RoomId) -> Result<CardEntry> {
        self.access.call("read a card", cards::card(&self.access.wire, &self.keys, room)).await
    }

    async fn bury(&self, room: &RoomId, version: u64, ttl: Duration) -> Result<()> {
        self.access.call("bury a room", cards::bury(&self.access.wire, &self.keys, room, version, ttl)).await
    }

    async fn forget_room(&self, room: &RoomId, version: u64) -> Result<()> {
        self.access
            .call("forget a room", cards::forget_room(&self.access.wire, &self.keys, room, version))
            .await
    }

    async fn index(&self, session: &IndexedSession) -> Result<()> {
        self.access.call("index a session", nodes::index(&self.access.wire, &self.keys, session)).await
    }

    async fn unindex(&self, node: &NodeRef, session: SessionId) -> Result<()> {
        self.access
            .call(
                "remove a session from its index",
                nodes::unindex(&self.access.wire, &self.keys, node, session),
            )
            .await
    }

    async fn slice_versions(&self, node: &NodeRef) -> Result<Option<[u64; SLICES]>> {
        self.access
            .call("read versions of slices", nodes::slice_versions(&self.access.wire, &self.keys, node))
            .await
    }

    async fn set_slice_versions(&self, node: &NodeRef, versions: &[(usize, u64)]) -> Result<()> {
        if let Some((slice, _)) = versions.iter().find(|(slice, _)| *slice >= SLICES) {
            let context = format!("write the version of slice {slice}: there are {SLICES}");
            return Err(Error::Failed { backend: BACKEND, context, source: None });
        }
        let call = nodes::set_slice_versions(&self.access.wire, &self.keys, node, versions);
        self.access.call("write versions of slices", call).await
    }

    async fn indexed(&self, node: &NodeRef, slice: usize) -> Result<Vec<IndexedSession>> {
        self.access.call("read a slice", nodes::indexed(&self.access.wire, &self.keys, node, slice)).await
    }

    async fn indexed_nodes(&self) -> Result<Vec<NodeRef>> {
        self.access.call("list the nodes", nodes::indexed_nodes(&self.access.wire, &self.keys)).await
    }

    async fn set_load(&self, node: &NodeRef, load: Load, ttl: Duration) -> Result<()> {
        self.access
            .call("write a node's load", nodes::set_load(&self.access.wire, &self.keys, node, load, ttl))
            .await
    }

    async fn load(&self, node: &NodeRef) -> Result<Option<(Load, Duration)>> {
        self.access.call("read a node's load", nodes::load(&self.access.wire, &self.keys, node)).await
    }

    async fn forget_node(&self, node: &NodeRef) -> Result<()> {
        self.access.call("forget a node", nodes::forget(&self.access.wire, &self.keys, node)).await
    }

    async fn due_absences(&self, now: StoreTime, limit: usize) -> Result<Vec<(RoomId, UserId)>> {
        self.access.call("read the due absences", due::read(&self.access.wire, &self.keys, now, limit)).await
    }

    async fn generation(&self) -> Result<u64> {
        self.access
            .call("read the generation", memory::generation(&self.access.wire, &self.generations))
            .await
    }

    fn counters(&self) -> Counters {
        self.access.counters()
    }
}
