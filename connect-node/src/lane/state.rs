//! One lane as numbers and times: what waits for a push-manager, what it has acknowledged, and until when it is trusted.
//!
//! Pure: time comes as an argument. A lane outlives its streams; [`LaneState::attach`] begins each of them.
//!
//! | event | effect |
//! |---|---|
//! | attach | unacknowledged items go out again from the first one the push-manager has not seen; a snapshot follows |
//! | push, announce | numbered and kept until acknowledged; full: the lane starts afresh with its next stream |
//! | ping | echoed behind every item put on the lane before |
//! | an item came down | acknowledged with whatever goes up next, or when the caller asks for it |
//! | up_ack | items up to it are dropped, announcements up to it are acknowledged |
//! | trust ran out | announcements made a trust time after the last echo before them no longer wait for this lane |
//! | detach | nothing is sent; items and announcements keep waiting |

use std::{collections::VecDeque, time::Duration};

use roomcast_proto::pubsub::{Interest, LaneHello, LanePing, LaneUp, interest::Snapshot, up_item::Item};
use tokio::time::Instant;

use super::queue::Queue;
use crate::hub::announcement::AnnouncementId;

/// Bounds of one lane.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Items that may wait for an acknowledgement.
    pub items_max: usize,
    /// Their bytes.
    pub bytes_max: usize,
    /// How long a push-manager trusts an echo.
    pub trust: Duration,
}

impl Limits {
    /// The bounds of a node, with the trust time of its push-managers.
    pub fn new(trust: Duration) -> Self {
        Self { items_max: 65_536, bytes_max: 64 << 20, trust }
    }
}

/// Echoes that wait behind items; a ping beyond them is not answered, which only costs trust.
const PONGS_MAX: usize = 16;

/// The lane cannot keep more: it was emptied and its stream must end, so that the next one brings a snapshot.
#[derive(Debug, PartialEq, Eq)]
pub struct Full;

/// What a down number is.
#[derive(Debug, PartialEq, Eq)]
pub enum Arrival {
    /// The one after the last processed.
    Next,
    /// Processed before.
    Repeat,
    /// Something before it is missing.
    Gap,
}

/// What the node answers to a hello.
#[derive(Debug, PartialEq, Eq)]
pub struct Attached {
    /// Names the stream; calls for an older one change nothing.
    pub stream: u64,
    /// The last down number processed.
    pub down_seen: u64,
    /// Numbers start at 1 again, in both directions.
    pub is_fresh: bool,
}

/// An announcement that waits for this lane.
#[derive(Debug)]
struct Awaited {
    /// Released when this number is acknowledged; `u64::MAX` until the next snapshot tells it.
    number: u64,
    /// Released at this time regardless.
    deadline: Instant,
    announcement: AnnouncementId,
}

/// See the module.
pub struct LaneState {
    limits: Limits,
    /// Whether anything happened since the numbers started at 1.
    is_used: bool,
    down_seen: u64,
    /// The last down number that the push-manager was told.
    down_told: u64,
    /// It is to be told even if nothing else goes up.
    is_ack_due: bool,
    queue: Queue,
    /// Echoes, each behind the item of this number.
    pongs: VecDeque<(u64, LanePing)>,
    last_echo: Option<Instant>,
    /// In the order of their numbers, and so of their deadlines.
    awaited: VecDeque<Awaited>,
    /// Number of the last part of the snapshot of the current stream.
    snapshot_end: u64,
    is_in_sync: bool,
    stream: u64,
    is_attached: bool,
    detached_at: Instant,
}

impl LaneState {
    /// A lane that nothing was put on yet.
    pub fn new(limits: Limits, now: Instant) -> Self {
        Self {
            limits,
            is_used: false,
            down_seen: 0,
            down_told: 0,
            is_ack_due: false,
            queue: Queue::new(limits.items_max, limits.bytes_max),
            pongs: VecDeque::new(),
            last_echo: None,
            awaited: VecDeque::new(),
            snapshot_end: 0,
            is_in_sync: false,
            stream: 0,
            is_attached: false,
            detached_at: now,
        }
    }

