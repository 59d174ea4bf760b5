//! The record of one session, and the only two ways its bytes leave: straight to the socket, or through its queue.

use std::{
    task::{Context, Poll, Waker},
    time::Duration,
};

use roomcast_types::{ClientId, MessageId, RoomId, SessionId, UserId};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

use super::{
    flow::Flow,
    history::WalkNumber,
    limits::FrameMeter,
    out::Out,
    timers::{Millis, NEVER, millis},
    traced::Traced,
    unacked::Unacked,
    websocket::{Broken, WebSocket},
};
use crate::{
    load::Place,
    ports::{CloseCode, SessionKey},
    tally::TargetOutcome,
    wire::Encoding,
};

/// How long a close may take: first with everything that waits, then with the close frame alone.
pub(super) const CLOSE_WAIT: Duration = Duration::from_millis(900);
/// How long a client that speaks too fast is not read: its frames pile up on its own side, and answering them costs
/// little.
const READ_PAUSE: Duration = Duration::from_millis(250);

/// Where a session is in its life.
///
/// | from    | event                                    | to      |
/// |---------|------------------------------------------|---------|
/// | Waiting | welcome                                  | Open    |
/// | Waiting, Open | a close of ours, or the peer's     | Closing |
/// | any     | socket broken, or Closing done or over   | removed |
#[derive(Debug)]
pub(super) enum Phase {
    /// For its welcome; frames of the client are not read.
    Waiting {
        /// Of the URL, to be joined after the welcome.
        rooms: Box<[RoomId]>,
    },
    /// Takes part.
    Open,
    /// Told to the hub as closed and in no room; only the close frame has to leave.
    Closing(Closing),
}

/// How a close stands.
#[derive(Debug)]
pub(super) struct Closing {
    /// When patience ends.
    pub(super) until: Millis,
    /// Whatever waited in front of the close frame was dropped.
    pub(super) is_bare: bool,
    /// What the peer sends is thrown away unparsed: it broke the protocol.
    pub(super) discards: bool,
    /// The outcome of what cannot be written any more.
    pub(super) drops_as: TargetOutcome,
    /// Both sides have said close: the socket goes when the queue is empty.
    pub(super) is_answered: bool,
}

/// The session's tie to one room.
#[derive(Debug)]
pub(super) struct Seat {
    /// Place in the shard's rooms.
    pub(super) room: u32,
    /// Place among its members, while it is one.
    pub(super) position: Option<u32>,
    /// Joins and leaves that the hub has not answered.
    pub(super) unanswered: u16,
    /// The client's last word was join.
    pub(super) is_wanted: bool,
    /// While it is a member: since when, and the last walk before.
    pub(super) joined_at: Millis,
    pub(super) joined: WalkNumber,
}

/// One live connection. A delivery reads the beginning, two lines of the cache, and nothing else.
#[repr(C, align(64))]
pub(super) struct Session {
    pub(super) generation: u32,
    /// How its frames are written.
    pub(super) encoding: Encoding,
    pub(super) phase: Phase,
    pub(super) stream: TcpStream,
    pub(super) out: Out,
    pub(super) session_id: SessionId,
    pub(super) user_id: UserId,
    pub(super) client_id: ClientId,
    pub(super) seats: Vec<Seat>,
    pub(super) unacked: Unacked,
    /// Messages of the user's inbox that were sent and not acknowledged.
    pub(super) inbox: Vec<MessageId>,
    /// Once it reports arrivals.
    pub(super) traced: Option<Box<Traced>>,
    pub(super) meter: FrameMeter,
    /// When to ping next.
    pub(super) ping_due: Millis,
    /// When silence after a ping has lasted too long.
    pub(super) pong_due: Millis,
    /// When the last ping was sent; `NEVER` once its pong came.
    pub(super) pinged_at: Millis,
    /// From the last ping to its pong, in milliseconds; `u32::MAX` before the first.
    rtt: u32,
    /// When the socket was taken in, and the last walk before the session took part.
    pub(super) opened_at: Millis,
    pub(super) opened: WalkNumber,
    /// When it was told to go, because the node drains.
    pub(super) told_at: Millis,
    /// Bytes that came behind the handshake wait to be acted on.
    pub(super) read_ahead: bool,
    /// Spoke too fast: its socket is not read until then.
    is_paused: bool,
    resume_at: Millis,
    /// When the kernel last took a byte of what waits.
    pub(super) progress_at: Millis,
    /// The moment of this session's valid entry in the timer wheel.
    pub(super) scheduled: Millis,
    websocket: WebSocket,
    /// Of the session's task, while it waits for the socket.
    waker: Option<Waker>,
    _place: Place,
}

/// What a session is made of.
pub(super) struct Opening {
    pub(super) stream: TcpStream,
    /// Bytes that came behind the handshake.
    pub(super) read_ahead: Vec<u8>,
    pub(super) session_id: SessionId,
    pub(super) user_id: UserId,
    pub(super) client_id: ClientId,
    pub(super) rooms: Vec<RoomId>,
    pub(super) encoding: Encoding,
    pub(super) place: Place,
}

/// What the session's task has to do.
#[derive(Debug)]
pub(super) enum Turn {
    Read,
    Write,
}

