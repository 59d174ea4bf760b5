//! The shared memory of who is where, behind one trait: process memory here, Redis in a cluster.
//!
//! Everything in it can be rebuilt from the nodes' reports and from the record. Facts are grouped by tag: sessions of
//! a user `{u:U}`, presence and card of a room `{r:R}`, index of a node's sessions `{n:N:I}`. Each method touches one
//! tag and is atomic. Indexes (`{n:…}` and the due list) are written before the fact and removed after it, and are
//! never believed: who reads one checks the fact.

use std::time::Duration;

use async_trait::async_trait;
use roomcast_types::{
    ClientId, Incarnation, NodeId, RoomCard, RoomId, SessionId, SessionPolicy, StoreTime, UserId,
};

use crate::{counters::Counters, error::Result};

/// Report slices of a node.
pub const SLICES: usize = 64;

/// One life of a node.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NodeRef {
    /// The node.
    pub node_id: NodeId,
    /// Which life of it.
    pub incarnation: Incarnation,
}

/// How full a node says that it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    /// Sessions that it holds.
    pub sessions: u64,
    /// Sessions that it takes at most.
    pub sessions_max: u64,
    /// Rooms that its sessions are in.
    pub rooms: u64,
}

/// A session as `{u:U}:sessions` holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionEntry {
    /// The session.
    pub session_id: SessionId,
    /// Where it lives.
    pub node: NodeRef,
    /// Names its slot, with the user.
    pub client_id: ClientId,
    /// When its socket opened, on the store's clock: the later one holds the slot. Equal stamps: the greater
    /// session id does.
    pub stamp: StoreTime,
}

/// What a claim of a slot came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// The session holds its slot; the sessions given lost it and were removed.
    Held {
        /// To be closed with 4500.
        displaced: Vec<SessionEntry>,
    },
    /// A later session holds the slot; the claimer was not stored.
    Lost {
        /// The holder.
        holder: SessionId,
    },
}

/// How a session goes out of a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// The connection ended: the user's last session leaves it absent since `now`, its seat kept for the grace.
    Away {
        /// The store's clock.
        now: StoreTime,
        /// When the absence becomes due for release; `None` when the seat is durable.
        due: Option<StoreTime>,
    },
    /// The user left: with its last session it is neither online nor absent.
    Left,
}

/// What a room's presence holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Occupancy {
    /// Users with their sessions in the room.
    pub online: Vec<(UserId, Vec<SessionId>)>,
    /// Users that hold a seat without a session, since when.
    pub absent: Vec<(UserId, StoreTime)>,
}

/// What the shared memory knows of a room's card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CardEntry {
    /// Nothing: ask the record.
    Unknown,
    /// The card, and the number of seats when it was last written.
    Known {
        /// The card.
        card: RoomCard,
        /// Seats.
        members: u64,
    },
    /// Deleted by request; answers ROOM_DELETED until the time given to [`Presence::bury`].
    Buried {
        /// The version of the deletion.
        version: u64,
    },
}

/// A session in a node's index, in full: what `ListSessions` shows and what the sweep of a dead node needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexedSession {
    /// The session's own field of `{u:U}:sessions`.
    pub entry: SessionEntry,
    /// Who.
    pub user_id: UserId,
    /// For display.
    pub user_name: String,
    /// Rooms it is in.
    pub rooms: Vec<RoomId>,
}

