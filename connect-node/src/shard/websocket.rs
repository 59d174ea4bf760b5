//! The WebSocket protocol of one session: tungstenite, kept away from the socket. It reads from a slice and writes whole
//! frames to the session's queue.

use std::io::{self, Read, Write};

use bytes::Bytes;
use tokio_tungstenite::tungstenite::{
    Error, Message,
    protocol::{CloseFrame, Role, WebSocketConfig, WebSocketContext},
};

use super::out::{Frame, Out};
use crate::ports::CloseCode;

/// What tungstenite keeps for reading on each session; its default is 128 KiB. It grows for larger frames, and what is read
/// lies in memory already: more would only be memory.
const READ_BUFFER: usize = 128;
/// tungstenite holds control frames only, and hands them to the queue at once.
const WRITE_BUFFER_MAX: usize = 64 * 1024;

/// The state of the protocol.
pub(super) struct WebSocket {
    context: WebSocketContext,
}

impl WebSocket {
    /// After the handshake; `read_ahead` came behind it. No message or frame of the client may be larger than `limit`.
    pub(super) fn new(read_ahead: Vec<u8>, limit: usize) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(0)
            .max_write_buffer_size(WRITE_BUFFER_MAX)
            .max_message_size(Some(limit))
            .max_frame_size(Some(limit));
        let context = match read_ahead {
            ahead if ahead.is_empty() => WebSocketContext::new(Role::Server, Some(config)),
            ahead => WebSocketContext::from_partially_read(ahead, Role::Server, Some(config)),
        };
        Self { context }
    }

    /// The next message among `input` and what was read before; `None` when more bytes are needed. A pong, or the
    /// answer to a close, is queued by the call after the one that gave the message.
    pub(super) fn next(&mut self, input: &mut &[u8], out: &mut Out) -> Option<Result<Message, Broken>> {
        match self.context.read(&mut Pipe { input, out }) {
            Ok(message) => Some(Ok(message)),
            Err(error) => Broken::from_websocket(&error).map(Err),
        }
    }

    /// Queues what the protocol has to say: a pong, or the answer to a close.
    pub(super) fn queue_control(&mut self, out: &mut Out) {
        // Its only error here says that a close was answered, which the caller knows.
        let _ = self.context.flush(&mut Pipe { input: &mut &[][..], out });
    }

    /// Queues a close frame.
    pub(super) fn queue_close(&mut self, code: CloseCode, out: &mut Out) {
        // A pong that is due goes in front: nothing follows a close frame.
        self.queue_control(out);
        let frame = CloseFrame { code: (code as u16).into(), reason: code.reason().into() };
        // The queue takes everything, and a context that was closed before has its frame in it.
        let _ = self.context.close(&mut Pipe { input: &mut &[][..], out }, Some(frame));
    }
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
            self.out.push(Frame::plain(Bytes::copy_from_slice(frames)), 0);
        }
        Ok(frames.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
