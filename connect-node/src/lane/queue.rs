//! The numbered items of a lane: kept until they are acknowledged, sent again by a new stream.

use std::collections::VecDeque;

use prost::Message;
use roomcast_proto::pubsub::{Interest, UpItem, interest::Snapshot, up_item::Item};

/// Items and bytes of one message up: small enough that an echo never waits long behind it.
const BATCH_ITEMS_MAX: usize = 512;
const BATCH_BYTES_MAX: usize = 256 << 10;
/// Changes that share one interest item while it waits to be sent.
const MERGE_MAX: usize = 64;

struct Kept {
    item: UpItem,
    bytes: usize,
}

/// Items by number, from 1.
pub struct Queue {
    items_max: usize,
    bytes_max: usize,
    /// Number of `kept[0]`.
    first: u64,
    kept: VecDeque<Kept>,
    bytes: usize,
    /// Sent on the current stream up to here.
    sent: u64,
    /// Sent on any stream up to here: those items are as they are.
    ever_sent: u64,
}

impl Queue {
    /// An empty one that takes so many items and bytes.
    pub fn new(items_max: usize, bytes_max: usize) -> Self {
        Self { items_max, bytes_max, first: 1, kept: VecDeque::new(), bytes: 0, sent: 0, ever_sent: 0 }
    }

    /// Empties it; numbers start at 1 again.
    pub fn reset(&mut self) {
        *self = Self::new(self.items_max, self.bytes_max);
    }

    /// The number given last; 0 before the first.
    pub fn last(&self) -> u64 {
        self.first + self.kept.len() as u64 - 1
    }

    /// The last number sent on the current stream.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Whether everything was acknowledged.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// Items sent on an earlier stream that this one has to send again.
    pub fn resending(&self) -> u64 {
        self.ever_sent.saturating_sub(self.sent)
    }

    /// Whether a peer that saw up to `number` can go on from there.
    pub fn continues_from(&self, number: u64) -> bool {
        number.saturating_add(1) >= self.first && number <= self.last()
    }

    /// A new stream sends everything that is kept.
    pub fn rewind(&mut self) {
        self.sent = self.first - 1;
    }

    /// Numbers an item and keeps it; `None` when it does not fit.
    pub fn push(&mut self, item: Item) -> Option<u64> {
        let item = UpItem { item: Some(item) };
        let bytes = item.encoded_len();
        if self.kept.len() >= self.items_max || self.bytes + bytes > self.bytes_max {
            return None;
        }
        self.bytes += bytes;
        self.kept.push_back(Kept { item, bytes });
        Some(self.last())
    }

    /// Adds a change of interest to the last item if that never left, is a change as well, has a number above
    /// `barrier` and room for it. Else gives the change back.
    pub fn merge(&mut self, change: Interest, barrier: u64) -> Result<u64, Interest> {
        if self.last() <= self.ever_sent.max(barrier) {
            return Err(change);
        }
        if let Some(kept) = self.kept.back_mut()
            && let Some(Item::Interest(waiting)) = &mut kept.item.item
            && can_merge(waiting, &change)
        {
            waiting.rooms.extend(change.rooms);
            waiting.users.extend(change.users);
            waiting.sessions = change.sessions;
            self.bytes -= kept.bytes;
            kept.bytes = kept.item.encoded_len();
            self.bytes += kept.bytes;
            return Ok(self.last());
        }
        Err(change)
    }

    /// Drops what was acknowledged.
    pub fn drop_up_to(&mut self, number: u64) {
        while self.first <= number
            && let Some(kept) = self.kept.pop_front()
        {
            self.bytes -= kept.bytes;
            self.first += 1;
        }
        self.sent = self.sent.max(self.first - 1);
    }

    /// The items that come next on this stream, with the number of the first; none beyond `until`.
    pub fn take(&mut self, until: u64) -> (u64, Vec<UpItem>) {
        let first_number = self.sent + 1;
        let skip = (first_number - self.first) as usize;
        let mut items = Vec::new();
        let mut bytes = 0;
        for kept in self.kept.iter().skip(skip).take(BATCH_ITEMS_MAX) {
            if self.sent == until || (bytes > 0 && bytes + kept.bytes > BATCH_BYTES_MAX) {
                break;
            }
            bytes += kept.bytes;
            items.push(kept.item.clone());
            self.sent += 1;
        }
        self.ever_sent = self.ever_sent.max(self.sent);
        (first_number, items)
    }
}

/// Whether a change may join one that waits: bounded, and a thing is told once in an item.
fn can_merge(waiting: &Interest, change: &Interest) -> bool {
    waiting.rooms.len() + waiting.users.len() < MERGE_MAX
        && waiting.snapshot() == Snapshot::None
        && change.rooms.iter().all(|new| waiting.rooms.iter().all(|old| old.room_id != new.room_id))
        && change.users.iter().all(|new| waiting.users.iter().all(|old| old.user_id != new.user_id))
}
