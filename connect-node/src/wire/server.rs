//! Frames that the server sends: what each of them says, however it is written.

use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use roomcast_proto::pubsub::{Deliver, content, deliver};
use roomcast_types::{ClientId, Fault, NodeId, Position, RoomId, SessionId, UserId};

use super::{Encoding, json, proto};
use crate::{log::returning::Standing, ports::LeftReason};

/// A frame. `id` is that of the client's frame which it answers.
#[derive(Debug)]
pub enum ServerFrame<'a> {
    /// The first of a session.
    Welcome(Welcome<'a>),
    /// In a room.
    Joined {
        /// Absent for rooms of the URL.
        id: Option<u64>,
        /// Which room.
        room: &'a RoomId,
        /// Users with a seat.
        members: u64,
        /// A position only in rooms with a log, `recovered` only when the join named one, `read_offset` only in DURABLE
        /// rooms, for who has read something of this life of the log.
        standing: &'a Standing,
    },
    /// Out of a room.
    Left {
        /// Absent when the session did not ask.
        id: Option<u64>,
        /// Which room.
        room: &'a RoomId,
        /// Why.
        reason: LeftReason,
    },
    /// A message.
    Push(Push<'a>),
    /// Messages may be missing.
    Gap {
        /// Absent: of the user's own log.
        room: Option<&'a RoomId>,
        /// Up to here.
        position: Position,
    },
    /// DRAINING: the client is to connect anew.
    Notice {
        /// When.
        reconnect_after: Duration,
    },
    /// Something was refused.
    Error {
        /// Absent when it could not be read, and for rooms of the URL.
        id: Option<u64>,
        /// Which room, if it is about one.
        room: Option<&'a RoomId>,
        /// Why. A retry hint of less than a millisecond is rounded up.
        fault: &'a Fault,
    },
    /// The answer to a `ping` frame of the protocol.
    Pong {
        /// Absent when the ping had none.
        id: Option<u64>,
    },
}

impl ServerFrame<'_> {
    /// The whole WebSocket frame, header included, so that the same bytes can go to any number of sockets.
    pub fn encode(&self, encoding: Encoding) -> Bytes {
        match encoding {
            Encoding::Json => json::encode(self),
            Encoding::Proto => proto::encode(self),
        }
    }
}

/// What the first frame of a session says.
#[derive(Debug)]
pub struct Welcome<'a> {
    /// The session, fresh.
    pub session_id: SessionId,
    /// This node.
    pub node_id: &'a NodeId,
    /// Who.
    pub user_id: &'a UserId,
    /// As given, or a fresh one.
    pub client_id: &'a ClientId,
    /// How often the server pings.
    pub ping_interval: Duration,
    /// The wall clock of this node, milliseconds since 1970.
    pub server_time_ms: i64,
    /// Largest frame a client may send, in bytes.
    pub frame_bytes: usize,
    /// Rooms a session may be in.
    pub rooms: usize,
    /// In the log of its user, if there is one.
    pub position: Option<Position>,
    /// Only when the connection named a position.
    pub recovered: Option<bool>,
}

/// What clients read of a message. One without a target (a lane never carries one) reads as one for all; content that is
/// missing as an empty text.
#[derive(Debug)]
pub struct Push<'a> {
    pub(super) target: Target<'a>,
    pub(super) message_id: &'a str,
    pub(super) position: Option<Position>,
    pub(super) content_type: content::Type,
    pub(super) data: Data<'a>,
    pub(super) timestamp: i64,
    pub(super) timestamp_ms: i64,
    pub(super) ack: bool,
    /// Empty: of no trace.
    pub(super) traceparent: &'a str,
}

/// Whom a message was for.
#[derive(Debug)]
pub(super) enum Target<'a> {
    Room(&'a str),
    User,
    All,
}

/// The payload of a message: bytes when the publisher says so, or when they are no UTF-8.
#[derive(Debug)]
pub(super) enum Data<'a> {
    Text(&'a str),
    Binary(&'a Bytes),
}

impl<'a> From<&'a Deliver> for Push<'a> {
    fn from(message: &'a Deliver) -> Self {
        let content = message.content.as_ref();
        let data = match content {
            None => Data::Text(""),
            Some(content) => match std::str::from_utf8(&content.data) {
                Ok(text) if !content.binary => Data::Text(text),
                _ => Data::Binary(&content.data),
            },
        };
        Self {
            target: match &message.target {
                Some(deliver::Target::RoomId(room)) => Target::Room(room),
                Some(deliver::Target::Users(_)) => Target::User,
                Some(deliver::Target::All(_)) | None => Target::All,
            },
            message_id: &message.message_id,
            position: Position::from_wire(message.epoch, message.offset),
            content_type: content.map(|content| content.r#type()).unwrap_or_default(),
            data,
            timestamp: content.map_or(0, |content| content.timestamp),
            timestamp_ms: message.timestamp_ms,
            ack: message.ack,
            traceparent: &message.traceparent,
        }
    }
}

/// The `push` of one message, for any number of receivers on any thread: written at most once in each encoding, when
/// somebody asks for that.
#[derive(Clone)]
pub struct PushFrame(Arc<Encoded>);

struct Encoded {
    message: Deliver,
    bytes: [OnceLock<Bytes>; Encoding::ALL.len()],
}

impl PushFrame {
    /// Of this message; nothing is encoded yet.
    pub fn new(message: Deliver) -> Self {
        Self(Arc::new(Encoded { message, bytes: Default::default() }))
    }

    /// The message.
    pub fn message(&self) -> &Deliver {
        &self.0.message
    }

    /// The whole WebSocket frame; the same bytes for everybody.
    pub fn bytes(&self, encoding: Encoding) -> Bytes {
        let encode = || ServerFrame::Push(Push::from(&self.0.message)).encode(encoding);
        self.0.bytes[encoding as usize].get_or_init(encode).clone()
    }
}

impl fmt::Debug for PushFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PushFrame").field("message_id", &self.0.message.message_id).finish_non_exhaustive()
    }
}