impl Session {
    pub(super) fn new(opening: Opening, generation: u32, flow: &Flow) -> Self {
        Self {
            generation,
            phase: Phase::Waiting { rooms: opening.rooms.into() },
            encoding: opening.encoding,
            stream: opening.stream,
            out: Out::default(),
            session_id: opening.session_id,
            user_id: opening.user_id,
            client_id: opening.client_id,
            seats: Vec::new(),
            unacked: Unacked::default(),
            inbox: Vec::new(),
            traced: None,
            meter: FrameMeter::default(),
            ping_due: flow.now + millis(flow.config.ping_interval),
            pong_due: NEVER,
            pinged_at: NEVER,
            rtt: u32::MAX,
            opened_at: flow.now,
            opened: WalkNumber::MAX,
            told_at: NEVER,
            progress_at: flow.now,
            scheduled: NEVER,
            read_ahead: !opening.read_ahead.is_empty(),
            is_paused: false,
            resume_at: 0,
            websocket: WebSocket::new(opening.read_ahead, flow.config.frame_bytes_max),
            waker: None,
            _place: opening.place,
        }
    }

    /// Names this session, which is in that slot.
    pub(super) fn key(&self, shard: u16, slot: u32) -> SessionKey {
        SessionKey { shard, slot, generation: self.generation }
    }

    /// Something of each line that a delivery reads.
    pub(super) fn beginning(&self) -> usize {
        self.generation as usize ^ self.out.frames()
    }

    pub(super) fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open)
    }

    /// Whether it was told to go.
    pub(super) fn is_told(&self) -> bool {
        self.told_at != NEVER
    }

    /// Something came from the peer.
    pub(super) fn heard(&mut self) {
        self.pong_due = NEVER;
    }

    /// A pong came: the answer to the last ping, or of the client's own accord.
    pub(super) fn ponged(&mut self, now: Millis) {
        if self.pinged_at != NEVER {
            self.rtt = u32::try_from(now.saturating_sub(self.pinged_at)).unwrap_or(u32::MAX - 1);
            self.pinged_at = NEVER;
        }
    }

    /// Milliseconds from the last ping to its pong.
    pub(super) fn rtt_ms(&self) -> Option<u32> {
        (self.rtt != u32::MAX).then_some(self.rtt)
    }

    /// Stops reading for a while.
    pub(super) fn pause(&mut self, slot: u32, flow: &mut Flow) {
        self.is_paused = true;
        self.resume_at = flow.now + millis(READ_PAUSE);
        self.look_at(self.resume_at, slot, flow);
    }

    /// When to read again; never, when there is no pause.
    pub(super) fn resumes_at(&self) -> Millis {
        if self.is_paused { self.resume_at } else { NEVER }
    }

    /// Reads again if the pause is over.
    pub(super) fn resume(&mut self, now: Millis) {
        if now >= self.resumes_at() {
            self.is_paused = false;
            self.wake();
        }
    }

    /// Waits for the socket on behalf of the session's task.
    pub(super) fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<Turn> {
        if !self.out.is_empty() && self.stream.poll_write_ready(cx).is_ready() {
            return Poll::Ready(Turn::Write);
        }
        let reads = match self.phase {
            Phase::Waiting { .. } => false,
            Phase::Open => !self.is_paused,
            Phase::Closing(_) => true,
        };
        if reads && (self.read_ahead || self.stream.poll_read_ready(cx).is_ready()) {
            return Poll::Ready(Turn::Read);
        }
        if !self.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            self.waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Has the session's task look again at what it waits for.
    pub(super) fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }

    /// Whether what waits is within the limits (control frames are queued without asking).
    pub(super) fn is_within_limits(&self, flow: &Flow) -> bool {
        let (frames_more, bytes_more) = self.out.allowed();
        self.out.frames() <= flow.config.queue_frames + frames_more
            && self.out.bytes() <= flow.config.queue_bytes + bytes_more
    }

    /// Whether one more frame of that size is within the limits.
    pub(super) fn has_room(&self, bytes: usize, flow: &Flow) -> bool {
        let config = &flow.config;
        self.out.frames() < config.queue_frames && self.out.bytes() + bytes <= config.queue_bytes
    }

    /// Something waits: the task must hear of a writable socket, and the wheel of one that never is.
    pub(super) fn watch_progress(&mut self, slot: u32, flow: &mut Flow) {
        self.wake();
        let next = self.stalled_at(flow).min(self.out.next_expiry());
        self.look_at(next, slot, flow);
    }

    /// When what waits now counts as stalled, unless the kernel takes some of it before.
    pub(super) fn stalled_at(&self, flow: &Flow) -> Millis {
        if self.out.is_empty() { NEVER } else { self.progress_at + millis(flow.config.stall_timeout) }
    }

    /// Asks the wheel for a look at the given time, unless there is an earlier one anyway.
    pub(super) fn look_at(&mut self, at: Millis, slot: u32, flow: &mut Flow) {
        if at < self.scheduled {
            self.scheduled = flow.wheel.insert((slot, self.generation), at);
        }
    }

    /// See [`WebSocket::next`].
    pub(super) fn next_message(
        &mut self,
        input: &mut &[u8],
        flow: &mut Flow,
    ) -> Option<Result<Message, Broken>> {
        let before = self.out.bytes();
        let message = self.websocket.next(input, &mut self.out);
        flow.requeued(before, self.out.bytes());
        message
    }

    /// See [`WebSocket::queue_control`].
    pub(super) fn queue_control(&mut self, flow: &mut Flow) {
        let before = self.out.bytes();
        self.websocket.queue_control(&mut self.out);
        flow.requeued(before, self.out.bytes());
    }

    /// See [`WebSocket::queue_close`].
    pub(super) fn queue_close(&mut self, code: CloseCode, flow: &mut Flow) {
        let before = self.out.bytes();
        self.websocket.queue_close(code, &mut self.out);
        flow.requeued(before, self.out.bytes());
    }
}
