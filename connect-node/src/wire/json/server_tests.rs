//! What a client reads from the frames of the server.

use std::time::Duration;

use roomcast_proto::pubsub::{AllTarget, Content, Deliver, UserTargets, content::Type, deliver::Target};
use roomcast_types::{ClientId, Code, Epoch, NodeId, SessionId, UserId};
use serde_json::{Value, json};

use super::{Fault, Position, RoomId, ServerFrame, Standing, Welcome};
use crate::{
    ports::LeftReason,
    wire::{Encoding, Push},
};

/// A server frame as a client would read it.
fn said(frame: &ServerFrame<'_>) -> Value {
    read(&frame.encode(Encoding::Json))
}

fn pushed(message: &Deliver) -> Value {
    said(&ServerFrame::Push(Push::from(message)))
}

/// Reads a server frame as a client would: header, then JSON.
fn read(frame: &[u8]) -> Value {
    assert_eq!(frame[0], 0x81, "a final text frame");
    let (length, start) = match frame[1] {
        126 => (u64::from(u16::from_be_bytes([frame[2], frame[3]])), 4),
        127 => (u64::from_be_bytes(frame[2..10].try_into().unwrap()), 10),
        short => (u64::from(short), 2),
    };
    assert_eq!(frame.len() as u64, start as u64 + length);
    serde_json::from_slice(&frame[start..]).unwrap()
}

fn message(data: &[u8], binary: bool) -> Deliver {
    Deliver {
        message_id: "01J".into(),
        target: Some(Target::RoomId("r \"1\"".into())),
        content: Some(Content {
            r#type: Type::Audio.into(),
            data: data.to_vec().into(),
            timestamp: -5,
            binary,
        }),
        timestamp_ms: 1_700_000_000_000,
        exclude_user_ids: vec![],
        traceparent: String::new(),
        ..Deliver::default()
    }
}

#[test]
fn a_room_push_has_its_room_and_no_position_or_trace() {
    assert_eq!(
        pushed(&message("Grüße \n\u{1}".as_bytes(), false)),
        json!({"type": "push", "target": "room", "message_id": "01J", "room_id": "r \"1\"",
               "content": {"type": "AUDIO", "data": "Grüße \n\u{1}", "timestamp": -5},
               "timestamp_ms": 1_700_000_000_000i64})
    );
}

#[test]
fn pushes_to_users_and_to_all_have_no_room() {
    let mut push = message(b"x", false);
    push.target = Some(Target::Users(UserTargets { user_ids: vec!["u".into()] }));
    push.traceparent = "00-1-2-01".into();
    let frame = pushed(&push);
    assert_eq!((&frame["target"], &frame["traceparent"]), (&json!("user"), &json!("00-1-2-01")));
    assert_eq!(frame.get("room_id"), None);
    push.target = Some(Target::All(AllTarget {}));
    assert_eq!(pushed(&push)["target"], "all");
}

#[test]
fn bytes_that_are_binary_or_no_text_travel_as_base64() {
    for (data, binary) in [(&b"text"[..], true), (&[0xff, 0xfe, 0x00][..], false)] {
        let content = &pushed(&message(data, binary))["content"];
        assert_eq!(content.get("data"), None);
        let sent = content["data_base64"].as_str().unwrap();
        let bytes = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, sent).unwrap();
        assert_eq!(bytes, data);
    }
    assert_eq!(pushed(&message(b"", true))["content"]["data_base64"], "");
}

#[test]
fn frames_of_every_header_length_read_back() {
    let envelope = pushed(&message(b"", false)).to_string().len();
    for length in [0, 1, 125, 126, 65_535 - envelope, 65_536 - envelope, 65_536, 200_000] {
        let data = "x".repeat(length);
        assert_eq!(pushed(&message(data.as_bytes(), false))["content"]["data"], data.as_str());
    }
}

