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
}

impl Unacked {
    /// The session was sent this message.
    pub(super) fn add(&mut self, entry: Rc<Entry>) {
        if self.entries.len() == MAX {
            self.entries.pop_front();
        }
        self.entries.push_back(entry);
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
