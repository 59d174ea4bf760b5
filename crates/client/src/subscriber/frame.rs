//! The frames of client protocol version 1: in JSON as they stand on the wire, in protobuf by [`proto`].

pub mod proto;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::position::Position;

/// What a client says.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum ClientFrame {
    /// Into a room; with `since`, everything after that position.
    Join {
        id: u64,
        room_id: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        since: Option<Position>,
    },
    /// Out of a room.
    Leave { id: u64, room_id: String },
    /// Messages arrived.
    Ack { message_ids: Vec<String> },
    /// Are you there?
    Ping { id: u64 },
}

/// What a node says. Unknown fields and frame types are ignored.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum ServerFrame {
    Welcome(WelcomeFrame),
    Joined(JoinedFrame),
    Left(LeftFrame),
    Push(Box<PushFrame>),
    Gap(GapFrame),
    Notice(NoticeFrame),
    Error(ErrorFrame),
    Pong(PongFrame),
    #[serde(other)]
    Unknown,
}

#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct WelcomeFrame {
    pub session_id: String,
    pub node_id: String,
    pub user_id: String,
    pub client_id: String,
    pub ping_interval_ms: u64,
    pub epoch: Option<String>,
    pub offset: Option<u64>,
    pub recovered: Option<bool>,
}

#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct JoinedFrame {
    pub id: Option<u64>,
    pub room_id: String,
    pub members: u64,
    pub epoch: Option<String>,
    pub offset: Option<u64>,
    pub recovered: Option<bool>,
    pub read_offset: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct LeftFrame {
    pub id: Option<u64>,
    pub room_id: String,
    pub reason: String,
}

#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct PushFrame {
    pub target: String,
    pub message_id: String,
    pub room_id: Option<String>,
    pub epoch: Option<String>,
    pub offset: Option<u64>,
    pub content: ContentFrame,
    pub timestamp_ms: i64,
    pub ack: bool,
    pub traceparent: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct ContentFrame {
    #[serde(rename = "type")]
    pub content_type: String,
    pub data: Option<String>,
    pub data_base64: Option<String>,
    /// In protobuf, instead of base64.
    #[serde(skip)]
    pub binary: Option<Bytes>,
    pub timestamp: i64,
}

#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct GapFrame {
    pub room_id: Option<String>,
    pub epoch: Option<String>,
    pub offset: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct NoticeFrame {
    pub reason: String,
    pub reconnect_after_ms: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct ErrorFrame {
    pub id: Option<u64>,
    pub room_id: Option<String>,
    pub code: String,
    pub message: String,
    pub retry_after_ms: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct PongFrame {
    pub id: Option<u64>,
}

/// The position a frame names, when it names one whole.
pub fn position(epoch: &Option<String>, offset: Option<u64>) -> Option<Position> {
    Some(Position { epoch: epoch.clone()?, offset: offset? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> ServerFrame {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn client_frames_are_written_as_the_protocol_says() {
        let join = ClientFrame::Join { id: 1, room_id: "r".into(), since: None };
        assert_eq!(serde_json::to_string(&join).unwrap(), r#"{"type":"join","id":1,"room_id":"r"}"#);
        let ack = ClientFrame::Ack { message_ids: vec!["m".into()] };
        assert_eq!(serde_json::to_string(&ack).unwrap(), r#"{"type":"ack","message_ids":["m"]}"#);
        let since = Some(Position { epoch: "e".into(), offset: 41 });
        let join = ClientFrame::Join { id: 2, room_id: "r".into(), since };
        assert_eq!(
            serde_json::to_string(&join).unwrap(),
            r#"{"type":"join","id":2,"room_id":"r","since":{"epoch":"e","offset":41}}"#
        );
    }

    #[test]
    fn unknown_frame_types_and_fields_are_ignored() {
        assert_eq!(read(r#"{"type":"receipt","x":1}"#), ServerFrame::Unknown);
        assert_eq!(
            read(r#"{"type":"pong","id":3,"of":"tomorrow"}"#),
            ServerFrame::Pong(PongFrame { id: Some(3) })
        );
    }

    #[test]
    fn a_push_is_read_whole() {
        let text = r#"{"type":"push","target":"room","message_id":"01","room_id":"r","epoch":"e","offset":42,
            "content":{"type":"TEXT","data":"hi","timestamp":1},"timestamp_ms":2,"ack":true}"#;
        let ServerFrame::Push(push) = read(text) else { panic!() };
        assert_eq!((push.room_id.as_deref(), push.timestamp_ms, push.ack), (Some("r"), 2, true));
        assert_eq!(push.content.data.as_deref(), Some("hi"));
        assert_eq!(position(&push.epoch, push.offset), Some(Position { epoch: "e".into(), offset: 42 }));
    }
}
