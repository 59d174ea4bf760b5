//! What one session was sent and has not acknowledged: so that an acknowledgement counts once, and only from it.

use std::{collections::VecDeque, rc::Rc};

use roomcast_types::MessageId;

use super::entry::Entry;

/// Messages remembered for one session; past that the oldest stay WRITTEN, and their acknowledgements count as unknown.
const MAX: usize = 1_024;

/// The messages, oldest first.
#[derive(Debug, Default)]
pub(super) struct Unacked {
    entries: VecDeque<Rc<Entry>>,
    /// Some were forgotten for want of room.
    has_forgotten: bool,
}

impl Unacked {
    /// The session was sent this message.
    pub(super) fn add(&mut self, entry: Rc<Entry>) {
        if self.entries.len() == MAX {
            self.entries.pop_front();
            self.has_forgotten = true;
        }
        self.entries.push_back(entry);
    }

    /// How many.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether this message may be unacknowledged; only for one that was sent to the session.
    pub(super) fn may_hold(&self, message_id: MessageId) -> bool {
        self.has_forgotten || self.entries.iter().any(|entry| entry.message_id() == message_id)
    }

    /// All of them, if no more than `max`.
    pub(super) fn ids(&self, max: usize) -> Option<Vec<MessageId>> {
        let is_known = !self.has_forgotten && self.entries.len() <= max;
        is_known.then(|| self.entries.iter().map(|entry| entry.message_id()).collect())
    }

    /// The session acknowledges this message; `None` when it was never sent to it, or is acknowledged already.
    pub(super) fn take(&mut self, message_id: MessageId) -> Option<Rc<Entry>> {
        // Mostly the oldest: clients acknowledge in order.
        let place = self.entries.iter().position(|entry| entry.message_id() == message_id)?;
        let entry = self.entries.remove(place);
        if self.entries.is_empty() {
            self.entries = VecDeque::new();
        }
        entry
    }
}
