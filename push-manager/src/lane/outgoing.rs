//! What goes down one lane next: hello, ping, acknowledgement and the queue, composed into one message.

use std::task::Waker;

use bytes::Bytes;
use roomcast_proto::{
    lane::{EncodedLaneDown, with_ttl},
    pubsub::{LaneHello, LanePing, Outcome},
};

use super::{
    Parcel, Refusal,
    open::Open,
    outbox::{BatchBounds, Bounds, Outbox},
};
use crate::{ledger::Book, metrics::QueueMetrics, push::Ticket};

/// What travels in one message: small enough that a ping behind it is not late, and far below what a node takes.
const BATCH: BatchBounds = BatchBounds { items: 256, bytes: 256 * 1024 };

/// Everything a lane wants to say. Behind the lane's lock.
#[derive(Debug)]
pub struct Outgoing {
    outbox: Outbox<Parcel>,
    open: Open,
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
    /// It is acknowledged even if nothing else goes down.
    is_ack_due: bool,
    waker: Option<Waker>,
    metrics: QueueMetrics,
    /// Messages and bytes as the gauges count them.
    counted: (usize, usize),
}

impl Outgoing {
    pub fn new(bounds: Bounds, deadline_us: u64, metrics: QueueMetrics, book: Book) -> Self {
        Self {
            outbox: Outbox::new(bounds, deadline_us),
            open: Open::new(book),
            connection: 0,
            hello: None,
            is_linked: false,
            is_dead: false,
            ping_is_due: false,
            up_seen: 0,
            up_acked: 0,
            is_ack_due: false,
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

    pub fn push(&mut self, parcel: Parcel, bytes: usize, now_us: u64) -> Result<(), Refusal> {
        if self.is_dead {
            return Err(Refusal::Dead);
        }
        let ticket = parcel.ticket.clone();
        self.outbox.push(parcel, bytes, now_us).map_err(|_| Refusal::Full)?;
        if let Some((message_id, ticket)) = ticket {
            self.open.add(message_id, ticket);
        }
        self.count();
        Ok(())
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
        self.outbox.resume(seen);
        self.link();
    }

    /// From now on this life of the node speaks.
    pub fn meet(&mut self, life: u64) {
        self.open.meet(life);
    }

    /// A life answered that knows none of our numbers. `is_first`: no other was linked before, so nothing is lost.
    /// What was addressed blind is sent to the new life, too, but counts for the dead one.
    pub fn restart(&mut self, seen: u64, is_first: bool) -> Vec<Ticket> {
        let mut lost = if is_first { Vec::new() } else { self.open.take_all() };
        let mut again = Vec::new();
        let left = self.outbox.restart(seen, |parcel, _| {
            if let Some((message_id, ticket)) = parcel.ticket.as_mut().filter(|_| !is_first) {
                *ticket = Ticket::nobody(ticket.wants_ack);
                if !parcel.was_trusted {
                    again.push((*message_id, ticket.clone()));
                }
            }
            is_first || !parcel.was_trusted
        });
        lost.extend(self.given_up(left));
        for (message_id, ticket) in again {
            self.open.add(message_id, ticket);
        }
        (self.up_seen, self.up_acked) = (0, 0);
        self.link();
        lost
    }

    /// The same life answered, and forgot the lane: what was sent may have been processed, so it is not sent again.
    /// Outcomes of what it acknowledged are told anew.
    pub fn forgotten(&mut self, seen: u64) -> Vec<Ticket> {
        let left = self.outbox.restart(seen, |_, was_sent| !was_sent);
        (self.up_seen, self.up_acked) = (0, 0);
        self.link();
        self.given_up(left)
    }

    fn given_up(&mut self, parcels: Vec<Parcel>) -> Vec<Ticket> {
        let ids = parcels.into_iter().filter_map(|parcel| parcel.ticket);
        ids.filter_map(|(message_id, ticket)| self.open.give_up(message_id, ticket)).collect()
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
        self.outbox.give_up();
        self.count();
        self.open.take_all()
    }

    /// What is past its deadline, given up.
    pub fn expire(&mut self, now_us: u64) -> (usize, Vec<Ticket>) {
        self.open.forget_old();
        let given_up = self.outbox.expire(now_us);
        self.count();
        (given_up.len(), self.given_up(given_up))
    }

    pub fn ask_echo(&mut self) {
        self.ping_is_due = true;
    }

    pub fn acked(&mut self, number: u64) {
        self.outbox.ack(number);
        self.count();
    }

    /// Hands an outcome to its push; false when that no longer wants it.
    pub fn settle(&mut self, outcome: Outcome) -> bool {
        self.open.settle(outcome)
    }

    /// Items up to this one were processed: they are acknowledged with whatever goes down next.
    pub fn processed(&mut self, up_seen: u64) {
        self.up_seen = up_seen;
    }

    /// What was processed is acknowledged now, whether or not anything else goes down.
    pub fn ask_ack(&mut self) {
        self.is_ack_due = true;
    }

    /// The next message, if there is anything to say.
    pub fn compose(&mut self, now_us: u64) -> Option<EncodedLaneDown> {
        if let Some(hello) = self.hello.take() {
            return Some(EncodedLaneDown { hello: Some(hello), ..EncodedLaneDown::default() });
        }
        if !self.is_linked {
            return None;
        }
        let mut message = EncodedLaneDown::default();
        let mut says_something = false;
        if std::mem::take(&mut self.ping_is_due) {
            message.ping = Some(LanePing { sent_us: now_us });
            says_something = true;
        }
        if let Some(batch) = self.outbox.take(BATCH) {
            self.metrics.resends.increment(batch.resent as u64);
            message.first_number = batch.first_number;
            message.items = match batch.empty {
                0 => batch.items.into_iter().map(|parcel| parcel.leaving(now_us)).collect(),
                // Without content.
                empty => vec![Bytes::new(); empty],
            };
            says_something = true;
        }
        if self.up_seen != self.up_acked && (says_something || self.is_ack_due) {
            self.up_acked = self.up_seen;
            message.up_ack = self.up_seen;
            says_something = true;
        }
        self.is_ack_due = false;
        says_something.then_some(message)
    }

    fn count(&mut self) {
        let now = (self.outbox.len(), self.outbox.bytes());
        self.metrics.messages.increment(now.0 as f64 - self.counted.0 as f64);
        self.metrics.bytes.increment(now.1 as f64 - self.counted.1 as f64);
        self.counted = now;
    }
}

impl Parcel {
    /// As it leaves now: with what is left of its time to live.
    fn leaving(&self, now_us: u64) -> Bytes {
        if let Some((_, ticket)) = &self.ticket {
            ticket.sent();
        }
        match self.expires_us {
            Some(expires_us) => {
                let left_ms = expires_us.saturating_sub(now_us) / 1_000;
                with_ttl(&self.item, u32::try_from(left_ms).unwrap_or(u32::MAX))
            }
            None => self.item.clone(),
        }
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        self.metrics.messages.decrement(self.counted.0 as f64);
        self.metrics.bytes.decrement(self.counted.1 as f64);
    }
}

#[cfg(test)]
mod tests;
