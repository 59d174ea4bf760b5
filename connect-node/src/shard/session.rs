//! The record of one session, and the only two ways its bytes leave: straight to the socket, or through its queue.

use std::{
    io::{self, IoSlice},
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use roomcast_types::{ClientId, RoomId, SessionId, UserId};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

use super::{
    flow::Flow,
    limits::FrameMeter,
    out::{Flushed, Frame, Out},
    timers::{Millis, millis},
    websocket::{Broken, WebSocket},
};
use crate::{
    load::Place,
    ports::{CloseCode, SessionKey, TargetOutcome},
};

/// How long a close may take: first with everything that waits, then with the close frame alone.
pub(super) const CLOSE_WAIT: Duration = Duration::from_millis(900);
/// How long a client that speaks too fast is not read: its frames pile up on its own side, and answering them costs
/// little.
const READ_PAUSE: Duration = Duration::from_millis(250);
/// No timer.
pub(super) const NEVER: Millis = Millis::MAX;

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
    /// Frame id of a join that named a position.
    pub(super) since: Option<Option<u64>>,
}

/// One live connection.
pub(super) struct Session {
    pub(super) generation: u32,
    pub(super) phase: Phase,
    pub(super) stream: TcpStream,
    pub(super) out: Out,
    pub(super) session_id: SessionId,
    pub(super) user_id: UserId,
    pub(super) client_id: ClientId,
    pub(super) seats: Vec<Seat>,
    pub(super) meter: FrameMeter,
    /// When to ping next.
    pub(super) ping_due: Millis,
    /// When silence after a ping has lasted too long.
    pub(super) pong_due: Millis,
    /// Bytes that came behind the handshake wait to be acted on.
    pub(super) read_ahead: bool,
    /// Spoke too fast: its socket is not read until then.
    is_paused: bool,
    resume_at: Millis,
    /// When the kernel last took a byte of what waits.
    progress_at: Millis,
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
    pub(super) place: Place,
}

/// What became of frames that were sent to one session, in their order: first those written, then those pending.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) written: usize,
    pub(super) pending: usize,
    pub(super) end: SentEnd,
}

impl Sent {
    /// What became of the frame at this index.
    pub(super) fn outcome(&self, index: usize) -> TargetOutcome {
        let tried = self.written + self.pending;
        match self.end {
            _ if index < self.written => TargetOutcome::Written,
            _ if index < tried => TargetOutcome::Pending,
            SentEnd::Slow if index == tried => TargetOutcome::DroppedSlow,
            _ => TargetOutcome::Closed,
        }
    }
}

/// Why `written` and `pending` of [`Sent`] are all, or not.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum SentEnd {
    /// They are all.
    Complete,
    /// The next frame did not fit.
    Slow,
    /// The socket is broken.
    Broken,
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
            stream: opening.stream,
            out: Out::default(),
            session_id: opening.session_id,
            user_id: opening.user_id,
            client_id: opening.client_id,
            seats: Vec::new(),
            meter: FrameMeter::default(),
            ping_due: flow.now + millis(flow.config.ping_interval),
            pong_due: NEVER,
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

    pub(super) fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open)
    }

    /// Something came from the peer.
    pub(super) fn heard(&mut self) {
        self.pong_due = NEVER;
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

    /// Sends frames, all or a beginning of them: straight to the socket when nothing waits, else behind what waits.
    /// `slices` are the bytes of `frames`. What the socket takes only in part waits even where the limits are reached,
    /// for its rest has to follow.
    pub(super) fn send(
        &mut self,
        frames: &[Rc<Frame>],
        slices: &[IoSlice<'_>],
        slot: u32,
        flow: &mut Flow,
    ) -> Sent {
        let (mut written, mut begun) = (0, 0);
        if self.out.is_empty() {
            let result = match slices {
                [one] => self.stream.try_write(one),
                many => self.stream.try_write_vectored(many),
            };
            match result {
                Ok(taken) => {
                    flow.bytes_written += taken as u64;
                    flow.writes += 1;
                    begun = taken;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return Sent { written, pending: 0, end: SentEnd::Broken },
            }
            while let Some(frame) = frames.get(written).filter(|frame| frame.len() <= begun) {
                begun -= frame.len();
                written += 1;
            }
            if written == frames.len() {
                return Sent { written, pending: 0, end: SentEnd::Complete };
            }
            self.progress_at = flow.now;
        }
        let before = self.out.bytes();
        let mut sent = Sent { written, pending: 0, end: SentEnd::Complete };
        for frame in &frames[written..] {
            let skip = std::mem::take(&mut begun);
            if skip == 0 && !self.fits(frame.len(), before, flow) {
                sent.end = SentEnd::Slow;
                break;
            }
            self.out.push(frame.clone(), skip);
            sent.pending += 1;
        }
        flow.requeued(before, self.out.bytes());
        self.watch_progress(slot, flow);
        sent
    }

    /// Whether a frame may wait here; `accounted` of the queue's bytes are in the process's budget already.
    fn fits(&self, bytes: usize, accounted: usize, flow: &Flow) -> bool {
        self.out.frames() < flow.config.queue_frames
            && self.out.bytes() + bytes <= flow.config.queue_bytes
            && flow.has_budget(self.out.bytes() - accounted + bytes)
    }

    /// Whether what waits is within the limits (control frames are queued without asking).
    pub(super) fn is_within_limits(&self, flow: &Flow) -> bool {
        self.out.frames() <= flow.config.queue_frames && self.out.bytes() <= flow.config.queue_bytes
    }

    /// Writes what waits.
    pub(super) fn flush(&mut self, slot: u32, flow: &mut Flow) -> Flushed {
        if self.out.is_empty() {
            return Flushed::Empty;
        }
        let before = self.out.bytes();
        let stream = &self.stream;
        let (taken, flushed) = self.out.flush(|slices| {
            let written = stream.try_write_vectored(slices);
            flow.writes += u64::from(written.is_ok());
            written
        });
        flow.bytes_written += taken as u64;
        flow.requeued(before, self.out.bytes());
        if taken > 0 {
            self.progress_at = flow.now;
        }
        if flushed == Flushed::Blocked {
            self.watch_progress(slot, flow);
        }
        flushed
    }

    /// Something waits: the task must hear of a writable socket, and the wheel of one that never is.
    fn watch_progress(&mut self, slot: u32, flow: &mut Flow) {
        self.wake();
        let stalled_at = self.stalled_at(flow);
        self.look_at(stalled_at, slot, flow);
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

    /// Drops waiting frames that were not begun: all, or all but the last.
    pub(super) fn drop_unbegun(&mut self, keep_last: bool, flow: &mut Flow) {
        let before = self.out.bytes();
        if keep_last {
            self.out.drop_unbegun_but_last();
        } else {
            self.out.drop_unbegun();
        }
        flow.requeued(before, self.out.bytes());
    }
}
