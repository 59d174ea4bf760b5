//! What a subscriber tells its application.

use std::time::Duration;

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use roomcast_types::Fault;

use super::{
    ack::Asked,
    frame::{PushFrame, position},
    position::{Continuity, Hole, Log, Position},
};

/// What happened, in the order in which it happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The first session is open.
    Welcome(Welcome),
    /// A later session is open, after a loss or a move to another node. Rooms are joined again by themselves.
    Reconnected(Welcome),
    /// A room is joined: for the first time, or again on a new session.
    Joined(Joined),
    /// A join was refused.
    JoinFailed {
        /// The room.
        room_id: String,
        /// Why.
        fault: Fault,
        /// True: the subscriber asks again by itself. False: the room is no longer wanted.
        is_retrying: bool,
    },
    /// A room was left.
    Left {
        /// The room.
        room_id: String,
        /// LEFT, KICKED, EVICTED or ROOM_DELETED.
        reason: String,
    },
    /// A message. Each is handed over once.
    Push(Push),
    /// Messages of a room, or to this user, may be missing between the event before and the one after. Told for each log
    /// that could not be followed without a hole; messages to everyone have no log, so each loss of a session is one.
    Gap {
        /// The room; `None` for messages to the user.
        room_id: Option<String>,
        /// How it came to be.
        cause: GapCause,
        /// The last position before the hole, when one was known.
        from: Option<Position>,
        /// Where the log goes on: messages after `from` up to here may be missing. `None` when it keeps no positions.
        to: Option<Position>,
    },
    /// The node refused something that is no join or leave.
    Refused(Fault),
    /// The connection was lost, or could not be made.
    Disconnected {
        /// The close code; 1006 without one.
        code: u16,
        /// In words.
        reason: String,
        /// When the next attempt is made.
        retry_in: Duration,
    },
    /// The last event: no more connections are made.
    Closed {
        /// The close code; `None` when the node refused the request before a session was open.
        code: Option<u16>,
        /// In words.
        reason: String,
    },
}

/// A session that is open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Welcome {
    /// 32 hexadecimal digits, fresh for each session.
    pub session_id: String,
    /// The node that holds it.
    pub node_id: String,
    /// As the node understood it.
    pub user_id: String,
    /// The same on each reconnect.
    pub client_id: String,
    /// The address connected to.
    pub url: String,
    /// What became of the messages to this user between the last session and this one.
    pub continuity: Continuity,
    /// Where the user's own log stands for this client, when it has one. With [`super::Builder::since`] a later life of the
    /// application goes on from here.
    pub position: Option<Position>,
}

/// A room that is joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    /// The room.
    pub room_id: String,
    /// Users with a seat.
    pub members: u64,
    /// What became of the messages between the last session and this one.
    pub continuity: Continuity,
    /// Where the room's log stands for this client, when it has one. With [`super::Builder::room_since`] a later life of
    /// the application goes on from here.
    pub position: Option<Position>,
    /// Membership DURABLE: the offset up to which this user has acknowledged messages of this log, on any client.
    pub read_offset: Option<u64>,
}

/// How a hole came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GapCause {
    /// The node said so while the session was open.
    Told,
    /// On coming back: the log no longer has what was missed.
    NotRecovered,
    /// On coming back: there was no position to come back to. The log is switched off, or its store did not answer.
    NoLog,
}

/// Whom a push was for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// The members of a room.
    Room(String),
    /// This user.
    User,
    /// Everyone.
    All,
}

/// One message.
#[derive(Debug, Clone, PartialEq)]
pub struct Push {
    /// Names the message.
    pub message_id: String,
    /// Whom it was for.
    pub target: Target,
    /// TEXT, AUDIO, TRANSLATION, SYSTEM, STATE, or a word of a later version.
    pub content_type: String,
    /// What was said.
    pub payload: Payload,
    /// The publisher's own time, milliseconds since 1970.
    pub timestamp: i64,
    /// When the push-manager accepted it, milliseconds since 1970.
    pub accepted_at_ms: i64,
    /// Its place in the log, when there is one.
    pub position: Option<Position>,
    /// W3C trace context, when the push is traced.
    pub traceparent: Option<String>,
    /// The publisher wants to know that it arrived.
    pub wants_ack: bool,
    /// Where the application acknowledges by hand.
    pub(super) asked: Option<Asked>,
}

