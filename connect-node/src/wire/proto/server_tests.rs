//! What a client reads from the frames of the server, in protobuf.

use std::time::Duration;

use roomcast_proto::pubsub::{self, AllTarget, Deliver, UserTargets, deliver};
use roomcast_types::{ClientId, Code, Epoch, NodeId, SessionId, UserId};

use super::*;
use crate::wire::Encoding;

/// Reads a server frame as a client would: header, then protobuf.
fn read(frame: &[u8]) -> client::ServerFrame {
    assert_eq!(frame[0], 0x82, "a final binary frame");
    let (length, start) = match frame[1] {
        126 => (u64::from(u16::from_be_bytes([frame[2], frame[3]])), 4),
        127 => (u64::from_be_bytes(frame[2..10].try_into().unwrap()), 10),
        short => (u64::from(short), 2),
    };
    assert_eq!(frame.len() as u64, start as u64 + length);
    client::ServerFrame::decode(&frame[start..]).unwrap()
}

/// What a frame says, and to which frame of the client.
fn said(frame: &ServerFrame<'_>) -> (Option<u64>, Frame) {
    let client::ServerFrame { id, frame } = read(&frame.encode(Encoding::Proto));
    (id, frame.unwrap())
}

fn pushed(message: &Deliver) -> client::Push {
    match said(&ServerFrame::Push(Push::from(message))) {
        (None, Frame::Push(push)) => push,
        other => panic!("{other:?}"),
    }
}

const MESSAGE_ID: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";

fn message(data: &[u8], binary: bool) -> Deliver {
    Deliver {
        message_id: MESSAGE_ID.into(),
        target: Some(deliver::Target::RoomId("räum".into())),
        content: Some(pubsub::Content {
            r#type: pubsub::content::Type::Audio.into(),
            data: data.to_vec().into(),
            timestamp: -5,
            binary,
        }),
        timestamp_ms: 1_700_000_000_000,
        ..Deliver::default()
    }
}

fn position(offset: u64) -> Position {
    Position { epoch: Epoch::from_u64(0xab).unwrap(), offset }
}

#[test]
fn a_room_push_has_its_room_its_place_and_its_content() {
    let mut deliver = message("Grüße".as_bytes(), false);
    (deliver.epoch, deliver.offset, deliver.ack) = (0xab, 7, true);
    let expected = client::Push {
        target: push::Target::Room.into(),
        message_id: MessageId::parse(MESSAGE_ID).unwrap().to_bytes().to_vec(),
        room_id: "räum".into(),
        epoch: 0xab,
        offset: 7,
        content: Some(client::Content {
            r#type: content::Type::Audio.into(),
            data: Some(content::Data::Text("Grüße".into())),
            timestamp: -5,
        }),
        timestamp_ms: 1_700_000_000_000,
        ack: true,
        traceparent: String::new(),
    };
    assert_eq!(pushed(&deliver), expected);
}

#[test]
fn pushes_to_users_and_to_all_have_no_room() {
    let mut deliver = message(b"x", false);
    deliver.target = Some(deliver::Target::Users(UserTargets { user_ids: vec!["u".into()] }));
    deliver.traceparent = "00-1-2-01".into();
    let push = pushed(&deliver);
    assert_eq!((push.target(), push.room_id.as_str()), (push::Target::User, ""));
    assert_eq!(push.traceparent, "00-1-2-01");
    deliver.target = Some(deliver::Target::All(AllTarget {}));
    assert_eq!(pushed(&deliver).target(), push::Target::All);
}

#[test]
fn bytes_that_are_binary_or_no_text_travel_as_they_are() {
    for (data, binary) in [(&b"text"[..], true), (&[0xff, 0xfe, 0x00][..], false), (b"", true)] {
        let content = pushed(&message(data, binary)).content.unwrap();
        assert_eq!(content.data, Some(content::Data::Binary(data.to_vec().into())));
    }
    assert_eq!(pushed(&message(b"", false)).content.unwrap().data, Some(content::Data::Text(String::new())));
}

