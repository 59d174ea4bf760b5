//! The node's end of the lanes: one per life of a push-manager, kept over breaks of its stream.

pub mod deliver;
mod queue;
pub mod state;
pub mod stream;
pub mod wakes;

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use roomcast_proto::pubsub::{Interest, LaneHello, LanePing, LaneUp, up_item::Item};
use roomcast_types::{Incarnation, ServiceId};
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::{CancellationToken, DropGuard};

use self::state::{Arrival, Attached, Full, LaneState, Limits};
use crate::{hub::announcement::AnnouncementId, tally::Tally};

/// Push-managers at once, those of the last minute included.
pub const LANES_MAX: usize = 256;

/// Messages whose outcomes are told anew when the lane forgot its numbers: as long as a push-manager keeps receipts.
const RECENT_MAX: usize = 4_096;
const RECENT_FOR: Duration = Duration::from_secs(120);

/// A lane. Its lock is short, and may be taken while the hub's is held, never the other way round.
pub struct Lane {
    pub manager_id: ServiceId,
    pub incarnation: Incarnation,
    inner: Mutex<Inner>,
    /// host:port of the push-manager's gRPC interface; empty until its hello.
    address: Mutex<String>,
    recent: Mutex<VecDeque<(Instant, Arc<Tally>)>>,
}

struct Inner {
    state: LaneState,
    current: Option<Current>,
}

/// The stream that holds the lane.
#[derive(Clone)]
struct Current {
    /// Ends the stream.
    end: CancellationToken,
    /// Cancelled when its reader is through with its last item.
    done: CancellationToken,
    /// Wakes its writer.
    wake: Arc<Notify>,
}

/// A place on the lane for one stream; dropping it says that its reader is through.
pub struct Seat {
    current: Current,
    done: DropGuard,
}

impl Lane {
    /// A lane that nothing was put on yet.
    pub fn new(manager_id: ServiceId, incarnation: Incarnation, limits: Limits, now: Instant) -> Self {
        let inner = Inner { state: LaneState::new(limits, now), current: None };
        let (address, recent) = (Mutex::default(), Mutex::default());
        Self { manager_id, incarnation, inner: Mutex::new(inner), address, recent }
    }

    /// Where the push-manager reads logs.
    pub fn address(&self) -> String {
        self.address.lock().expect("no holder of this lock panics").clone()
    }

    /// Takes the address of a hello.
    pub fn set_address(&self, address: &str) {
        address.clone_into(&mut self.address.lock().expect("no holder of this lock panics"));
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no holder of this lock panics")
    }

    /// Takes the lane over for a newer stream. Waits until the older one is through with the item in its hands, so
    /// that no item is handed on twice.
    pub async fn take_over(&self) -> Seat {
        let done = CancellationToken::new();
        let current = Current { end: CancellationToken::new(), done: done.clone(), wake: Arc::default() };
        let older = self.inner().current.replace(current.clone());
        let seat = Seat { current, done: done.drop_guard() };
        if let Some(older) = older {
            older.end.cancel();
            older.done.cancelled().await;
        }
        seat
    }

    /// Begins the stream of this seat with a snapshot; `None` when a newer stream took the lane meanwhile.
    pub fn attach(
        &self,
        seat: &Seat,
        hello: &LaneHello,
        snapshot: Vec<Interest>,
        now: Instant,
    ) -> Option<Attached> {
        let mut inner = self.inner();
        if seat.current.end.is_cancelled() {
            return None;
        }
        let attached = inner.state.attach(hello, now);
        let put = inner.state.snapshot(snapshot);
        inner.after(put);
        Some(attached)
    }

    /// As [`Self::attach`] where nothing else may want the lane.
    #[cfg(test)]
    pub fn attach_alone(&self, hello: &LaneHello, snapshot: Vec<Interest>, now: Instant) -> Attached {
        let mut inner = self.inner();
        let attached = inner.state.attach(hello, now);
        let put = inner.state.snapshot(snapshot);
        inner.after(put);
        attached
    }

    /// Ends the stream that holds the lane, if there is one.
    pub fn end(&self) {
        if let Some(current) = &self.inner().current {
            current.end.cancel();
        }
    }

    /// Ends a stream; whether it held the lane.
    pub fn detach(&self, stream: u64, now: Instant) -> bool {
        self.inner().state.detach(stream, now)
    }

