//! The rooms that the application wants, and where each stands. No input or output: frames and events are collected.
//!
//! | room | join sent | joined | refused, retryable | refused | session lost |
//! |---|---|---|---|---|---|
//! | asked (`requests`) | asks again | in | waits (`ask_at`) | forgotten | asks after `welcome` |
//! | in (`session`) | asked | stays | asks again later | stays | asks after `welcome` |
//! | `leaving` | asked | ignored | in | in, or forgotten | forgotten |

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use roomcast_types::{Code, Fault};
use tokio::{sync::oneshot, time::Instant};

use super::{
    event::{Event, Joined},
    frame::{ClientFrame, ErrorFrame, JoinedFrame, LeftFrame, position},
    jitter::Jitter,
    position::{Log, Position, Positions, Start},
};
use crate::error::Error;

/// Joins of one room whose answers still count.
const REQUESTS_MAX: usize = 4;

/// Who waits for a join to be answered.
pub type JoinReply = oneshot::Sender<Result<Joined, Error>>;
/// Who waits for a leave to be answered.
pub type LeaveReply = oneshot::Sender<Result<(), Error>>;

/// What a step needs to know and leaves behind.
pub struct Step<'a> {
    pub now: Instant,
    /// The session that frames go to.
    pub session: Option<u64>,
    /// The session that a move left behind and that still brings pushes.
    pub retiring: Option<u64>,
    pub retry: Jitter,
    pub positions: &'a mut Positions,
    pub last_id: &'a mut u64,
    pub frames: Vec<ClientFrame>,
    pub events: Vec<Event>,
}

impl Step<'_> {
    pub fn next_id(&mut self) -> u64 {
        *self.last_id += 1;
        *self.last_id
    }
}

#[derive(Default)]
struct Room {
    /// The session on which it was joined last.
    session: Option<u64>,
    was_joined: bool,
    /// Wanted whether or not somebody waits for it.
    is_pinned: bool,
    leaving: Option<u64>,
    /// Joins without an answer on this session; the youngest is the last.
    requests: VecDeque<Request>,
    /// When to ask (again).
    ask_at: Option<Instant>,
    attempt: u32,
    waiters: Vec<(Instant, JoinReply)>,
}

struct Request {
    id: u64,
    since: Option<Position>,
}

struct Leave {
    until: Instant,
    reply: LeaveReply,
}

/// All wanted rooms.
pub struct RoomSet {
    rooms: BTreeMap<String, Room>,
    leaves: BTreeMap<u64, Leave>,
    timeout: Duration,
}

impl RoomSet {
    /// Wants these rooms from the start. `timeout`: how long an answer may take.
    pub fn new(wanted: impl IntoIterator<Item = String>, timeout: Duration) -> Self {
        let pinned = || Room { is_pinned: true, ..Room::default() };
        let rooms = wanted.into_iter().map(|room_id| (room_id, pinned())).collect();
        Self { rooms, leaves: BTreeMap::new(), timeout }
    }

    /// Wants a room; `reply` gets the answer to the join.
    pub fn join(&mut self, step: &mut Step, room_id: String, reply: JoinReply) {
        let (until, timeout) = (step.now + self.timeout, self.timeout);
        let room = self.rooms.entry(room_id.clone()).or_default();
        room.waiters.push((until, reply));
        room.leaving = None;
        if room.ask_at.is_none() {
            room.ask(&room_id, step, timeout);
        }
    }

    /// Wants a room no more. A room that was never wanted is NOT_JOINED at once.
    pub fn leave(&mut self, step: &mut Step, room_id: String, reply: LeaveReply) {
        let Some(room) = self.rooms.get_mut(&room_id) else {
            let fault = Fault::new(Code::NotJoined, format!("room {room_id} is not joined"));
            let _ = reply.send(Err(Error::Rejected(fault)));
            return;
        };
        room.stop();
        for (_, waiter) in room.waiters.drain(..) {
            let _ = waiter.send(Err(Error::Left { room_id: room_id.clone() }));
        }
        if step.session.is_none() {
            self.forget(step, &room_id, Some("LEFT"));
            let _ = reply.send(Ok(()));
            return;
        }
        let id = step.next_id();
        room.leaving = Some(id);
        step.frames.push(ClientFrame::Leave { id, room_id });
        self.leaves.insert(id, Leave { until: step.now + self.timeout, reply });
    }

    /// Asks for every room on a new session.
    pub fn rejoin(&mut self, step: &mut Step) {
        for (room_id, room) in &mut self.rooms {
            if room.leaving.is_none() {
                room.ask(room_id, step, self.timeout);
            }
        }
    }

