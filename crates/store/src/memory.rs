//! Presence in process memory: the shared memory of a deployment that is one process, and of tests.

mod clock;
pub mod inbox;
pub mod log;
mod nodes;
mod rooms;
mod users;

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use roomcast_types::{Incarnation, RoomCard, RoomId, SessionId, SessionPolicy, StoreTime, UserId};

use self::{clock::Clock, nodes::Nodes, rooms::Rooms, users::Users};
use crate::{
    error::{Error, Result},
    presence::{
        CardEntry, Claim, Exit, IndexedSession, Load, NodeRef, Occupancy, Presence, SLICES, SessionEntry,
    },
};

const BACKEND: &str = "memory";

/// Who is where, in this process. Sessions of users, rooms and indexes have a lock each, as no method touches two;
/// none is held across an await.
#[derive(Debug)]
pub struct MemoryPresence {
    clock: Clock,
    users: Mutex<Users>,
    rooms: Mutex<Rooms>,
    nodes: Mutex<Nodes>,
    generation: Mutex<u64>,
    is_available: AtomicBool,
}

impl Default for MemoryPresence {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryPresence {
    /// An empty memory; its clock starts at this machine's wall clock.
    pub fn new() -> Self {
        Self {
            clock: Clock::new(),
            users: Mutex::default(),
            rooms: Mutex::default(),
            nodes: Mutex::default(),
            generation: Mutex::new(fresh_generation()),
            is_available: AtomicBool::new(true),
        }
    }

    /// For tests: while `false`, every call answers `Unavailable` and changes nothing.
    pub fn set_available(&self, is_available: bool) {
        self.is_available.store(is_available, Ordering::SeqCst);
    }

    /// For tests: loses everything at once, as FLUSHALL or a restart would; the generation changes, the clock goes on.
    pub fn flush(&self) {
        let (mut users, mut rooms, mut nodes) = (lock(&self.users), lock(&self.rooms), lock(&self.nodes));
        *users = Users::default();
        *rooms = Rooms::default();
        *nodes = Nodes::default();
        *lock(&self.generation) = fresh_generation();
    }

    /// For tests: moves the clock forward.
    pub fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }

    fn check_available(&self) -> Result<()> {
        if self.is_available.load(Ordering::SeqCst) {
            return Ok(());
        }
        Err(Error::Unavailable {
            backend: BACKEND,
            context: "it was switched off by a test".to_owned(),
            source: None,
        })
    }

    fn users(&self) -> Result<MutexGuard<'_, Users>> {
        self.check_available()?;
        Ok(lock(&self.users))
    }

    fn rooms(&self) -> Result<MutexGuard<'_, Rooms>> {
        self.check_available()?;
        Ok(lock(&self.rooms))
    }

    fn nodes(&self) -> Result<MutexGuard<'_, Nodes>> {
        self.check_available()?;
        Ok(lock(&self.nodes))
    }
}

/// No method panics half-way through a change, so what a poisoned lock guards is whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Random, so that a restarted process does not repeat the one before it.
fn fresh_generation() -> u64 {
    Incarnation::random().as_u64()
}

#[async_trait]
impl Presence for MemoryPresence {
    async fn now(&self) -> Result<StoreTime> {
        self.check_available()?;
        Ok(self.clock.now())
    }

    async fn claim(&self, user: &UserId, entry: &SessionEntry, policy: SessionPolicy) -> Result<Claim> {
        Ok(self.users()?.claim(user, entry, policy))
    }

    async fn drop_session(&self, user: &UserId, session: SessionId) -> Result<bool> {
        Ok(self.users()?.drop_session(user, session))
    }

    async fn sessions(&self, user: &UserId) -> Result<Vec<SessionEntry>> {
        Ok(self.users()?.sessions(user))
    }

    async fn rejoin(&self, room: &RoomId, user: &UserId, session: SessionId) -> Result<bool> {
        Ok(self.rooms()?.rejoin(room, user, session, self.clock.now()))
    }

