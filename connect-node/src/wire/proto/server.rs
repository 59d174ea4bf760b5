//! Frames of the server, written as protobuf.

use bytes::Bytes;
use prost::Message;
use roomcast_proto::client::{self, content, left, notice, push, server_frame::Frame};
use roomcast_types::{Fault, MessageId, Position, RoomId};

use crate::{
    log::returning::Standing,
    ports::LeftReason,
    wire::{
        PROTOCOL,
        frame::{self, BINARY, HEADROOM},
        server::{Data, Push, ServerFrame, Target, Welcome},
    },
};

/// The whole WebSocket frame.
pub fn encode(frame: &ServerFrame<'_>) -> Bytes {
    let (id, frame) = match *frame {
        ServerFrame::Welcome(ref frame) => (None, welcome(frame)),
        ServerFrame::Joined { id, room, members, standing } => (id, joined(room, members, standing)),
        ServerFrame::Left { id, room, reason } => (id, left(room, reason)),
        ServerFrame::Push(ref frame) => (None, push(frame)),
        ServerFrame::Gap { room, position } => (None, gap(room, position)),
        ServerFrame::Notice { reconnect_after } => {
            let reconnect_after_ms = reconnect_after.as_millis() as u64;
            (
                None,
                Frame::Notice(client::Notice { reason: notice::Reason::Draining.into(), reconnect_after_ms }),
            )
        }
        ServerFrame::Error { id, room, fault } => (id, error(room, fault)),
        ServerFrame::Pong { id } => (id, Frame::Pong(client::Pong {})),
    };
    let frame = client::ServerFrame { id, frame: Some(frame) };
    let mut bytes = Vec::with_capacity(HEADROOM + frame.encoded_len());
    bytes.resize(HEADROOM, 0);
    frame.encode_raw(&mut bytes);
    frame::finish(bytes, BINARY)
}

fn welcome(welcome: &Welcome<'_>) -> Frame {
    let (epoch, offset) = Position::to_wire(welcome.position);
    Frame::Welcome(client::Welcome {
        protocol: PROTOCOL,
        session_id: welcome.session_id.to_string(),
        node_id: welcome.node_id.to_string(),
        user_id: welcome.user_id.to_string(),
        client_id: welcome.client_id.to_string(),
        ping_interval_ms: welcome.ping_interval.as_millis() as u64,
        server_time_ms: welcome.server_time_ms,
        limits: Some(client::Limits { frame_bytes: welcome.frame_bytes as u64, rooms: welcome.rooms as u64 }),
        epoch,
        offset,
        recovered: welcome.recovered,
    })
}

fn joined(room: &RoomId, members: u64, standing: &Standing) -> Frame {
    let (epoch, offset) = Position::to_wire(standing.position);
    Frame::Joined(client::Joined {
        room_id: room.to_string(),
        members,
        epoch,
        offset,
        recovered: standing.recovered,
        read_offset: standing.read_offset,
    })
}

fn left(room: &RoomId, reason: LeftReason) -> Frame {
    let reason = match reason {
        LeftReason::Left => left::Reason::Left,
        LeftReason::Kicked => left::Reason::Kicked,
        LeftReason::Evicted => left::Reason::Evicted,
        LeftReason::RoomDeleted => left::Reason::RoomDeleted,
    };
    Frame::Left(client::Left { room_id: room.to_string(), reason: reason.into() })
}

fn push(push: &Push<'_>) -> Frame {
    let (target, room) = match push.target {
        Target::Room(room) => (push::Target::Room, room),
        Target::User => (push::Target::User, ""),
        Target::All => (push::Target::All, ""),
    };
    // A push-manager makes no others.
    let message_id = MessageId::parse(push.message_id).map(MessageId::to_bytes).unwrap_or_default();
    let (epoch, offset) = Position::to_wire(push.position);
    let data = match push.data {
        Data::Text(text) => content::Data::Text(text.to_owned()),
        Data::Binary(bytes) => content::Data::Binary(bytes.clone()),
    };
    let content =
        client::Content { r#type: push.content_type.into(), timestamp: push.timestamp, data: Some(data) };
    Frame::Push(client::Push {
        target: target.into(),
        message_id: message_id.to_vec(),
        room_id: room.to_owned(),
        epoch,
        offset,
        content: Some(content),
        timestamp_ms: push.timestamp_ms,
        ack: push.ack,
        traceparent: push.traceparent.to_owned(),
    })
}

fn gap(room: Option<&RoomId>, position: Position) -> Frame {
    let (epoch, offset) = Position::to_wire(Some(position));
    Frame::Gap(client::Gap { room_id: named(room), epoch, offset })
}

fn error(room: Option<&RoomId>, fault: &Fault) -> Frame {
    Frame::Error(client::Error {
        room_id: named(room),
        code: fault.code.as_str().to_owned(),
        message: fault.message.clone(),
        retry_after_ms: fault.retry_after.map_or(0, |after| after.as_millis().max(1) as u64),
    })
}

fn named(room: Option<&RoomId>) -> String {
    room.map(RoomId::to_string).unwrap_or_default()
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