/// Text or bytes: the publisher's choice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
    /// Text.
    Text(String),
    /// Bytes.
    Binary(Bytes),
}

impl Payload {
    /// The bytes of either.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Binary(bytes) => bytes,
        }
    }

    /// The text; `None` for bytes that are not UTF-8.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Binary(bytes) => std::str::from_utf8(bytes).ok(),
        }
    }
}

impl Push {
    /// `None` for a frame that breaks the protocol: an unknown target, or a payload that is no base64.
    pub(super) fn read(frame: PushFrame) -> Option<Self> {
        let target = match (frame.target.as_str(), frame.room_id) {
            ("room", Some(room_id)) => Target::Room(room_id),
            ("user", _) => Target::User,
            ("all", _) => Target::All,
            _ => return None,
        };
        let content = frame.content;
        let payload = match (content.data, content.binary, content.data_base64) {
            (Some(text), ..) => Payload::Text(text),
            (None, Some(bytes), _) => Payload::Binary(bytes),
            (None, None, Some(base64)) => Payload::Binary(BASE64_STANDARD.decode(base64).ok()?.into()),
            (None, None, None) => Payload::Text(String::new()),
        };
        Some(Self {
            message_id: frame.message_id,
            target,
            content_type: content.content_type,
            payload,
            timestamp: content.timestamp,
            accepted_at_ms: frame.timestamp_ms,
            position: position(&frame.epoch, frame.offset),
            traceparent: frame.traceparent,
            wants_ack: frame.ack,
            asked: None,
        })
    }

    /// Acknowledges the message by hand; only once counts. Without effect when the message does not want it, when it was
    /// acknowledged on receipt (see [`super::Builder::acknowledge`]), when the session that brought it has ended, or when
    /// 4,096 later ones came.
    pub fn ack(&self) {
        if let Some(asked) = &self.asked {
            asked.give(&self.message_id);
        }
    }

    /// The log whose position this message moves.
    pub(super) fn log(&self) -> Option<Log> {
        match &self.target {
            Target::Room(room_id) => Some(Log::Room(room_id.clone())),
            Target::User => Some(Log::Own),
            Target::All => None,
        }
    }
}

impl Event {
    /// Tells of a hole in a log.
    pub(super) fn gap(room_id: Option<String>, cause: GapCause, hole: Hole) -> Self {
        Self::Gap { room_id, cause, from: hole.from, to: hole.to }
    }
}

impl From<Continuity> for GapCause {
    fn from(continuity: Continuity) -> Self {
        if continuity == Continuity::Unknown { Self::NoLog } else { Self::NotRecovered }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subscriber::frame::ContentFrame;

    #[test]
    fn bytes_are_decoded_and_text_is_kept() {
        let content = ContentFrame { data_base64: Some("/wA=".into()), ..ContentFrame::default() };
        let frame = PushFrame { target: "all".into(), content, ..PushFrame::default() };
        let push = Push::read(frame.clone()).unwrap();
        assert_eq!((push.payload.as_bytes(), push.payload.as_text()), (&[0xff, 0][..], None));

        let content = ContentFrame { data: Some("ü".into()), ..ContentFrame::default() };
        let push = Push::read(PushFrame { content, ..frame.clone() }).unwrap();
        assert_eq!(push.payload.as_text(), Some("ü"));

        let content = ContentFrame { data_base64: Some("?".into()), ..ContentFrame::default() };
        assert_eq!(Push::read(PushFrame { content, ..frame }), None);
    }
}
