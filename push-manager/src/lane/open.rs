//! Messages on one node whose outcome may still change, by id.

use std::{collections::BTreeMap, time::Duration};

use roomcast_proto::pubsub::Outcome;
use roomcast_types::{MessageId, unix_millis};

use crate::push::{Taken, Ticket};

/// Messages at most; past that the oldest stay as they are.
const MAX: usize = 65_536;
/// No push is asked about for longer.
const KEPT_FOR: Duration = Duration::from_secs(600);

/// The messages; ids grow with time.
#[derive(Debug, Default)]
pub struct Open {
    tickets: BTreeMap<MessageId, Ticket>,
}

impl Open {
    /// A message is on its way.
    pub fn add(&mut self, message_id: MessageId, ticket: Ticket) {
        if self.tickets.len() == MAX {
            self.tickets.pop_first();
        }
        self.tickets.insert(message_id, ticket);
    }

    /// Hands an outcome to its push; false when that is no longer open.
    pub fn settle(&mut self, outcome: Outcome) -> bool {
        let Some(message_id) = MessageId::from_bytes(&outcome.message_id) else { return false };
        let taken = self.tickets.get(&message_id).map_or(Taken::Late, |ticket| ticket.tried(outcome));
        if taken != Taken::Open {
            self.tickets.remove(&message_id);
        }
        taken != Taken::Late
    }

    /// The message is given up.
    pub fn take(&mut self, message_id: MessageId) -> Option<Ticket> {
        self.tickets.remove(&message_id)
    }

    /// All are.
    pub fn take_all(&mut self) -> Vec<Ticket> {
        std::mem::take(&mut self.tickets).into_values().collect()
    }

    /// Drops those that nobody asks about any more.
    pub fn forget_old(&mut self) {
        let oldest_ms = unix_millis().unsigned_abs().saturating_sub(KEPT_FOR.as_millis() as u64);
        while self.tickets.first_key_value().is_some_and(|(message_id, _)| message_id.unix_ms() < oldest_ms) {
            self.tickets.pop_first();
        }
    }
}
