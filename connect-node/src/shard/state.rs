//! The state of a shard, and what happens to a session as a whole: open, welcome, close, end.

use std::{sync::Arc, task::Poll};

use bytes::Bytes;
use slab::Slab;
use tokio::time::Instant;

use super::{
    ShardMetrics,
    config::Config,
    flow::Flow,
    history::History,
    out::{Flushed, Frame},
    rooms::Rooms,
    sending::SentEnd,
    session::{CLOSE_WAIT, Closing, Opening, Phase, Session, Turn},
    timers::{NEVER, millis},
    walk::Agenda,
};
use crate::{
    load::Load,
    log::returning::Since,
    ports::{CloseCode, Hub, OpenedSession, SessionKey},
    tally::TargetOutcome,
    wire,
};

/// Bytes that one read takes at most, for all sessions of the shard in turn.
const SCRATCH: usize = 64 * 1024;

/// Everything one shard owns. Lives on the shard's thread in an `Rc<RefCell<_>>` that is never borrowed across an await.
pub(super) struct Shard {
    pub(super) index: u16,
    pub(super) sessions: Sessions,
    pub(super) rooms: Rooms,
    pub(super) flow: Flow,
    pub(super) agenda: Agenda,
    pub(super) hub: Arc<dyn Hub>,
    pub(super) load: Arc<Load>,
    pub(super) metrics: ShardMetrics,
    pub(super) history: History,
    pub(super) is_stopping: bool,
    pub(super) scratch: Vec<u8>,
}

/// The sessions, by slot.
#[derive(Default)]
pub(super) struct Sessions {
    // Boxed: the slab doubles, and a moved record is a copied record.
    slab: Slab<Box<Session>>,
    generations: u32,
}

impl Sessions {
    pub(super) fn get(&self, key: SessionKey) -> Option<&Session> {
        self.slab
            .get(key.slot as usize)
            .map(|session| &**session)
            .filter(|session| session.generation == key.generation)
    }

    pub(super) fn get_mut(&mut self, key: SessionKey) -> Option<&mut Session> {
        let session = self.slab.get_mut(key.slot as usize)?;
        (session.generation == key.generation).then_some(session)
    }

    /// The session in a slot, whichever it is.
    pub(super) fn in_slot(&mut self, slot: u32) -> Option<&mut Session> {
        self.slab.get_mut(slot as usize).map(|session| &mut **session)
    }

    /// One past the highest slot in use.
    pub(super) fn slots(&self) -> u32 {
        self.slab.iter().next_back().map_or(0, |(slot, _)| slot as u32 + 1)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slab.is_empty()
    }

    pub(super) fn keys(&self, shard: u16) -> Vec<SessionKey> {
        let sessions = self.slab.iter();
        sessions.map(|(slot, session)| session.key(shard, slot as u32)).collect()
    }
}

impl Shard {
    pub(super) fn new(
        index: u16,
        config: Arc<Config>,
        hub: Arc<dyn Hub>,
        load: Arc<Load>,
        metrics: ShardMetrics,
    ) -> Self {
        Self {
            index,
            sessions: Sessions::default(),
            rooms: Rooms::default(),
            flow: Flow::new(index, config, load.clone()),
            agenda: Agenda::default(),
            hub,
            load,
            metrics,
            history: History::default(),
            is_stopping: false,
            scratch: vec![0; SCRATCH],
        }
    }

    pub(super) fn config(&self) -> &Config {
        &self.flow.config
    }

    /// The read scratch; a turn that panicked took the former one with it.
    pub(super) fn take_scratch(&mut self) -> Vec<u8> {
        let scratch = std::mem::take(&mut self.scratch);
        if scratch.is_empty() { vec![0; SCRATCH] } else { scratch }
    }

    /// Takes an upgraded connection in and tells the hub; `None` when the shard is stopping.
    pub(super) fn open(
        &mut self,
        opening: Opening,
        (user_name, since): (String, Option<Since>),
        opened_at: Instant,
    ) -> Option<SessionKey> {
        if self.is_stopping {
            return None;
        }
        self.flow.refresh();
        self.sessions.generations = self.sessions.generations.wrapping_add(1);
        let generation = self.sessions.generations;
        let session = Box::new(Session::new(opening, generation, &self.flow));
        let opened = (session.session_id, session.user_id.clone(), session.client_id.clone());
        let slot = self.sessions.slab.insert(session) as u32;
        let key = SessionKey { shard: self.index, slot, generation };
        self.reschedule(key);
        self.metrics.sessions.increment(1.0);
        let (session_id, user_id, client_id) = opened;
        let opened = OpenedSession { key, session_id, user_id, client_id, user_name, since, opened_at };
        self.hub.opened(opened);
        Some(key)
    }

    /// Sends one frame to an open session; one that does not fit makes it slow.
    pub(super) fn send(&mut self, key: SessionKey, frame: Bytes) {
        let Some(session) = self.sessions.get_mut(key).filter(|session| session.is_open()) else { return };
        let frame = Frame::plain(frame);
        let slice = std::io::IoSlice::new(&frame.bytes);
        match session.send(std::slice::from_ref(&frame), &[slice], key.slot, &mut self.flow).end {
            SentEnd::Complete => {}
            SentEnd::Slow => self.close(key, CloseCode::TooSlow, false),
            SentEnd::Broken => self.finish(key, None),
        }
    }