    /// The session is gone and with it every unanswered frame; a room that was being left is left.
    pub fn session_ended(&mut self, step: &mut Step) {
        self.rooms.values_mut().for_each(Room::stop);
        let left = self.rooms.iter().filter(|(_, room)| room.leaving.is_some());
        let left: Vec<_> = left.map(|(room_id, _)| room_id.clone()).collect();
        for room_id in left {
            self.forget(step, &room_id, Some("LEFT"));
        }
        for (_, leave) in std::mem::take(&mut self.leaves) {
            let _ = leave.reply.send(Ok(()));
        }
    }

    /// Whether nothing is left to be joined on this session.
    pub fn is_settled_on(&self, session: u64) -> bool {
        self.rooms.values().all(|room| room.leaving.is_some() || room.session == Some(session))
    }

    /// Takes a `joined` of the current session.
    pub fn on_joined(&mut self, step: &mut Step, frame: JoinedFrame) {
        let Some(session) = step.session else { return };
        let Some(room) = self.rooms.get_mut(&frame.room_id) else { return };
        let Some(since) = room.since_of(frame.id) else { return };
        room.stop();
        (room.session, room.was_joined, room.attempt) = (step.session, true, 0);
        let given = position(&frame.epoch, frame.offset);
        let log = Log::Room(frame.room_id.clone());
        // `recovered` says that a position was named, also in a join that was given up since.
        let since = since.or_else(|| frame.recovered.and_then(|_| step.positions.get(&log).cloned()));
        let is_recovered = frame.recovered == Some(true);
        let start = Start { session, retiring: step.retiring, since, given, is_recovered };
        let (continuity, hole) = step.positions.begin(log.clone(), start);
        let position = step.positions.get(&log).cloned();
        let read_offset = frame.read_offset;
        let room_id = frame.room_id.clone();
        let joined = Joined { room_id, members: frame.members, continuity, position, read_offset };
        for (_, waiter) in room.waiters.drain(..) {
            let _ = waiter.send(Ok(joined.clone()));
        }
        step.events.push(Event::Joined(joined));
        if let Some(hole) = hole {
            step.events.push(Event::gap(Some(frame.room_id), continuity.into(), hole));
        }
    }

    /// Takes a `left` of the current session.
    pub fn on_left(&mut self, step: &mut Step, frame: LeftFrame) {
        match self.rooms.get_mut(&frame.room_id) {
            // A join was sent after the leave that this answers: its own answer decides.
            Some(room) if !room.requests.is_empty() => {
                (room.session, room.was_joined) = (None, false);
                step.positions.forget(&Log::Room(frame.room_id.clone()));
                step.events.push(Event::Left { room_id: frame.room_id, reason: frame.reason });
            }
            Some(_) => self.forget(step, &frame.room_id, Some(&frame.reason)),
            None => {}
        }
        if let Some(leave) = frame.id.and_then(|id| self.leaves.remove(&id)) {
            let _ = leave.reply.send(Ok(()));
        }
    }

    /// Takes an `error` of the current session; false when it answers no join or leave.
    pub fn on_error(&mut self, step: &mut Step, frame: &ErrorFrame) -> bool {
        let answered = self.rooms.iter_mut().find(|(room_id, room)| room.waits_for(room_id, frame));
        let Some((room_id, room)) = answered else { return false };
        let room_id = room_id.clone();
        let fault = fault(frame);
        if let Some(id) = room.leaving.take() {
            if fault.code == Code::NotJoined {
                self.forget(step, &room_id, Some("LEFT"));
            }
            if let Some(leave) = self.leaves.remove(&id) {
                let _ = leave.reply.send(Err(Error::Rejected(fault)));
            }
            return true;
        }
        room.stop();
        let is_retrying = fault.code.is_retryable();
        if is_retrying {
            let wait = fault.retry_after.unwrap_or_else(|| step.retry.wait(room.attempt));
            room.attempt += 1;
            room.ask_at = Some(step.now + wait);
        } else {
            for (_, waiter) in room.waiters.drain(..) {
                let _ = waiter.send(Err(Error::Rejected(fault.clone())));
            }
            if room.session != step.session {
                self.forget(step, &room_id, None);
            }
        }
        step.events.push(Event::JoinFailed { room_id, fault, is_retrying });
        true
    }

    /// When [`RoomSet::on_time`] has something to do.
    pub fn due(&self) -> Option<Instant> {
        let asks = self.rooms.values().filter_map(|room| room.ask_at);
        let waiters = self.rooms.values().flat_map(|room| room.waiters.iter().map(|(until, _)| *until));
        let leaves = self.leaves.values().map(|leave| leave.until);
        asks.chain(waiters).chain(leaves).min()
    }