/// Who is where. Any number of controllers share one; every method is atomic, idempotent where repeated with the same
/// arguments, and touches one tag. Errors: `Unavailable` or `Failed`.
#[async_trait]
pub trait Presence: Send + Sync + 'static {
    /// The store's clock, the only one that stamps and graces are compared on.
    async fn now(&self) -> Result<StoreTime>;

    // ---- {u:U} ----

    /// Claims the slot of `entry` for it: see [`Claim`]. A claimer that was stored before and lost is removed. Repeating a claim that is held returns `Held` with nobody
    /// displaced.
    async fn claim(&self, user: &UserId, entry: &SessionEntry, policy: SessionPolicy) -> Result<Claim>;

    /// Removes one session's own field and nothing else; whether it was there.
    async fn drop_session(&self, user: &UserId, session: SessionId) -> Result<bool>;

    /// Sessions of a user, newest stamp first.
    async fn sessions(&self, user: &UserId) -> Result<Vec<SessionEntry>>;

    // ---- {r:R} ----

    /// If the user is online or absent in the room (so holds a seat), puts the session online, ends the absence, and
    /// returns true: a rejoin needs no SQL. Else changes nothing. A buried room is false.
    async fn rejoin(&self, room: &RoomId, user: &UserId, session: SessionId) -> Result<bool>;

    /// Puts the session online, whatever was known; ends an absence. For a session that was just admitted or reported.
    async fn enter(&self, room: &RoomId, user: &UserId, session: SessionId) -> Result<()>;

    /// Takes the session out; returns how many sessions of the user are left in the room. A session that is not there
    /// changes nothing: a late leave removes its own field only, and never makes an online user absent.
    async fn exit(&self, room: &RoomId, user: &UserId, session: SessionId, how: Exit) -> Result<u64>;

    /// Marks a user without sessions as absent since `now` unless it is online or absent already; for seats found in
    /// the record without presence. Whether it was marked.
    async fn mark_absent(
        &self,
        room: &RoomId,
        user: &UserId,
        now: StoreTime,
        due: Option<StoreTime>,
    ) -> Result<bool>;

    /// Removes the absence if the user has been absent since `before` or earlier and has no session: from then on a
    /// rejoin goes through admission. Whether it did: the caller then releases the seat in the record, conditional on
    /// the seat version it read before this call.
    async fn take_absence(&self, room: &RoomId, user: &UserId, before: StoreTime) -> Result<bool>;

    /// Removes a user from the room's presence altogether, whatever was known; returns its sessions there.
    async fn evict(&self, room: &RoomId, user: &UserId) -> Result<Vec<SessionId>>;

    /// Everybody in the room's presence.
    async fn occupancy(&self, room: &RoomId) -> Result<Occupancy>;

    /// Sessions online in the room and users online, as counts: (sessions, users).
    async fn online_counts(&self, room: &RoomId) -> Result<(u64, u64)>;

    /// Writes the card unless a newer version is known, and in either case the number of seats. A buried id is unburied by an
    /// active card of a higher version only.
    async fn put_card(&self, card: &RoomCard, members: u64) -> Result<()>;

    /// What is known of the card.
    async fn card(&self, room: &RoomId) -> Result<CardEntry>;

    /// Forgets the room's card and presence, and answers [`CardEntry::Buried`] for `ttl`. Changes nothing when a card
    /// above `version` is known: the room was created anew meanwhile.
    async fn bury(&self, room: &RoomId, version: u64, ttl: Duration) -> Result<()>;

    /// Forgets the room's card and presence; a burial stays. Changes nothing when a card above `version` is known:
    /// the room was created anew meanwhile.
    async fn forget_room(&self, room: &RoomId, version: u64) -> Result<()>;

    // ---- indexes ----

    /// Writes one session into its node's index (replacing what was there for it).
    async fn index(&self, session: &IndexedSession) -> Result<()>;

    /// Removes one session from a node's index.
    async fn unindex(&self, node: &NodeRef, session: SessionId) -> Result<()>;

    /// The versions of a node's slices; `None` when nothing is known of this life of the node.
    async fn slice_versions(&self, node: &NodeRef) -> Result<Option<[u64; SLICES]>>;

    /// Writes versions of slices, after the facts. A version never goes down within one life of a node.
    async fn set_slice_versions(&self, node: &NodeRef, versions: &[(usize, u64)]) -> Result<()>;

    /// Sessions of one slice of a node.
    async fn indexed(&self, node: &NodeRef, slice: usize) -> Result<Vec<IndexedSession>>;

    /// Every life of every node that has an index.
    async fn indexed_nodes(&self) -> Result<Vec<NodeRef>>;

    /// Writes how full a node says that it is, in place of what it said before. Forgotten after `ttl` on the store's
    /// clock: what can be read is that young.
    async fn set_load(&self, node: &NodeRef, load: Load, ttl: Duration) -> Result<()>;

    /// How full a node said that it is, and what is left of its time; `None` when no controller wrote it, or its time
    /// is over.
    async fn load(&self, node: &NodeRef) -> Result<Option<(Load, Duration)>>;

    /// Forgets the index and the load of one life of a node, after its sessions were dropped.
    async fn forget_node(&self, node: &NodeRef) -> Result<()>;

    /// Absences whose due time has come, oldest first, at most `limit`. An entry stays until the absence ended or
    /// was taken.
    async fn due_absences(&self, now: StoreTime, limit: usize) -> Result<Vec<(RoomId, UserId)>>;

    /// A number that changes when this memory lost its content (a flush, a restart): who remembers another one audits
    /// the seats.
    async fn generation(&self) -> Result<u64>;

    /// What this handle has counted.
    fn counters(&self) -> Counters {
        Counters::default()
    }
}
