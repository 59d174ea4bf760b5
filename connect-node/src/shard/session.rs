//! The record of one session, and the only two ways its bytes leave: straight to the socket, or through its queue.

use std::{
    io::{self, IoSlice, Read, Write},
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use roomcast_types::{ClientId, RoomId, SessionId, UserId};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::{
    Error, Message,
    protocol::{CloseFrame, Role, WebSocketConfig, WebSocketContext},
};

use super::{
    flow::Flow,
    limits::FrameMeter,
    out::{Flushed, Frame, Out},
    timers::{Millis, millis},
};
use crate::{
    load::Place,
    ports::{CloseCode, TargetOutcome},
};

/// How long a close may take: first with everything that waits, then with the close frame alone.
pub(super) const CLOSE_WAIT: Duration = Duration::from_millis(900);
/// What tungstenite keeps for reading on each session; its default is 128 KiB.
const READ_BUFFER: usize = 512;
/// tungstenite holds control frames only, and hands them to `out` at once.
const WRITE_BUFFER_MAX: usize = 64 * 1024;
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
    /// When the kernel last took a byte of what waits.
    progress_at: Millis,
    /// The moment of this session's valid entry in the timer wheel.
    pub(super) scheduled: Millis,
    context: WebSocketContext,
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

/// Why no further message can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Broken {
    /// The close handshake is over.
    Closed,
    /// A frame or message over the limit.
    TooBig,
    /// Text that is not UTF-8.
    NotText,
    /// Any other violation of the WebSocket protocol.
    Protocol,
}

impl Broken {
    /// `None` when only more bytes are needed.
    fn from_websocket(error: &Error) -> Option<Self> {
        match error {
            Error::Io(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Error::ConnectionClosed | Error::AlreadyClosed => Some(Self::Closed),
            Error::Capacity(_) => Some(Self::TooBig),
            Error::Utf8(_) => Some(Self::NotText),
            _ => Some(Self::Protocol),
        }
    }
}

impl CloseCode {
    /// The text of the close frame.
    fn reason(self) -> &'static str {
        match self {
            Self::Protocol => "not the WebSocket protocol",
            Self::InvalidData => "text is not UTF-8",
            Self::Policy => "too many malformed frames",
            Self::TooBig => "frame too large",
            Self::Internal => "internal error",
            Self::GoingAway => "the node stops",
            Self::TooSlow => "reader too slow",
            Self::NoPong => "nothing came after a ping",
            Self::TakenOver => "a later session took over",
            Self::Kicked => "kicked",
        }
    }
}

/// What the session's task has to do.
#[derive(Debug)]
pub(super) enum Turn {
    Read,
    Write,
}

impl Session {
    pub(super) fn new(opening: Opening, generation: u32, flow: &Flow) -> Self {
        let limit = Some(flow.config.frame_bytes_max);
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(0)
            .max_write_buffer_size(WRITE_BUFFER_MAX)
            .max_message_size(limit)
            .max_frame_size(limit);
        let context = match opening.read_ahead {
            ahead if ahead.is_empty() => WebSocketContext::new(Role::Server, Some(config)),
            ahead => WebSocketContext::from_partially_read(ahead, Role::Server, Some(config)),
        };
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
            context,
            waker: None,
            _place: opening.place,
        }
    }

    pub(super) fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open)
    }

    /// Something came from the peer.
    pub(super) fn heard(&mut self) {
        self.pong_due = NEVER;
    }

    /// Waits for the socket on behalf of the session's task.
    pub(super) fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<Turn> {
        if !self.out.is_empty() && self.stream.poll_write_ready(cx).is_ready() {
            return Poll::Ready(Turn::Write);
        }
        if !matches!(self.phase, Phase::Waiting { .. }) && self.stream.poll_read_ready(cx).is_ready() {
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

    /// The next message among `input` and what was read before; `None` when more bytes are needed.
    pub(super) fn next_message(
        &mut self,
        input: &mut &[u8],
        flow: &mut Flow,
    ) -> Option<Result<Message, Broken>> {
        let before = self.out.bytes();
        let result = self.context.read(&mut Pipe { input, out: &mut self.out });
        flow.requeued(before, self.out.bytes());
        match result {
            Ok(message) => Some(Ok(message)),
            Err(error) => Broken::from_websocket(&error).map(Err),
        }
    }

    /// Queues what the WebSocket layer has to say: a pong, or the answer to a close.
    pub(super) fn queue_control(&mut self, flow: &mut Flow) {
        let before = self.out.bytes();
        // Its only error here says that a close was answered, which the caller knows.
        let _ = self.context.flush(&mut Pipe { input: &mut &[][..], out: &mut self.out });
        flow.requeued(before, self.out.bytes());
    }

    /// Queues a close frame.
    pub(super) fn queue_close(&mut self, code: CloseCode, flow: &mut Flow) {
        let before = self.out.bytes();
        let frame = CloseFrame { code: (code as u16).into(), reason: code.reason().into() };
        // The queue takes everything, and a context that was closed before has its frame in it.
        let _ = self.context.close(&mut Pipe { input: &mut &[][..], out: &mut self.out }, Some(frame));
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

/// What the WebSocket layer takes for a socket: reads come from the scratch, writes go to the queue.
struct Pipe<'a, 'b> {
    input: &'a mut &'b [u8],
    out: &'a mut Out,
}

impl Read for Pipe<'_, '_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self.input.read(into)? {
            // An empty scratch is not the end of the stream.
            0 => Err(io::ErrorKind::WouldBlock.into()),
            taken => Ok(taken),
        }
    }
}

impl Write for Pipe<'_, '_> {
    fn write(&mut self, frames: &[u8]) -> io::Result<usize> {
        if !frames.is_empty() {
            self.out.push(Rc::new(Frame(Bytes::copy_from_slice(frames))), 0);
        }
        Ok(frames.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