fn position(offset: u64) -> Position {
    Position { epoch: Epoch::from_u64(0xab).unwrap(), offset }
}

#[test]
fn a_gap_names_its_room_or_stands_for_the_users_own_log() {
    let room = RoomId::new("r").unwrap();
    assert_eq!(
        said(&ServerFrame::Gap { room: Some(&room), position: position(50) }),
        json!({"type": "gap", "room_id": "r", "epoch": "00000000000000ab", "offset": 50})
    );
    assert_eq!(
        said(&ServerFrame::Gap { room: None, position: position(3) }),
        json!({"type": "gap", "epoch": "00000000000000ab", "offset": 3})
    );
}

#[test]
fn welcome_names_the_session_and_the_limits() {
    let (session_id, node_id) = (SessionId::random(), NodeId::new("n").unwrap());
    let (user_id, client_id) = (UserId::new("ü\\").unwrap(), ClientId::new("c-1").unwrap());
    let frame = said(&ServerFrame::Welcome(Welcome {
        session_id,
        node_id: &node_id,
        user_id: &user_id,
        client_id: &client_id,
        ping_interval: Duration::from_secs(25),
        server_time_ms: 12,
        frame_bytes: 32_768,
        rooms: 100,
        position: Some(position(7)),
        recovered: Some(true),
    }));
    assert_eq!(
        frame,
        json!({"type": "welcome", "protocol": 1, "session_id": session_id.to_string(), "node_id": "n",
               "user_id": "ü\\", "client_id": "c-1", "ping_interval_ms": 25_000, "server_time_ms": 12,
               "limits": {"frame_bytes": 32_768, "rooms": 100}, "epoch": "00000000000000ab", "offset": 7,
               "recovered": true})
    );
}

#[test]
fn answers_carry_the_id_only_when_there_was_one() {
    let room = RoomId::new("r").unwrap();
    let standing = Standing { position: Some(position(41)), recovered: Some(false), ..Standing::default() };
    assert_eq!(
        said(&ServerFrame::Joined { id: Some(1), room: &room, members: 3, standing: &standing }),
        json!({"type": "joined", "id": 1, "room_id": "r", "members": 3, "epoch": "00000000000000ab", "offset": 41,
               "recovered": false})
    );
    assert_eq!(
        said(&ServerFrame::Joined { id: None, room: &room, members: 3, standing: &Standing::default() }),
        json!({"type": "joined", "room_id": "r", "members": 3})
    );
    assert_eq!(
        said(&ServerFrame::Left { id: None, room: &room, reason: LeftReason::RoomDeleted }),
        json!({"type": "left", "room_id": "r", "reason": "ROOM_DELETED"})
    );
    assert_eq!(said(&ServerFrame::Pong { id: Some(7) }), json!({"type": "pong", "id": 7}));
    let fault =
        Fault { code: Code::RoomFull, message: "full".into(), retry_after: Some(Duration::from_micros(1)) };
    assert_eq!(
        said(&ServerFrame::Error { id: Some(2), room: Some(&room), fault: &fault }),
        json!({"type": "error", "id": 2, "room_id": "r", "code": "ROOM_FULL", "message": "full",
               "retry_after_ms": 1})
    );
}

proptest::proptest! {
    #[test]
    fn any_text_survives_the_frame(text in "\\PC{0,200}|[\\x00-\\x7f]{0,200}|.{0,200}") {
        let frame = pushed(&message(text.as_bytes(), false));
        proptest::prop_assert_eq!(frame["content"]["data"].as_str(), Some(text.as_str()));
    }

    #[test]
    fn any_bytes_survive_the_frame(data in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
        let content = pushed(&message(&data, true))["content"].take();
        let sent = base64::Engine::decode(
            &base64::engine::general_purpose::STANDARD,
            content["data_base64"].as_str().unwrap(),
        );
        proptest::prop_assert_eq!(sent.unwrap(), data);
    }
}