    /// Puts a change of interest on the lane; until when the announcement waits for it, if it does.
    pub fn announce(&self, change: &Interest, id: AnnouncementId, now: Instant) -> Option<Instant> {
        let mut inner = self.inner();
        let (deadline, put) = inner.state.announce(change.clone(), id, now);
        inner.after(put);
        deadline
    }

    /// Puts a change of interest on the lane that nobody waits for.
    pub fn tell(&self, change: &Interest) {
        let mut inner = self.inner();
        let put = inner.state.tell(change.clone()).map(|_| ());
        inner.after(put);
    }

    /// Puts an outcome on the lane.
    pub fn push(&self, item: Item) {
        let mut inner = self.inner();
        let put = inner.state.push(item).map(|_| ());
        inner.after(put);
    }

    /// Remembers a message whose outcomes go up this lane.
    pub fn remember(&self, tally: Arc<Tally>, now: Instant) {
        let mut recent = self.recent.lock().expect("no holder of this lock panics");
        while recent.len() >= RECENT_MAX || recent.front().is_some_and(|(at, _)| now - *at > RECENT_FOR) {
            recent.pop_front();
        }
        recent.push_back((now, tally));
    }

    /// Puts the outcomes of recent messages on the lane once more.
    pub fn tell_again(&self) {
        let recent: Vec<_> = {
            let recent = self.recent.lock().expect("no holder of this lock panics");
            recent.iter().map(|(_, tally)| tally.clone()).collect()
        };
        recent.iter().for_each(|tally| tally.tell_again());
    }

    pub fn ping(&self, ping: LanePing, now: Instant) {
        let mut inner = self.inner();
        inner.state.ping(ping, now);
        inner.wake();
    }

    /// See [`LaneState::up_ack`]; also whether the lane came into sync by it.
    pub fn up_ack(&self, number: u64) -> Option<(Vec<AnnouncementId>, bool)> {
        let mut inner = self.inner();
        let was_in_sync = inner.state.is_in_sync();
        let released = inner.state.up_ack(number)?;
        Some((released, !was_in_sync && inner.state.is_in_sync()))
    }

    pub fn arrival(&self, number: u64) -> Arrival {
        self.inner().state.arrival(number)
    }

    /// So many more items were handed on.
    pub fn processed(&self, items: u64) {
        self.inner().state.processed(items);
    }

    /// See [`LaneState::ask_ack`].
    pub fn ask_ack(&self) {
        let mut inner = self.inner();
        inner.state.ask_ack();
        inner.wake();
    }

    pub fn next_message(&self, stream: u64) -> Option<LaneUp> {
        self.inner().state.next_message(stream)
    }

    /// See [`LaneState::overdue`].
    pub fn overdue(&self, now: Instant) -> Vec<AnnouncementId> {
        self.inner().state.overdue(now)
    }

    /// See [`LaneState::next_deadline`].
    pub fn next_deadline(&self) -> Option<Instant> {
        self.inner().state.next_deadline()
    }

    /// See [`LaneState::is_abandoned`].
    pub fn is_abandoned(&self, since: Instant) -> bool {
        self.inner().state.is_abandoned(since)
    }

    /// See [`LaneState::is_in_sync`].
    pub fn is_in_sync(&self) -> bool {
        self.inner().state.is_in_sync()
    }

    /// Whether nothing waits to be sent or acknowledged, or nobody is there to take it.
    pub fn is_settled(&self) -> bool {
        let inner = self.inner();
        !inner.state.is_attached() || inner.state.is_settled()
    }

    /// Whether the push-manager has taken everything that was put on the lane.
    pub fn is_taken(&self) -> bool {
        let inner = self.inner();
        inner.state.is_attached() && inner.state.is_settled()
    }

    /// Items that the current stream has to send again.
    pub fn resending(&self) -> u64 {
        self.inner().state.resending()
    }
}

impl Inner {
    /// A lane that is full lost its items: only a new stream, with a new snapshot, helps.
    fn after(&mut self, put: Result<(), Full>) {
        match (put, &self.current) {
            (Ok(()), _) => self.wake(),
            (Err(Full), Some(current)) => current.end.cancel(),
            (Err(Full), None) => {}
        }
    }

    fn wake(&self) {
        if let Some(current) = &self.current {
            wakes::wake(&current.wake);
        }
    }
}
