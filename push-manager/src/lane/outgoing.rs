//! What goes down one lane next: hello, ping, acknowledgement and the queue, composed into one message.

use std::task::Waker;

use roomcast_proto::pubsub::{DownItem, LaneDown, LaneHello, LanePing, Outcome};

use super::{
    Parcel, Refusal,
    awaiting::Awaiting,
    outbox::{BatchBounds, Bounds, Outbox},
};
use crate::{
    metrics::QueueMetrics,
    push::{Ticket, Verdict},
};

/// What travels in one message: small enough that a ping behind it is not late, and far below what a node takes.
const BATCH: BatchBounds = BatchBounds { items: 256, bytes: 256 * 1024 };

/// Everything a lane wants to say. Behind the lane's lock.
#[derive(Debug)]
pub struct Outgoing {
    outbox: Outbox<Parcel>,
    awaiting: Awaiting<Ticket>,
    /// Counts connections; a stream of an earlier one ends.
    connection: u64,
    hello: Option<LaneHello>,
    /// Whether the node answered the hello of this connection.
    is_linked: bool,
    is_dead: bool,
    ping_is_due: bool,
    /// Last up number processed, and the one last acknowledged.
    up_seen: u64,
    up_acked: u64,
    waker: Option<Waker>,
    metrics: QueueMetrics,
    /// Messages and bytes as the gauges count them.
    counted: (usize, usize),
}

impl Outgoing {
    pub fn new(bounds: Bounds, deadline_us: u64, metrics: QueueMetrics) -> Self {
        Self {
            outbox: Outbox::new(bounds, deadline_us),
            awaiting: Awaiting::new(),
            connection: 0,
            hello: None,
            is_linked: false,
            is_dead: false,
            ping_is_due: false,
            up_seen: 0,
            up_acked: 0,
            waker: None,
            metrics,
            counted: (0, 0),
        }
    }

    /// The waker of the stream, to be woken outside the lock.
    pub fn waker(&mut self) -> Option<Waker> {
        self.waker.take()
    }

    pub fn set_waker(&mut self, waker: &Waker) {
        self.waker = Some(waker.clone());
    }

    pub fn connection(&self) -> u64 {
        self.connection
    }

    pub fn queued(&self) -> usize {
        self.outbox.len()
    }

    pub fn push(&mut self, parcel: Parcel, bytes: usize, now_us: u64) -> Result<(), (Parcel, Refusal)> {
        if self.is_dead {
            return Err((parcel, Refusal::Dead));
        }
        let queued = self.outbox.push(parcel, bytes, now_us).map_err(|parcel| (parcel, Refusal::Full));
        self.count();
        queued
    }

    /// A connection begins with this hello; streams of earlier ones end. Returns its number.
    pub fn begin(&mut self, hello: LaneHello) -> u64 {
        self.hello = Some(hello);
        self.end()
    }

    /// The connection ended. Returns the number that the next one has.
    pub fn end(&mut self) -> u64 {
        self.is_linked = false;
        self.ping_is_due = false;
        self.connection += 1;
        self.connection
    }

    /// The same life answered: it processed our numbers up to `seen`.
    pub fn resume(&mut self, seen: u64) {
        for (number, parcel) in self.outbox.resume(seen) {
            self.await_outcome(number, parcel);
        }
        self.link();
    }

    /// A life answered that knows none of our numbers. `is_first`: no other was linked before, so nothing is lost.
    pub fn restart(&mut self, seen: u64, is_first: bool) -> Vec<Ticket> {
        let mut lost = if is_first { Vec::new() } else { self.awaiting.clear() };
        let left = self.outbox.restart(seen, |parcel, _| {
            if !is_first {
                lost.extend(parcel.ticket.take());
            }
            is_first || !parcel.was_trusted
        });
        lost.extend(left.into_iter().filter_map(|parcel| parcel.ticket));
        (self.up_seen, self.up_acked) = (0, 0);
        self.link();
        lost
    }

