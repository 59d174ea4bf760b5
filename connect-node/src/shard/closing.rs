//! How sessions end: a close of ours, the peer's, a broken socket, the node's stop.

use super::{
    out::Flushed,
    sending::SentEnd,
    session::{CLOSE_WAIT, Closing, Phase},
    state::Shard,
    timers::{Millis, millis},
};
use crate::{
    ports::{CloseCode, SessionKey},
    tally::TargetOutcome,
};

impl Shard {
    /// Writes what waits, and ends a session that waited for nothing else.
    pub(super) fn flush(&mut self, key: SessionKey) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let flushed = session.flush(key.slot, &mut self.flow);
        match (flushed, &mut session.phase) {
            (Flushed::Broken, _) => self.finish(key, None),
            (Flushed::Empty, Phase::Closing(closing)) if closing.is_answered => self.finish(key, None),
            (Flushed::Empty, Phase::Closing(closing)) => {
                if closing.discards {
                    // The peer reads the close frame and then the end; what it still sends is thrown away, because
                    // closing a socket with unread bytes would reset the connection and could cost the close frame.
                    let _ = socket2::SockRef::from(&session.stream).shutdown(std::net::Shutdown::Write);
                }
                // Only the peer's answer is missing, which costs nobody anything.
                closing.until = closing.until.min(self.flow.now + millis(CLOSE_WAIT));
                self.reschedule(key);
            }
            _ => {}
        }
    }

    /// After a send: closes who is too slow, and finishes who is gone.
    pub(super) fn end_in_slot(&mut self, slot: u32, end: &SentEnd) {
        let Some(key) = self.key_in_slot(slot) else { return };
        match end {
            SentEnd::Complete => {}
            SentEnd::Slow => self.close(key, CloseCode::TooSlow, false),
            SentEnd::Broken => self.finish(key, None),
        }
    }

    /// Begins a close of ours. `discards`: the peer broke the protocol, and what it sends further is not read.
    pub(super) fn close(&mut self, key: SessionKey, code: CloseCode, discards: bool) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        if matches!(session.phase, Phase::Closing(_)) {
            return;
        }
        let is_slow = code == CloseCode::TooSlow;
        let drops_as = if is_slow { TargetOutcome::DroppedSlow } else { TargetOutcome::Closed };
        if is_slow {
            session.drop_unbegun(false, drops_as, &mut self.flow);
            self.metrics.slow_closes.increment(1);
        }
        session.queue_close(code, &mut self.flow);
        let is_drained = !is_slow && (self.is_stopping || session.is_told());
        let patience = if is_drained { self.flush_wait } else { millis(CLOSE_WAIT) };
        let until = self.flow.now + patience;
        let is_bare = is_slow;
        session.phase = Phase::Closing(Closing { until, is_bare, discards, drops_as, is_answered: false });
        session.wake();
        self.depart(key, code == CloseCode::TakenOver);
        self.retire(key, Some(code as u16));
        self.reschedule(key);
        self.flush(key);
    }

    /// The peer closed, or answered our close. What waits is of no use to it any more.
    pub(super) fn peer_closed(&mut self, key: SessionKey, code: u16) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        match &mut session.phase {
            Phase::Closing(closing) => closing.is_answered = true,
            Phase::Waiting { .. } | Phase::Open => {
                let drops_as = TargetOutcome::Closed;
                session.drop_unbegun(false, drops_as, &mut self.flow);
                session.queue_control(&mut self.flow);
                let until = self.flow.now + millis(CLOSE_WAIT);
                session.phase = Phase::Closing(Closing {
                    until,
                    is_bare: true,
                    discards: false,
                    drops_as,
                    is_answered: true,
                });
                self.depart(key, true);
                self.retire(key, Some(code));
                self.reschedule(key);
            }
        }
        self.flush(key);
    }

    /// The time of a close is over: what waits goes, the close frame gets its own time, then the socket goes.
    pub(super) fn close_is_late(&mut self, key: SessionKey) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let Phase::Closing(closing) = &mut session.phase else { return };
        if closing.is_bare || session.out.frames() <= 1 {
            return self.cut(key);
        }
        closing.is_bare = true;
        closing.until = self.flow.now + millis(CLOSE_WAIT);
        let drops_as = closing.drops_as;
        let before = session.out.messages();
        session.drop_unbegun(true, drops_as, &mut self.flow);
        let lost = before - session.out.messages();
        self.lose(key, lost);
        self.flush(key);
    }

    /// Ends a session of which something may still wait.
    fn cut(&mut self, key: SessionKey) {
        let Some(session) = self.sessions.get(key) else { return };
        let lost = session.out.messages();
        self.lose(key, lost);
        self.finish(key, None);
    }

    /// Drops the socket and the record. `code` counts only for a session that no close had ended before.
    pub(super) fn finish(&mut self, key: SessionKey, code: Option<u16>) {
        let Some(session) = self.sessions.get(key) else { return };
        if !matches!(session.phase, Phase::Closing(_)) {
            self.depart(key, true);
            self.retire(key, code);
        }
        let Some(mut session) = self.sessions.remove(key) else { return };
        let drops_as = match &session.phase {
            Phase::Closing(closing) => closing.drops_as,
            Phase::Waiting { .. } | Phase::Open => TargetOutcome::Closed,
        };
        session.drop_all(drops_as, &mut self.flow);
        // The task finds the session gone and ends.
        session.wake();
    }

    /// Takes the session out of every room and tells the hub, once.
    fn retire(&mut self, key: SessionKey, code: Option<u16>) {
        self.note_ended(key, code);
        let Some(session) = self.sessions.get_mut(key) else { return };
        for seat in std::mem::take(&mut session.seats) {
            if let Some(position) = seat.position {
                self.vacate(seat.room, position);
            }
            self.rooms.seat_left(seat.room);
        }
        self.metrics.sessions.decrement(1.0);
        self.metrics.closes.count(code);
        self.hub.closed(key);
    }

    /// A panic ended the session's task. Says whether there is still something to close.
    pub(super) fn panicked(&mut self, key: SessionKey) -> bool {
        self.metrics.panics.increment(1);
        match self.sessions.get(key).map(|session| matches!(session.phase, Phase::Closing(_))) {
            None => false,
            Some(true) => {
                self.finish(key, None);
                false
            }
            Some(false) => {
                self.close(key, CloseCode::Internal, true);
                true
            }
        }
    }

    /// Begins the end: every session is closed with 4001 behind what waits for it.
    pub(super) fn stop(&mut self) {
        self.is_stopping = true;
        for key in self.sessions.keys(self.index) {
            self.close(key, CloseCode::GoingAway, false);
        }
    }

    /// How long after [`Self::stop`] was asked for the shard ends, whoever is left.
    pub(super) fn stop_wait(&self) -> Millis {
        self.flush_wait + millis(CLOSE_WAIT)
    }

    /// The end: what still waits is not written any more, and its outcomes are told.
    pub(super) fn abandon(&mut self) {
        for key in self.sessions.keys(self.index) {
            self.cut(key);
        }
        self.flow.news.tell();
    }
}