    /// Begins a stream, ending an older one. The caller puts a snapshot on the lane before anything else.
    pub fn attach(&mut self, hello: &LaneHello, now: Instant) -> Attached {
        // Below: those items are gone. Above: it speaks of another life of this lane.
        if !self.queue.continues_from(hello.up_seen) {
            self.reset();
        }
        let is_fresh = !self.is_used;
        if is_fresh {
            // An older stream may have handed an item on after the numbers were forgotten.
            self.down_seen = 0;
        }
        self.queue.drop_up_to(hello.up_seen);
        self.queue.rewind();
        self.is_used = true;
        self.is_attached = true;
        self.is_in_sync = false;
        self.stream += 1;
        self.down_told = self.down_seen;
        self.pongs.clear();
        // What it learns from the snapshot it may trust as much as an echo.
        self.last_echo = Some(now);
        Attached { stream: self.stream, down_seen: self.down_seen, is_fresh }
    }

    /// Puts the parts of a snapshot on the lane; there is at least one.
    pub fn snapshot(&mut self, parts: Vec<Interest>) -> Result<(), Full> {
        let count = parts.len();
        for (index, mut part) in parts.into_iter().enumerate() {
            let mark = if index + 1 == count { Snapshot::Last } else { Snapshot::Part };
            part.set_snapshot(mark);
            self.push(Item::Interest(part))?;
        }
        self.snapshot_end = self.queue.last();
        for awaited in self.awaited.iter_mut().filter(|awaited| awaited.number == u64::MAX) {
            awaited.number = self.snapshot_end;
        }
        Ok(())
    }

    /// Ends a stream, if it still is the current one; whether it was.
    pub fn detach(&mut self, stream: u64, now: Instant) -> bool {
        if stream != self.stream || !self.is_attached {
            return false;
        }
        self.is_attached = false;
        self.is_in_sync = false;
        self.pongs.clear();
        self.detached_at = now;
        true
    }

    /// Numbers an item and keeps it until it is acknowledged.
    pub fn push(&mut self, item: Item) -> Result<u64, Full> {
        if !self.is_used {
            // No stream yet: the first one begins with a snapshot.
            return Ok(0);
        }
        self.queue.push(item).ok_or_else(|| {
            self.reset();
            Full
        })
    }

    /// Puts a change of interest on the lane, together with one that has not left yet where possible.
    pub fn tell(&mut self, change: Interest) -> Result<u64, Full> {
        match self.queue.merge(change, self.snapshot_end) {
            Ok(number) => Ok(number),
            Err(change) => self.push(Item::Interest(change)),
        }
    }

    /// As [`Self::tell`]. While the push-manager may trust what it knew before, the announcement waits for this lane:
    /// until the time returned, or an acknowledgement.
    pub fn announce(
        &mut self,
        change: Interest,
        announcement: AnnouncementId,
        now: Instant,
    ) -> (Option<Instant>, Result<(), Full>) {
        let told = self.tell(change);
        let deadline = self.last_echo.map(|echo| echo + self.limits.trust).filter(|deadline| *deadline > now);
        if let Some(deadline) = deadline {
            let number = match told {
                Ok(number) if self.is_used => number,
                _ => u64::MAX,
            };
            self.awaited.push_back(Awaited { number, deadline, announcement });
        }
        (deadline, told.map(|_| ()))
    }

    /// Echoes a ping behind everything that is on the lane now.
    pub fn ping(&mut self, ping: LanePing, now: Instant) {
        if self.pongs.len() < PONGS_MAX {
            self.pongs.push_back((self.queue.last(), ping));
            self.last_echo = Some(now);
        }
    }

    /// Takes a cumulative acknowledgement; the announcements that no longer wait for this lane. `None`: the number
    /// was never sent, the peer is broken.
    pub fn up_ack(&mut self, number: u64) -> Option<Vec<AnnouncementId>> {
        if number > self.queue.sent() {
            return None;
        }
        self.queue.drop_up_to(number);
        if self.is_attached && number >= self.snapshot_end {
            self.is_in_sync = true;
        }
        Some(self.release(|awaited| awaited.number <= number))
    }