    /// Asks again where it is time, and gives up what waited too long.
    pub fn on_time(&mut self, step: &mut Step) {
        let now = step.now;
        for (_, leave) in self.leaves.extract_if(.., |_, leave| leave.until <= now) {
            let _ = leave.reply.send(Err(Error::Deadline { after: self.timeout }));
        }
        let mut unwanted = Vec::new();
        for (room_id, room) in &mut self.rooms {
            for (_, waiter) in room.waiters.extract_if(.., |(until, _)| *until <= now) {
                let _ = waiter.send(Err(Error::Deadline { after: self.timeout }));
                if !room.was_joined && !room.is_pinned {
                    unwanted.push(room_id.clone());
                }
            }
            if room.ask_at.is_some_and(|at| at <= now) {
                room.ask(room_id, step, self.timeout);
            }
        }
        for room_id in unwanted {
            self.withdraw(step, &room_id);
        }
    }

    /// Ends everybody's waiting.
    pub fn close(&mut self) {
        for room in self.rooms.values_mut() {
            for (_, waiter) in room.waiters.drain(..) {
                let _ = waiter.send(Err(Error::Closed));
            }
        }
        self.rooms.clear();
        for (_, leave) in std::mem::take(&mut self.leaves) {
            let _ = leave.reply.send(Err(Error::Closed));
        }
    }

    /// A join that nobody waits for any more must not take a seat later.
    fn withdraw(&mut self, step: &mut Step, room_id: &str) {
        if self.rooms.get(room_id).is_none_or(|room| !room.waiters.is_empty()) {
            return;
        }
        if step.session.is_some() {
            let id = step.next_id();
            step.frames.push(ClientFrame::Leave { id, room_id: room_id.to_owned() });
        }
        self.forget(step, room_id, None);
    }

    fn forget(&mut self, step: &mut Step, room_id: &str, left: Option<&str>) {
        let Some(room) = self.rooms.remove(room_id) else { return };
        for (_, waiter) in room.waiters {
            let _ = waiter.send(Err(Error::Left { room_id: room_id.to_owned() }));
        }
        step.positions.forget(&Log::Room(room_id.to_owned()));
        if let Some(reason) = left {
            step.events.push(Event::Left { room_id: room_id.to_owned(), reason: reason.to_owned() });
        }
    }
}

impl Room {
    /// Sends the join, with the position unless this session has the room already; again if no answer comes.
    fn ask(&mut self, room_id: &str, step: &mut Step, timeout: Duration) {
        self.ask_at = None;
        if step.session.is_none() {
            return;
        }
        let log = Log::Room(room_id.to_owned());
        let is_here = self.session == step.session;
        let since = if is_here { None } else { step.positions.get(&log).cloned() };
        let id = step.next_id();
        step.frames.push(ClientFrame::Join { id, room_id: room_id.to_owned(), since: since.clone() });
        if self.requests.len() == REQUESTS_MAX {
            // Answers come in order: the first are the ones to wait for.
            self.requests.pop_back();
        }
        self.requests.push_back(Request { id, since });
        self.ask_at = Some(step.now + timeout);
    }

    fn stop(&mut self) {
        self.requests.clear();
        self.ask_at = None;
    }

    /// The `since` of the join that a `joined` answers; `None` when it answers none of these: the room was left since.
    /// An answer that came late counts, because what follows it on the session begins at its `since`.
    fn since_of(&self, id: Option<u64>) -> Option<Option<Position>> {
        if self.leaving.is_some() {
            return None;
        }
        if self.requests.is_empty() {
            return Some(None);
        }
        let answered = self.requests.iter().find(|request| Some(request.id) == id)?;
        Some(answered.since.clone())
    }

    /// An error without an id answers by its room.
    fn waits_for(&self, room_id: &str, error: &ErrorFrame) -> bool {
        let is_answered = |id: u64| error.id.map_or(error.room_id.as_deref() == Some(room_id), |of| of == id);
        match self.leaving {
            Some(id) => is_answered(id),
            None => self.requests.iter().any(|request| is_answered(request.id)),
        }
    }
}

/// The fault of an error frame; a code of a later version reads as INTERNAL, with its word in the message.
pub fn fault(frame: &ErrorFrame) -> Fault {
    let retry_after = frame.retry_after_ms.map(Duration::from_millis);
    match frame.code.parse() {
        Ok(code) => Fault { code, message: frame.message.clone(), retry_after },
        Err(()) => {
            let message = format!("{}: {}", frame.code, frame.message);
            Fault { code: Code::Internal, message, retry_after }
        }
    }
}

#[cfg(test)]
mod tests;