    /// What the session's task waits for; `None` when the session is gone.
    pub(super) fn poll_turn(
        &mut self,
        key: SessionKey,
        cx: &mut std::task::Context<'_>,
    ) -> Poll<Option<Turn>> {
        match self.sessions.get_mut(key) {
            Some(session) => session.poll_turn(cx).map(Some),
            None => Poll::Ready(None),
        }
    }

    /// Writes what waits, and ends a session that waited for nothing else.
    pub(super) fn flush(&mut self, key: SessionKey) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        match session.flush(key.slot, &mut self.flow) {
            Flushed::Broken => self.finish(key, None),
            Flushed::Blocked => {}
            Flushed::Empty => match &session.phase {
                Phase::Closing(closing) if closing.is_answered => self.finish(key, None),
                // The peer reads the close frame and then the end; what it still sends is thrown away, because
                // closing a socket with unread bytes would reset the connection and could cost the close frame.
                Phase::Closing(closing) if closing.discards => {
                    let _ = socket2::SockRef::from(&session.stream).shutdown(std::net::Shutdown::Write);
                }
                _ => {}
            },
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
        let until = self.flow.now + millis(CLOSE_WAIT);
        let is_bare = is_slow;
        session.phase = Phase::Closing(Closing { until, is_bare, discards, drops_as, is_answered: false });
        session.wake();
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
                self.retire(key, Some(code));
                self.reschedule(key);
            }
        }
        self.flush(key);
    }

    /// Drops the socket and the record. `code` counts only for a session that no close had ended before.
    pub(super) fn finish(&mut self, key: SessionKey, code: Option<u16>) {
        let Some(session) = self.sessions.get(key) else { return };
        if !matches!(session.phase, Phase::Closing(_)) {
            self.retire(key, code);
        }
        let mut session = self.sessions.slab.remove(key.slot as usize);
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

    /// Looks at the sessions whose time has come.
    pub(super) fn expire(&mut self) {
        for (moment, places) in self.flow.wheel.expire(self.flow.now) {
            for (slot, generation) in places {
                let key = SessionKey { shard: self.index, slot, generation };
                let Some(session) = self.sessions.get_mut(key) else { continue };
                // An entry that an earlier one replaced.
                if session.scheduled == moment {
                    session.scheduled = NEVER;
                    self.look(key);
                    self.reschedule(key);
                }
            }
        }
    }

    fn look(&mut self, key: SessionKey) {
        let now = self.flow.now;
        let Some(session) = self.sessions.get_mut(key) else { return };
        session.resume(now);
        session.drop_expired(&mut self.flow);
        let stalled_at = session.stalled_at(&self.flow);
        match &mut session.phase {
            Phase::Closing(closing) if now < closing.until => {}
            Phase::Closing(closing) if closing.is_bare || session.out.frames() <= 1 => self.finish(key, None),
            Phase::Closing(closing) => {
                closing.is_bare = true;
                closing.until = now + millis(CLOSE_WAIT);
                let drops_as = closing.drops_as;
                session.drop_unbegun(true, drops_as, &mut self.flow);
                self.flush(key);
            }
            // The hub answers within a second or so; a session that it forgot must not stay.
            Phase::Waiting { .. } if now >= session.ping_due => self.close(key, CloseCode::Internal, false),
            Phase::Waiting { .. } => {}
            Phase::Open if now >= stalled_at => self.close(key, CloseCode::TooSlow, false),
            Phase::Open if now >= session.pong_due => self.close(key, CloseCode::NoPong, false),
            Phase::Open if now >= session.ping_due => {
                session.ping_due = now + millis(self.flow.config.ping_interval);
                // An earlier ping may still be unanswered: its time counts.
                session.pong_due = session.pong_due.min(now + millis(self.flow.config.pong_timeout));
                session.pinged_at = session.pinged_at.min(now);
                self.send(key, Bytes::from_static(wire::PING));
            }
            Phase::Open => {}
        }
    }

    /// Enters the session's next deadline into the wheel.
    pub(super) fn reschedule(&mut self, key: SessionKey) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let next = match &session.phase {
            Phase::Closing(closing) => closing.until,
            Phase::Waiting { .. } => session.ping_due,
            Phase::Open => {
                let pings = session.ping_due.min(session.pong_due);
                let queue = session.stalled_at(&self.flow).min(session.out.next_expiry());
                pings.min(queue).min(session.resumes_at())
            }
        };
        session.look_at(next, key.slot, &mut self.flow);
    }

    /// Hands the metrics what gathered since the last time.
    pub(super) fn settle(&mut self) {
        if self.flow.writes > 0 {
            self.metrics.bytes_written.increment(std::mem::take(&mut self.flow.bytes_written));
            self.metrics.writes.increment(std::mem::take(&mut self.flow.writes));
        }
        self.metrics.dropped.take(&mut self.flow.news.dropped);
        let queued = self.flow.take_queued_change();
        if queued != 0 {
            self.metrics.queued_bytes.increment(queued as f64);
        }
    }

    /// Begins the end: every session is closed with 4001.
    pub(super) fn stop(&mut self) {
        self.is_stopping = true;
        for key in self.sessions.keys(self.index) {
            self.close(key, CloseCode::GoingAway, false);
        }
    }

    /// The end: what still waits is not written any more, and its outcomes are told.
    pub(super) fn abandon(&mut self) {
        for key in self.sessions.keys(self.index) {
            self.finish(key, None);
        }
        self.flow.news.tell();
    }
}
