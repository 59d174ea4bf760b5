//! Stores that a test can make hang: a call then waits until they go on, as a frozen server lets it.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use roomcast_store::{
    Counters, Presence, Result, Rooms,
    presence::{CardEntry, Claim, Exit, IndexedSession, Load, NodeRef, Occupancy, SLICES, SessionEntry},
    rooms::{
        Admission, NewRoom, ReadMark, RoomChange, RoomRequests, RoomRow, RoomTotals, SeatRequest, SeatRow,
    },
};
use roomcast_types::{Position, RoomCard, RoomId, SessionId, SessionPolicy, StoreTime, UserId};
use tokio::sync::watch;

/// A store, and whether it stands still.
pub struct Stalling<T> {
    store: Arc<T>,
    is_stalled: watch::Sender<bool>,
    waiting: std::sync::atomic::AtomicUsize,
    calls: std::sync::atomic::AtomicUsize,
}

/// A call that waits.
struct Waiting<'a>(&'a std::sync::atomic::AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
    }
}

impl<T> Stalling<T> {
    /// One that works.
    pub fn over(store: Arc<T>) -> Arc<Self> {
        Arc::new(Self {
            store,
            is_stalled: watch::Sender::new(false),
            waiting: Default::default(),
            calls: Default::default(),
        })
    }

    pub fn stall(&self) {
        self.is_stalled.send_replace(true);
    }

    pub fn go_on(&self) {
        self.is_stalled.send_replace(false);
    }

    /// Calls that wait now.
    pub fn waiting(&self) -> usize {
        self.waiting.load(std::sync::atomic::Ordering::SeqCst)
    }

    /// Calls made so far.
    pub fn calls(&self) -> usize {
        self.calls.load(std::sync::atomic::Ordering::SeqCst)
    }

    async fn turn(&self) -> &T {
        self.calls.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        if *self.is_stalled.borrow() {
            self.waiting.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            let _waiting = Waiting(&self.waiting);
            let _ = self.is_stalled.subscribe().wait_for(|is_stalled| !is_stalled).await;
        }
        &self.store
    }
}

/// Passes each call on when the store's turn has come.
macro_rules! pass_on {
    ($store:ident: $($name:ident($($argument:ident: $kind:ty),*) -> $answer:ty;)*) => {
        #[async_trait]
        impl<T: $store> $store for Stalling<T> {
            $(async fn $name(&self, $($argument: $kind),*) -> Result<$answer> {
                self.turn().await.$name($($argument),*).await
            })*

            fn counters(&self) -> Counters {
                self.store.counters()
            }
        }
    };
}

pass_on! {
    Rooms:
    admit(room: &RoomId, requests: &[SeatRequest], create: Option<NewRoom>, now: StoreTime) -> Admission;
    admit_together(rooms: &[RoomRequests], now: StoreTime) -> Vec<Option<Admission>>;
    create(room: &RoomId, new: NewRoom, now: StoreTime) -> RoomRow;
    update(room: &RoomId, change: RoomChange, now: StoreTime) -> RoomRow;
    delete(room: &RoomId) -> Option<RoomRow>;
    delete_if_empty(room: &RoomId, before: StoreTime) -> bool;
    room(room: &RoomId) -> Option<RoomRow>;
    rooms(after: Option<&RoomId>, limit: u32) -> Vec<RoomRow>;
    empty_rooms(before: StoreTime, limit: u32) -> Vec<RoomId>;
    seats(room: &RoomId, after: Option<&UserId>, limit: u32) -> Vec<SeatRow>;
    seat(room: &RoomId, user: &UserId) -> Option<SeatRow>;
    release(room: &RoomId, seats: &[(UserId, Option<u64>)], now: StoreTime) -> u64;
    mark_read(marks: &[ReadMark]) -> ();
    read_positions(room: &RoomId, users: &[UserId]) -> Vec<Option<Position>>;
    totals() -> RoomTotals;
    ping() -> ();
}

pass_on! {
    Presence:
    now() -> StoreTime;
    claim(user: &UserId, entry: &SessionEntry, policy: SessionPolicy) -> Claim;
    drop_session(user: &UserId, session: SessionId) -> bool;
    sessions(user: &UserId) -> Vec<SessionEntry>;
    rejoin(room: &RoomId, user: &UserId, session: SessionId) -> bool;
    enter(room: &RoomId, user: &UserId, session: SessionId) -> ();
    exit(room: &RoomId, user: &UserId, session: SessionId, how: Exit) -> u64;
    mark_absent(room: &RoomId, user: &UserId, now: StoreTime, due: Option<StoreTime>) -> bool;
    take_absence(room: &RoomId, user: &UserId, before: StoreTime) -> bool;
    evict(room: &RoomId, user: &UserId) -> Vec<SessionId>;
    occupancy(room: &RoomId) -> Occupancy;
    online_counts(room: &RoomId) -> (u64, u64);
    put_card(card: &RoomCard, members: u64) -> ();
    card(room: &RoomId) -> CardEntry;
    bury(room: &RoomId, version: u64, ttl: Duration) -> ();
    forget_room(room: &RoomId, version: u64) -> ();
    index(session: &IndexedSession) -> ();
    unindex(node: &NodeRef, session: SessionId) -> ();
    slice_versions(node: &NodeRef) -> Option<[u64; SLICES]>;
    set_slice_versions(node: &NodeRef, versions: &[(usize, u64)]) -> ();
    indexed(node: &NodeRef, slice: usize) -> Vec<IndexedSession>;
    indexed_nodes() -> Vec<NodeRef>;
    set_load(node: &NodeRef, load: Load, ttl: Duration) -> ();
    load(node: &NodeRef) -> Option<(Load, Duration)>;
    forget_node(node: &NodeRef) -> ();
    due_absences(now: StoreTime, limit: usize) -> Vec<(RoomId, UserId)>;
    generation() -> u64;
}
