//! The state of a shard, and what happens to a session as a whole: open, welcome, time.

use std::{sync::Arc, task::Poll};

use bytes::Bytes;
use slab::Slab;
use tokio::time::Instant;

use super::{
    ShardMetrics,
    config::Config,
    flow::Flow,
    history::History,
    out::Frame,
    rooms::Rooms,
    sending::SentEnd,
    session::{Opening, Phase, Session, Turn},
    timers::{Millis, NEVER, millis},
    walk::Agenda,
};
use crate::{
    load::Load,
    log::returning::Since,
    ports::{CloseCode, Hub, OpenedSession, SessionKey},
    wire::{self, ServerFrame},
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
    /// How long a session that is sent away may take to read what waits for it.
    pub(super) flush_wait: Millis,
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

    /// Loads what a delivery reads of the sessions in these slots. All at once takes little longer than one alone; one by
    /// one, with system calls in between, each is waited for.
    pub(super) fn warm(&self, slots: impl Iterator<Item = u32>) {
        let sessions = slots.filter_map(|slot| self.slab.get(slot as usize));
        std::hint::black_box(sessions.fold(0, |read, session| read ^ session.beginning()));
    }

    /// Takes the record out.
    pub(super) fn remove(&mut self, key: SessionKey) -> Option<Box<Session>> {
        self.get(key)?;
        self.slab.try_remove(key.slot as usize)
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
            flush_wait: millis(config.flush_wait),
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

    /// See [`Sessions::warm`]: of a room's members, or of all sessions.
    pub(super) fn warm(&self, room: Option<u32>, places: std::ops::Range<usize>) {
        match room {
            Some(room) => {
                let room = self.rooms.get(room);
                self.sessions.warm(places.filter_map(|place| room.member(place)));
            }
            None => self.sessions.warm(places.map(|place| place as u32)),
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
        let (encoding, session_id) = (session.encoding, session.session_id);
        let (user_id, client_id) = (session.user_id.clone(), session.client_id.clone());
        let slot = self.sessions.slab.insert(session) as u32;
        let key = SessionKey { shard: self.index, slot, generation };
        self.reschedule(key);
        self.metrics.sessions.increment(1.0);
        let opened =
            OpenedSession { key, session_id, user_id, client_id, user_name, since, encoding, opened_at };
        self.hub.opened(opened);
        Some(key)
    }

    /// Says something to an open session, as it reads it.
    pub(super) fn say(&mut self, key: SessionKey, frame: &ServerFrame<'_>) {
        if let Some(session) = self.sessions.get(key) {
            let frame = frame.encode(session.encoding);
            self.send(key, frame);
        }
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
        match &session.phase {
            Phase::Closing(closing) if now < closing.until => {}
            Phase::Closing(_) => self.close_is_late(key),
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
}
