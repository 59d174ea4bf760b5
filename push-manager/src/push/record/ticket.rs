//! What lets a lane speak of a push.

use std::sync::{Weak, atomic::Ordering};

use roomcast_proto::pubsub::Outcome;
use tokio::time::Instant;

use super::{Loss, Record, is_final};

/// The right to say what became of the push on one node, as often as that changes.
#[derive(Debug, Clone)]
pub struct Ticket {
    pub(super) record: Weak<Record>,
    pub(super) slot: usize,
    /// Targets there as last announced.
    pub announced: u64,
    /// Clients confirm the message.
    pub wants_ack: bool,
    /// The message was accepted before, under the same idempotency key.
    pub(super) is_repeat: bool,
}

/// What a word of a node led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It is in the receipt.
    InTime,
    /// It came after the push was given up there, or forgotten.
    Late,
}

impl Ticket {
    /// Of a message that nobody asks about any more.
    pub fn nobody(wants_ack: bool) -> Self {
        Self { record: Weak::new(), slot: 0, announced: 0, wants_ack, is_repeat: false }
    }

    /// Of a message that goes out again, and of which the first record hears.
    pub fn repeat(wants_ack: bool) -> Self {
        Self { is_repeat: true, ..Self::nobody(wants_ack) }
    }

    /// Whether the message was accepted before, under the same idempotency key.
    pub fn is_repeat(&self) -> bool {
        self.is_repeat
    }

    /// Whether somebody still listens.
    pub fn is_heard(&self) -> bool {
        self.record.strong_count() > 0
    }

    /// Whether nothing of this changes any more.
    pub fn is_final(&self, outcome: &Outcome) -> bool {
        is_final(outcome.pending, outcome.written, self.wants_ack)
    }

    /// The node said what became of its targets by now.
    pub fn tried(&self, outcome: Outcome) -> Taken {
        let Some(record) = self.record.upgrade() else {
            // The answer to a repeat was given, and nobody can ask for another one.
            return if self.is_repeat { Taken::InTime } else { Taken::Late };
        };
        record.change(|state| {
            let Some(heard) = state.heard.get_mut(self.slot).filter(|heard| !heard.is_lost()) else {
                return Taken::Late;
            };
            heard.told = Some(outcome.into());
            heard.at.get_or_insert_with(Instant::now);
            Taken::InTime
        })
    }

    /// The message is put on the node's connection, perhaps not for the first time.
    pub fn sent(&self) {
        let Some(record) = self.record.upgrade() else { return };
        let Some(leg) = record.legs.get(self.slot) else { return };
        if leg.sent_us.load(Ordering::Relaxed) == 0 {
            leg.sent_us.store(record.age_us(), Ordering::Relaxed);
        }
    }

    /// The node died, or its lane gave the message up.
    pub fn lost(&self, loss: Loss) {
        let Some(record) = self.record.upgrade() else { return };
        record.change(|state| {
            if let Some(heard) = state.heard.get_mut(self.slot) {
                heard.lost = Some(loss);
                heard.at.get_or_insert_with(Instant::now);
            }
        });
    }
}
