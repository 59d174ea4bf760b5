//! Puts reports together: changes in order, versions with the load, slices in full.

use roomcast_proto::pubsub::{NodeLoad, NodeReport, SessionRecord, Slice, session_change::Change};
use roomcast_types::SessionId;
use tokio::time::Instant;

use crate::hub::{session::Session, state::State};

/// Changes in one message.
const CHANGES_PER_MESSAGE: usize = 256;
/// Sessions in one message of slices; a slice that alone has more travels alone.
const SESSIONS_PER_MESSAGE: usize = 500;

impl State {
    /// When a session opened, on the store's clock.
    pub fn stamp_of(&self, session: &Session) -> i64 {
        session.stamp.unwrap_or_else(|| self.clock.at(session.opened_at)).as_millis()
    }

    /// Fixes the stamp once the store's clock is known.
    fn fix_stamp(&mut self, id: SessionId) {
        let Some(key) = self.key_of(id) else { return };
        if self.clock.is_set()
            && let Some(session) = self.sessions.get_mut(&key)
        {
            session.stamp.get_or_insert_with(|| self.clock.at(session.opened_at));
        }
    }

    /// The changes that wait, as one message; `None` when there is none.
    pub fn changes(&mut self, now: Instant) -> Option<NodeReport> {
        let (sessions, clock) = (&mut self.sessions, &self.clock);
        let changes = self.outbox.take_changes(now, CHANGES_PER_MESSAGE, |key, change| match change {
            Change::Opened(record) => {
                let Some(session) = sessions.get_mut(&key) else { return false };
                let at = clock.at(session.opened_at);
                let stamp = if clock.is_set() { *session.stamp.get_or_insert(at) } else { at };
                record.stamp_ms = stamp.as_millis();
                true
            }
            Change::Join(_) => sessions.contains_key(&key),
            Change::Closed(_) | Change::Leave(_) => true,
        });
        (!changes.is_empty()).then(|| NodeReport { changes, ..NodeReport::default() })
    }

    /// Versions and load.
    pub fn heartbeat(&self, sessions_max: usize) -> NodeReport {
        let load = NodeLoad {
            sessions: self.sessions.len() as u64,
            sessions_max: sessions_max as u64,
            rooms: self.rooms.len() as u64,
        };
        NodeReport { versions: self.outbox.versions(), load: Some(load), ..NodeReport::default() }
    }

    /// Slices in full, in messages of bounded size. A join under way is not in them: when it succeeds after its slice
    /// was sent, the slice is sent again.
    pub fn slices(&mut self, indexes: &[usize]) -> Vec<NodeReport> {
        let mut messages = Vec::new();
        let mut message = NodeReport::default();
        let mut sessions = 0;
        for index in indexes {
            let slice = self.slice(*index);
            if sessions > 0 && sessions + slice.sessions.len() > SESSIONS_PER_MESSAGE {
                messages.push(std::mem::take(&mut message));
                sessions = 0;
            }
            sessions += slice.sessions.len();
            message.slices.push(slice);
        }
        if !message.slices.is_empty() {
            messages.push(message);
        }
        messages
    }

    fn slice(&mut self, index: usize) -> Slice {
        let ids: Vec<SessionId> = self.by_id[index].keys().copied().collect();
        let mut records: Vec<SessionRecord> = Vec::with_capacity(ids.len());
        for id in ids {
            self.fix_stamp(id);
            if let Some(session) = self.key_of(id).and_then(|key| self.sessions.get(&key)) {
                records.push(session.record(self.stamp_of(session), session.rooms.iter()));
            }
        }
        self.outbox.slice_sent(index);
        Slice { index: index as u32, version: self.outbox.versions()[index], sessions: records }
    }
}