    async fn enter(&self, room: &RoomId, user: &UserId, session: SessionId) -> Result<()> {
        self.rooms()?.enter(room, user, session);
        Ok(())
    }

    async fn exit(&self, room: &RoomId, user: &UserId, session: SessionId, how: Exit) -> Result<u64> {
        Ok(self.rooms()?.exit(room, user, session, how))
    }

    async fn mark_absent(
        &self,
        room: &RoomId,
        user: &UserId,
        now: StoreTime,
        due: Option<StoreTime>,
    ) -> Result<bool> {
        Ok(self.rooms()?.mark_absent(room, user, now, due))
    }

    async fn take_absence(&self, room: &RoomId, user: &UserId, before: StoreTime) -> Result<bool> {
        Ok(self.rooms()?.take_absence(room, user, before))
    }

    async fn evict(&self, room: &RoomId, user: &UserId) -> Result<Vec<SessionId>> {
        Ok(self.rooms()?.evict(room, user))
    }

    async fn occupancy(&self, room: &RoomId) -> Result<Occupancy> {
        Ok(self.rooms()?.occupancy(room))
    }

    async fn online_counts(&self, room: &RoomId) -> Result<(u64, u64)> {
        Ok(self.rooms()?.online_counts(room))
    }

    async fn put_card(&self, card: &RoomCard, members: u64) -> Result<()> {
        self.rooms()?.put_card(card, members, self.clock.now());
        Ok(())
    }

    async fn card(&self, room: &RoomId) -> Result<CardEntry> {
        Ok(self.rooms()?.card(room, self.clock.now()))
    }

    async fn bury(&self, room: &RoomId, version: u64, ttl: Duration) -> Result<()> {
        self.rooms()?.bury(room, version, self.clock.now(), ttl);
        Ok(())
    }

    async fn forget_room(&self, room: &RoomId, version: u64) -> Result<()> {
        self.rooms()?.forget_up_to(room, version);
        Ok(())
    }

    async fn index(&self, session: &IndexedSession) -> Result<()> {
        self.nodes()?.index(session);
        Ok(())
    }

    async fn unindex(&self, node: &NodeRef, session: SessionId) -> Result<()> {
        self.nodes()?.unindex(node, session);
        Ok(())
    }

    async fn slice_versions(&self, node: &NodeRef) -> Result<Option<[u64; SLICES]>> {
        Ok(self.nodes()?.slice_versions(node))
    }

    async fn set_slice_versions(&self, node: &NodeRef, versions: &[(usize, u64)]) -> Result<()> {
        let mut nodes = self.nodes()?;
        if let Some((slice, _)) = versions.iter().find(|(slice, _)| *slice >= SLICES) {
            return Err(Error::Failed {
                backend: BACKEND,
                context: format!("write the version of slice {slice}: there are {SLICES}"),
                source: None,
            });
        }
        nodes.set_slice_versions(node, versions);
        Ok(())
    }

    async fn indexed(&self, node: &NodeRef, slice: usize) -> Result<Vec<IndexedSession>> {
        Ok(self.nodes()?.indexed(node, slice))
    }

    async fn indexed_nodes(&self) -> Result<Vec<NodeRef>> {
        Ok(self.nodes()?.all())
    }

    async fn set_load(&self, node: &NodeRef, load: Load, ttl: Duration) -> Result<()> {
        self.nodes()?.set_load(node, load, self.clock.now(), ttl);
        Ok(())
    }

    async fn load(&self, node: &NodeRef) -> Result<Option<(Load, Duration)>> {
        Ok(self.nodes()?.load(node, self.clock.now()))
    }

    async fn forget_node(&self, node: &NodeRef) -> Result<()> {
        self.nodes()?.forget(node);
        Ok(())
    }

    async fn due_absences(&self, now: StoreTime, limit: usize) -> Result<Vec<(RoomId, UserId)>> {
        Ok(self.rooms()?.due_absences(now, limit))
    }

    async fn generation(&self) -> Result<u64> {
        self.check_available()?;
        Ok(*lock(&self.generation))
    }
}