#[test]
fn both_packages_number_the_types_of_content_alike() {
    for number in 0..10 {
        let types = (pubsub::content::Type::try_from(number), content::Type::try_from(number));
        let names = (types.0.map(|own| own.as_str_name()).ok(), types.1.map(|own| own.as_str_name()).ok());
        assert_eq!(names.0, names.1, "{number}");
    }
}

#[test]
fn a_push_takes_less_than_in_json() {
    let mut deliver = message(&[b'x'; 100], false);
    (deliver.epoch, deliver.offset) = (u64::MAX, 1_000_000);
    let frame = |encoding| ServerFrame::Push(Push::from(&deliver)).encode(encoding);
    let (json, proto) = (frame(Encoding::Json).len(), frame(Encoding::Proto).len());
    assert!(proto < 180 && json > 300, "{proto} and {json} bytes");
    assert_eq!(read(&frame(Encoding::Proto)).id, None);
}

#[test]
fn welcome_names_the_session_and_the_limits() {
    let (session_id, node_id) = (SessionId::random(), NodeId::new("n").unwrap());
    let (user_id, client_id) = (UserId::new("ü").unwrap(), ClientId::new("c-1").unwrap());
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
    let expected = client::Welcome {
        protocol: 1,
        session_id: session_id.to_string(),
        node_id: "n".into(),
        user_id: "ü".into(),
        client_id: "c-1".into(),
        ping_interval_ms: 25_000,
        server_time_ms: 12,
        limits: Some(client::Limits { frame_bytes: 32_768, rooms: 100 }),
        epoch: 0xab,
        offset: 7,
        recovered: Some(true),
    };
    assert_eq!(frame, (None, Frame::Welcome(expected)));
}

#[test]
fn answers_carry_the_id_only_when_there_was_one() {
    let room = RoomId::new("r").unwrap();
    let room_id = || "r".to_owned();
    let standing = Standing { position: Some(position(41)), recovered: Some(false), ..Standing::default() };
    assert_eq!(
        said(&ServerFrame::Joined { id: Some(0), room: &room, members: 3, standing: &standing }),
        (
            Some(0),
            Frame::Joined(client::Joined {
                room_id: room_id(),
                members: 3,
                epoch: 0xab,
                offset: 41,
                recovered: Some(false),
                read_offset: None,
            })
        )
    );
    let left = said(&ServerFrame::Left { id: None, room: &room, reason: LeftReason::RoomDeleted });
    let reason = left::Reason::RoomDeleted.into();
    assert_eq!(left, (None, Frame::Left(client::Left { room_id: room_id(), reason })));
    assert_eq!(said(&ServerFrame::Pong { id: Some(7) }), (Some(7), Frame::Pong(client::Pong {})));
    let fault =
        Fault { code: Code::RoomFull, message: "full".into(), retry_after: Some(Duration::from_micros(1)) };
    let (code, message) = ("ROOM_FULL".into(), "full".into());
    assert_eq!(
        said(&ServerFrame::Error { id: Some(2), room: Some(&room), fault: &fault }),
        (Some(2), Frame::Error(client::Error { room_id: room_id(), code, message, retry_after_ms: 1 }))
    );
}

#[test]
fn gaps_and_notices_come_without_an_id() {
    let room = RoomId::new("r").unwrap();
    for (room, room_id) in [(Some(&room), "r"), (None, "")] {
        let gap = client::Gap { room_id: room_id.into(), epoch: 0xab, offset: 50 };
        assert_eq!(said(&ServerFrame::Gap { room, position: position(50) }), (None, Frame::Gap(gap)));
    }
    let notice = client::Notice { reason: notice::Reason::Draining.into(), reconnect_after_ms: 800 };
    let reconnect_after = Duration::from_millis(800);
    assert_eq!(said(&ServerFrame::Notice { reconnect_after }), (None, Frame::Notice(notice)));
}

#[test]
fn frames_of_every_header_length_read_back() {
    for length in [0, 1, 50, 100, 60_000, 65_536, 200_000] {
        let data = "x".repeat(length);
        let content = pushed(&message(data.as_bytes(), false)).content.unwrap();
        assert_eq!(content.data, Some(content::Data::Text(data)));
    }
}
