//! Frames of the server, written as JSON.

use bytes::Bytes;
use roomcast_types::{Fault, Position, RoomId};

use super::object::TextFrame;
use crate::{
    log::returning::Standing,
    wire::{
        PROTOCOL,
        server::{Data, Push, ServerFrame, Target, Welcome},
    },
};

/// The whole WebSocket frame.
pub fn encode(frame: &ServerFrame<'_>) -> Bytes {
    let frame = match *frame {
        ServerFrame::Welcome(ref frame) => welcome(frame),
        ServerFrame::Joined { id, room, members, standing } => joined(id, room, members, standing),
        ServerFrame::Left { id, room, reason } => {
            with_id(TextFrame::new("left", 64 + room.as_str().len()), id)
                .text("room_id", room.as_str())
                .text("reason", reason.as_str())
        }
        ServerFrame::Push(ref frame) => push(frame),
        ServerFrame::Gap { room, position } => gap(room, position),
        ServerFrame::Notice { reconnect_after } => TextFrame::new("notice", 64)
            .text("reason", "DRAINING")
            .number("reconnect_after_ms", reconnect_after.as_millis()),
        ServerFrame::Error { id, room, fault } => error(id, room, fault),
        ServerFrame::Pong { id } => with_id(TextFrame::new("pong", 32), id),
    };
    frame.finish()
}

fn welcome(welcome: &Welcome<'_>) -> TextFrame {
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
    with_recovered(with_position(frame, welcome.position), welcome.recovered)
}

fn joined(id: Option<u64>, room: &RoomId, members: u64, standing: &Standing) -> TextFrame {
    let frame = with_id(TextFrame::new("joined", 128 + room.as_str().len()), id)
        .text("room_id", room.as_str())
        .number("members", members);
    let frame = with_recovered(with_position(frame, standing.position), standing.recovered);
    match standing.read_offset {
        Some(offset) => frame.number("read_offset", offset),
        None => frame,
    }
}

fn gap(room: Option<&RoomId>, position: Position) -> TextFrame {
    let mut frame = TextFrame::new("gap", 64 + room.map_or(0, |room| room.as_str().len()));
    if let Some(room) = room {
        frame = frame.text("room_id", room.as_str());
    }
    with_position(frame, Some(position))
}

fn error(id: Option<u64>, room: Option<&RoomId>, fault: &Fault) -> TextFrame {
    let mut frame = with_id(TextFrame::new("error", 128 + fault.message.len()), id);
    if let Some(room) = room {
        frame = frame.text("room_id", room.as_str());
    }
    frame = frame.text("code", fault.code.as_str()).text("message", &fault.message);
    if let Some(after) = fault.retry_after {
        frame = frame.number("retry_after_ms", after.as_millis().max(1));
    }
    frame
}

fn push(push: &Push<'_>) -> TextFrame {
    // An escape makes a byte longer; most content has few of them, and the buffer grows for the rest.
    let data = match push.data {
        Data::Text(text) => text.len() * 17 / 16,
        Data::Binary(bytes) => bytes.len().div_ceil(3) * 4,
    };
    let mut frame = TextFrame::new("push", 256 + data + push.traceparent.len());
    frame = match push.target {
        Target::Room(room) => {
            frame.text("target", "room").text("message_id", push.message_id).text("room_id", room)
        }
        Target::User => frame.text("target", "user").text("message_id", push.message_id),
        Target::All => frame.text("target", "all").text("message_id", push.message_id),
    };
    frame = with_position(frame, push.position);
    frame = frame.open("content").text("type", push.content_type.as_str_name());
    frame = match push.data {
        Data::Text(text) => frame.text("data", text),
        Data::Binary(bytes) => frame.base64("data_base64", bytes),
    };
    frame = frame.number("timestamp", push.timestamp).close().number("timestamp_ms", push.timestamp_ms);
    if push.ack {
        frame = frame.flag("ack", true);
    }
    if !push.traceparent.is_empty() {
        frame = frame.text("traceparent", push.traceparent);
    }
    frame
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

fn with_id(frame: TextFrame, id: Option<u64>) -> TextFrame {
    match id {
        Some(id) => frame.number("id", id),
        None => frame,
    }
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