    /// The same life answered, and forgot the lane: what was sent may have been processed, so it is not sent again.
    /// Outcomes of what it acknowledged will not come; their pushes end as pending.
    pub fn forgotten(&mut self, seen: u64) -> Vec<Ticket> {
        self.awaiting.clear();
        let left = self.outbox.restart(seen, |_, was_sent| !was_sent);
        (self.up_seen, self.up_acked) = (0, 0);
        self.link();
        left.into_iter().filter_map(|parcel| parcel.ticket).collect()
    }

    fn link(&mut self) {
        self.is_linked = true;
        self.is_dead = false;
        self.ping_is_due = true;
        self.count();
    }

    /// The node is dead: nothing waits for it, and nothing joins the queue until one answers.
    pub fn die(&mut self) -> Vec<Ticket> {
        self.is_dead = true;
        let mut lost = self.awaiting.clear();
        lost.extend(self.outbox.give_up().into_iter().filter_map(|parcel| parcel.ticket));
        self.count();
        lost
    }

    /// What is past its deadline, given up.
    pub fn expire(&mut self, now_us: u64) -> (usize, Vec<Ticket>) {
        let given_up = self.outbox.expire(now_us);
        self.count();
        (given_up.len(), given_up.into_iter().filter_map(|parcel| parcel.ticket).collect())
    }

    pub fn ask_echo(&mut self) {
        self.ping_is_due = true;
    }

    pub fn acked(&mut self, number: u64) {
        for (number, parcel) in self.outbox.ack(number) {
            self.await_outcome(number, parcel);
        }
        self.count();
    }

    fn await_outcome(&mut self, number: u64, parcel: Parcel) {
        if let Some(ticket) = parcel.ticket {
            self.awaiting.add(number, ticket);
        }
    }

    /// Whom an outcome concerns; the node may tell it before it acknowledges the message.
    pub fn settle(&mut self, outcome: Outcome) -> Option<(Ticket, Verdict)> {
        let number = outcome.number;
        let waiting = self.outbox.get_mut(number).and_then(|parcel| parcel.ticket.take());
        let ticket = waiting.or_else(|| self.awaiting.take(number))?;
        Some((ticket, Verdict::Tried(outcome)))
    }

    pub fn processed(&mut self, up_seen: u64) {
        self.up_seen = up_seen;
    }

    /// The next message, if there is anything to say.
    pub fn compose(&mut self, now_us: u64) -> Option<LaneDown> {
        if let Some(hello) = self.hello.take() {
            return Some(LaneDown { hello: Some(hello), ..LaneDown::default() });
        }
        if !self.is_linked {
            return None;
        }
        let mut message = LaneDown::default();
        let mut says_something = false;
        if std::mem::take(&mut self.ping_is_due) {
            message.ping = Some(LanePing { sent_us: now_us });
            says_something = true;
        }
        if self.up_seen != self.up_acked {
            self.up_acked = self.up_seen;
            message.up_ack = self.up_seen;
            says_something = true;
        }
        if let Some(batch) = self.outbox.take(BATCH) {
            self.metrics.resends.increment(batch.resent as u64);
            message.first_number = batch.first_number;
            message.items = match batch.empty {
                0 => batch.items.into_iter().map(|parcel| DownItem::clone(&parcel.item)).collect(),
                empty => vec![DownItem::default(); empty],
            };
            says_something = true;
        }
        says_something.then_some(message)
    }

    fn count(&mut self) {
        let now = (self.outbox.len(), self.outbox.bytes());
        self.metrics.messages.increment(now.0 as f64 - self.counted.0 as f64);
        self.metrics.bytes.increment(now.1 as f64 - self.counted.1 as f64);
        self.counted = now;
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        self.metrics.messages.decrement(self.counted.0 as f64);
        self.metrics.bytes.decrement(self.counted.1 as f64);
    }
}