    /// The announcements whose time has come.
    pub fn overdue(&mut self, now: Instant) -> Vec<AnnouncementId> {
        self.release(|awaited| awaited.deadline <= now)
    }

    /// When the next announcement is overdue.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.awaited.front().map(|awaited| awaited.deadline)
    }

    fn release(&mut self, is_over: impl Fn(&Awaited) -> bool) -> Vec<AnnouncementId> {
        let mut released = Vec::new();
        while let Some(awaited) = self.awaited.pop_front_if(|awaited| is_over(awaited)) {
            released.push(awaited.announcement);
        }
        released
    }

    /// What a down number of the current stream is.
    pub fn arrival(&self, number: u64) -> Arrival {
        match number {
            _ if number <= self.down_seen => Arrival::Repeat,
            _ if number == self.down_seen + 1 => Arrival::Next,
            _ => Arrival::Gap,
        }
    }

    /// The next down numbers were handed on, so many.
    pub fn processed(&mut self, items: u64) {
        self.down_seen += items;
    }

    /// What was handed on is acknowledged now, whether or not anything else goes up.
    pub fn ask_ack(&mut self) {
        self.is_ack_due = true;
    }

    /// What goes out next on this stream; `None` when nothing waits, or the stream is not the current one.
    pub fn next_message(&mut self, stream: u64) -> Option<LaneUp> {
        if stream != self.stream || !self.is_attached {
            return None;
        }
        // An echo travels alone, behind the items before it: then no reader can take it to stand before them.
        if let Some((after, ping)) = self.pongs.front()
            && *after <= self.queue.sent()
        {
            let pong = Some(*ping);
            self.pongs.pop_front();
            return Some(LaneUp { pong, down_ack: self.take_down_ack(), ..LaneUp::default() });
        }
        let until = self.pongs.front().map_or(u64::MAX, |(after, _)| *after);
        let (first_number, items) = self.queue.take(until);
        if items.is_empty() && !self.is_ack_due {
            return None;
        }
        let down_ack = self.take_down_ack();
        if items.is_empty() && down_ack == 0 {
            return None;
        }
        let first_number = if items.is_empty() { 0 } else { first_number };
        Some(LaneUp { first_number, items, down_ack, ..LaneUp::default() })
    }

    fn take_down_ack(&mut self) -> u64 {
        self.is_ack_due = false;
        if self.down_told == self.down_seen {
            return 0;
        }
        self.down_told = self.down_seen;
        self.down_seen
    }

    /// Whether the push-manager has acknowledged the snapshot of the current stream.
    pub fn is_in_sync(&self) -> bool {
        self.is_in_sync
    }

    /// Whether a stream is on.
    pub fn is_attached(&self) -> bool {
        self.is_attached
    }

    /// Whether everything was acknowledged in both directions.
    pub fn is_settled(&self) -> bool {
        self.queue.is_empty() && self.down_told == self.down_seen
    }

    /// Whether there is no stream since before this time, nothing waits for one, and no echo after it is trusted.
    pub fn is_abandoned(&self, since: Instant) -> bool {
        let is_silent = self.detached_at <= since && self.last_echo.is_none_or(|echo| echo <= since);
        !self.is_attached && is_silent && self.awaited.is_empty()
    }

    /// Items sent on an earlier stream that this one has to send again.
    pub fn resending(&self) -> u64 {
        self.queue.resending()
    }

    /// Forgets the numbers; announcements wait for the next snapshot, or their deadline.
    fn reset(&mut self) {
        self.queue.reset();
        self.pongs.clear();
        self.is_used = false;
        self.is_attached = false;
        self.is_in_sync = false;
        self.snapshot_end = 0;
        (self.down_seen, self.down_told) = (0, 0);
        for awaited in &mut self.awaited {
            awaited.number = u64::MAX;
        }
    }
}
