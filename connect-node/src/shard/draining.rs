//! What a drain asks of a shard: telling sessions to go, and counting how they went.

use std::time::Duration;

use super::{session::Phase, state::Shard};
use crate::{ports::SessionKey, tally::TargetOutcome, wire::ServerFrame};

impl Shard {
    /// Tells a session to go. One that is behind and has no room for the notice hears it by its close.
    pub(super) fn notice(&mut self, key: SessionKey, reconnect_after: Duration) {
        self.flow.refresh();
        let Some(session) = self.sessions.get_mut(key).filter(|session| session.is_open()) else { return };
        session.told_at = self.flow.now;
        let frame = ServerFrame::Notice { reconnect_after }.encode(session.encoding);
        let has_room = session.has_room(frame.len(), &self.flow);
        self.config().departures.told();
        if has_room {
            self.send(key, frame);
        }
    }

    /// A session of which nothing was heard until now ends. `is_its_own`: it goes, and is not closed by the node.
    pub(super) fn depart(&mut self, key: SessionKey, is_its_own: bool) {
        let Some(session) = self.sessions.get(key) else { return };
        if !session.is_told() && !self.is_stopping {
            return;
        }
        let departures = &self.flow.config.departures;
        if is_its_own && session.is_told() {
            let after = self.flow.now.saturating_sub(session.told_at);
            departures.moved(Duration::from_millis(after));
        } else {
            departures.closed();
        }
    }

    /// The node cuts a socket with so many messages behind it. They are lost, unless the client has said goodbye or was
    /// too slow.
    pub(super) fn lose(&mut self, key: SessionKey, messages: usize) {
        let Some(session) = self.sessions.get(key) else { return };
        let is_cut = match &session.phase {
            Phase::Closing(closing) => !closing.is_answered && closing.drops_as != TargetOutcome::DroppedSlow,
            Phase::Waiting { .. } | Phase::Open => true,
        };
        if messages > 0 && is_cut && (self.is_stopping || session.is_told()) {
            self.flow.config.departures.lost(messages);
        }
    }
}
