//! The order in which changes are sent. A session that was welcomed is on its way into a room, and goes before those that only
//! come: so a crowd is served one after the other, and not all of it at the end.

use std::collections::VecDeque;

use roomcast_proto::pubsub::session_change::Change;

/// Numbers of changes, some of which may be gone.
#[derive(Default)]
pub struct Unsent {
    /// Joins and leaves, and what has to come before one.
    in_rooms: VecDeque<u64>,
    /// Sessions that open or have closed: neither comes before a join of the same session.
    sessions: VecDeque<u64>,
}

impl Unsent {
    /// Of these, in their order.
    pub fn of<'a>(changes: impl Iterator<Item = (u64, &'a Change)>) -> Self {
        let mut unsent = Self::default();
        changes.for_each(|(request, change)| unsent.push(request, change));
        unsent
    }

    /// Behind those of its kind.
    pub fn push(&mut self, request: u64, change: &Change) {
        match change {
            Change::Join(_) | Change::Leave(_) => self.hurry(request),
            Change::Opened(_) | Change::Closed(_) => self.sessions.push_back(request),
        }
    }

    /// Behind the joins and leaves, whatever it is.
    pub fn hurry(&mut self, request: u64) {
        self.in_rooms.push_back(request);
    }

    /// The next one.
    pub fn pop(&mut self) -> Option<u64> {
        self.in_rooms.pop_front().or_else(|| self.sessions.pop_front())
    }

    /// Forgets those that are gone.
    pub fn retain(&mut self, stays: impl Fn(&u64) -> bool) {
        self.in_rooms.retain(&stays);
        self.sessions.retain(&stays);
    }

    /// Numbers, gone ones included.
    pub fn len(&self) -> usize {
        self.in_rooms.len() + self.sessions.len()
    }
}
