//! Frames that the server sends.

use std::time::Duration;

use bytes::Bytes;
use roomcast_proto::pubsub::{Content, Deliver, deliver::Target};
use roomcast_types::{ClientId, Fault, NodeId, Position, RoomId, SessionId, UserId};

use super::{PROTOCOL, frame::TextFrame};
use crate::{log::returning::Standing, ports::LeftReason};

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

/// `welcome`.
pub fn welcome_frame(welcome: &Welcome<'_>) -> Bytes {
    let frame = TextFrame::new("welcome", 256 + welcome.user_id.as_str().len())
        .number("protocol", PROTOCOL)
        .text("session_id", &welcome.session_id.to_string())
        .text("node_id", welcome.node_id.as_str())
        .text("user_id", welcome.user_id.as_str())
        .text("client_id", welcome.client_id.as_str())
        .number("ping_interval_ms", welcome.ping_interval.as_millis())
        .number("server_time_ms", welcome.server_time_ms)
        .open("limits")
        .number("frame_bytes", welcome.frame_bytes)
        .number("rooms", welcome.rooms)
        .close();
    with_recovered(with_position(frame, welcome.position), welcome.recovered).finish()
}

/// `joined`; a position only in rooms with a log, `recovered` only when the join named one, `read_offset` only in DURABLE
/// rooms, for who has read something of this life of the log.
pub fn joined_frame(id: Option<u64>, room: &RoomId, members: u64, standing: &Standing) -> Bytes {
    let frame = with_id(TextFrame::new("joined", 128 + room.as_str().len()), id)
        .text("room_id", room.as_str())
        .number("members", members);
    let frame = with_recovered(with_position(frame, standing.position), standing.recovered);
    match standing.read_offset {
        Some(offset) => frame.number("read_offset", offset).finish(),
        None => frame.finish(),
    }
}

/// `gap`: of a room, or of the user's own log.
pub fn gap_frame(room: Option<&RoomId>, position: Position) -> Bytes {
    let mut frame = TextFrame::new("gap", 64 + room.map_or(0, |room| room.as_str().len()));
    if let Some(room) = room {
        frame = frame.text("room_id", room.as_str());
    }
    with_position(frame, Some(position)).finish()
}

fn with_position(frame: TextFrame, position: Option<Position>) -> TextFrame {
    match position {
        Some(position) => frame.text("epoch", &position.epoch.to_string()).number("offset", position.offset),
        None => frame,
    }
}

fn with_recovered(frame: TextFrame, recovered: Option<bool>) -> TextFrame {
    match recovered {
        Some(recovered) => frame.flag("recovered", recovered),
        None => frame,
    }
}

/// `left`.
pub fn left_frame(id: Option<u64>, room: &RoomId, reason: LeftReason) -> Bytes {
    with_id(TextFrame::new("left", 64 + room.as_str().len()), id)
        .text("room_id", room.as_str())
        .text("reason", reason.as_str())
        .finish()
}

/// `error`; a retry hint of less than a millisecond is rounded up.
pub fn error_frame(id: Option<u64>, room: Option<&RoomId>, fault: &Fault) -> Bytes {
    let mut frame = with_id(TextFrame::new("error", 128 + fault.message.len()), id);
    if let Some(room) = room {
        frame = frame.text("room_id", room.as_str());
    }
    frame = frame.text("code", fault.code.as_str()).text("message", &fault.message);
    if let Some(after) = fault.retry_after {
        frame = frame.number("retry_after_ms", after.as_millis().max(1));
    }
    frame.finish()
}

/// `notice` DRAINING.
pub fn notice_frame(reconnect_after: Duration) -> Bytes {
    TextFrame::new("notice", 64)
        .text("reason", "DRAINING")
        .number("reconnect_after_ms", reconnect_after.as_millis())
        .finish()
}

/// `pong`, the answer to a `ping` frame of the protocol.
pub fn pong_frame(id: Option<u64>) -> Bytes {
    with_id(TextFrame::new("pong", 32), id).finish()
}

fn with_id(frame: TextFrame, id: Option<u64>) -> TextFrame {
    match id {
        Some(id) => frame.number("id", id),
        None => frame,
    }
}

/// `push`: the whole frame of a message, for every receiver. A message without a target (a lane never carries one)
/// reads as one for all; content that is missing as an empty text.
pub fn push_frame(deliver: &Deliver) -> Bytes {
    let empty = Content::default();
    let content = deliver.content.as_ref().unwrap_or(&empty);
    let text = std::str::from_utf8(&content.data).ok().filter(|_| !content.binary);
    // An escape makes a byte longer; most content has few of them, and the buffer grows for the rest.
    let data = if text.is_some() { content.data.len() * 17 / 16 } else { content.data.len().div_ceil(3) * 4 };
    let mut frame = TextFrame::new("push", 256 + data + deliver.traceparent.len());
    frame = match &deliver.target {
        Some(Target::RoomId(room)) => {
            frame.text("target", "room").text("message_id", &deliver.message_id).text("room_id", room)
        }
        Some(Target::Users(_)) => frame.text("target", "user").text("message_id", &deliver.message_id),
        Some(Target::All(_)) | None => frame.text("target", "all").text("message_id", &deliver.message_id),
    };
    frame = with_position(frame, Position::from_wire(deliver.epoch, deliver.offset));
    frame = frame.open("content").text("type", content.r#type().as_str_name());
    frame = match text {
        Some(text) => frame.text("data", text),
        None => frame.base64("data_base64", &content.data),
    };
    frame = frame.number("timestamp", content.timestamp).close().number("timestamp_ms", deliver.timestamp_ms);
    if deliver.ack {
        frame = frame.flag("ack", true);
    }
    if !deliver.traceparent.is_empty() {
        frame = frame.text("traceparent", &deliver.traceparent);
    }
    frame.finish()
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
