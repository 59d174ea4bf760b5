//! One frame of each kind in both forms, as this node writes and reads them: `web/tests/frames.json`, which the tests of
//! `roomcast.js` hold that client to.

use std::{fmt::Write, time::Duration};

use prost::Message;
use roomcast_proto::{
    client::{self, client_frame::Frame, content::Data},
    pubsub::{self, AllTarget, Deliver, UserTargets, content::Type, deliver::Target},
};
use roomcast_types::{ClientId, Code, Epoch, Fault, MessageId, NodeId, Position, RoomId, SessionId, UserId};

use super::{Encoding, Push, ServerFrame, Welcome, parse_binary, parse_text};
use crate::{log::returning::Standing, ports::LeftReason};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../web/tests/frames.json");
const MESSAGE_ID: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
const LAST_MESSAGE_ID: &str = "7ZZZZZZZZZZZZZZZZZZZZZZZZZ";
const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const INTEGER_MAX: u64 = (1 << 53) - 1;

/// Frames in JSON and in protobuf, one a line.
#[derive(Default)]
struct Pairs(Vec<String>);

impl Pairs {
    fn add(&mut self, json: &str, proto: &[u8]) {
        let hex = proto.iter().fold(String::new(), |mut hex, byte| {
            write!(hex, "{byte:02x}").expect("a string takes everything");
            hex
        });
        self.0.push(format!("    {{\"json\": {json},\n     \"proto\": \"{hex}\"}}"));
    }

    fn server(&mut self, frame: &ServerFrame<'_>) {
        let json = payload(&frame.encode(Encoding::Json));
        self.add(std::str::from_utf8(&json).unwrap(), &payload(&frame.encode(Encoding::Proto)));
    }

    fn push(&mut self, message: &Deliver) {
        self.server(&ServerFrame::Push(Push::from(message)));
    }

    fn client(&mut self, json: &str, id: Option<u64>, frame: Frame) {
        let proto = client::ClientFrame { id, frame: Some(frame) }.encode_to_vec();
        let read = parse_text(Encoding::Json, json).unwrap();
        assert_eq!(parse_binary(Encoding::Proto, &proto), Ok(read), "both forms say the same: {json}");
        self.add(json, &proto);
    }
}

/// What is behind the header of a WebSocket frame.
fn payload(frame: &[u8]) -> Vec<u8> {
    let start = match frame[1] {
        126 => 4,
        127 => 10,
        _ => 2,
    };
    frame[start..].to_vec()
}

fn position(epoch: u64, offset: u64) -> Option<Position> {
    Epoch::from_u64(epoch).map(|epoch| Position { epoch, offset })
}

fn sessions(pairs: &mut Pairs) {
    let session_id = SessionId::from_bytes(&[0x1f; 16]).unwrap();
    let (node_id, client_id) = (NodeId::new("connect-node-1").unwrap(), ClientId::new("c-1").unwrap());
    let user_id = UserId::new("Zoë \"1\"").unwrap();
    for (position, recovered) in
        [(None, None), (position(0xab, 0), Some(false)), (position(u64::MAX, INTEGER_MAX), Some(true))]
    {
        pairs.server(&ServerFrame::Welcome(Welcome {
            session_id,
            node_id: &node_id,
            user_id: &user_id,
            client_id: &client_id,
            ping_interval: Duration::from_secs(25),
            server_time_ms: 1_700_000_000_000,
            frame_bytes: 32_768,
            rooms: 100,
            position,
            recovered,
        }));
    }
    pairs.server(&ServerFrame::Notice { reconnect_after: Duration::ZERO });
    pairs.server(&ServerFrame::Notice { reconnect_after: Duration::from_millis(800) });
    for id in [None, Some(0), Some(127), Some(128), Some(INTEGER_MAX)] {
        pairs.server(&ServerFrame::Pong { id });
    }
}

fn rooms(pairs: &mut Pairs) {
    let room = &RoomId::new("räum 1").unwrap();
    let standing = |position, recovered, read_offset| Standing {
        position,
        recovered,
        read_offset,
        ..Standing::default()
    };
    for (id, members, standing) in [
        (None, 0, standing(None, None, None)),
        (Some(1), 3, standing(position(0xab, 0), Some(false), Some(0))),
        (Some(2), u64::from(u32::MAX) + 1, standing(position(1 << 63, 300), Some(true), Some(299))),
    ] {
        pairs.server(&ServerFrame::Joined { id, room, members, standing: &standing });
    }
    for (id, reason) in [
        (Some(3), LeftReason::Left),
        (None, LeftReason::Kicked),
        (None, LeftReason::Evicted),
        (None, LeftReason::RoomDeleted),
    ] {
        pairs.server(&ServerFrame::Left { id, room, reason });
    }
    pairs.server(&ServerFrame::Gap { room: Some(room), position: position(0xab, 50).unwrap() });
    pairs.server(&ServerFrame::Gap { room: None, position: position(1, 0).unwrap() });
    let full = Fault::new(Code::RoomFull, "full");
    let later = Fault::unavailable("later", Duration::from_millis(500));
    pairs.server(&ServerFrame::Error { id: Some(4), room: Some(room), fault: &full });
    pairs.server(&ServerFrame::Error { id: Some(0), room: None, fault: &later });
    pairs.server(&ServerFrame::Error { id: None, room: None, fault: &Fault::bad_request("") });
}

fn pushes(pairs: &mut Pairs) {
    let message = |r#type: Type, data: &[u8], binary| Deliver {
        message_id: MESSAGE_ID.into(),
        target: Some(Target::RoomId("räum 1".into())),
        content: Some(pubsub::Content {
            r#type: r#type.into(),
            data: data.to_vec().into(),
            timestamp: 1_700_000_000,
            binary,
        }),
        timestamp_ms: 1_700_000_000_000,
        ..Deliver::default()
    };
    let logged = Deliver { epoch: u64::MAX - 1, offset: INTEGER_MAX, ..message(Type::Text, b"Hello", false) };
    pairs.push(&logged);
    pairs.push(&Deliver { ack: true, traceparent: TRACEPARENT.into(), ..logged });
    pairs.push(&message(Type::State, "{\"temperature\":-3.5,\"unit\":\"°C\"}".as_bytes(), false));
    pairs.push(&message(Type::Text, "\u{feff}<b>\n\u{1}😀".as_bytes(), false));
    pairs.push(&message(Type::Audio, &[0, 255, 128, 10], true));
    pairs.push(&message(Type::Audio, &[7; 300], true));
    pairs.push(&message(Type::Translation, "你好".as_bytes(), true));
    let mut bare = message(Type::System, b"", true);
    bare.message_id = LAST_MESSAGE_ID.into();
    bare.target = Some(Target::Users(UserTargets { user_ids: vec!["u".into()] }));
    pairs.push(&bare);
    bare.target = Some(Target::All(AllTarget {}));
    for timestamp in [0, -5, INTEGER_MAX as i64, -(INTEGER_MAX as i64), i64::MAX, i64::MIN] {
        bare.content = Some(pubsub::Content { timestamp, ..pubsub::Content::default() });
        bare.timestamp_ms = timestamp;
        pairs.push(&bare);
    }
}

/// In the order in which `web/tests/protocol.test.mjs` makes one client say them.
fn requests(pairs: &mut Pairs) {
    let ids = [MESSAGE_ID, LAST_MESSAGE_ID].map(|id| MessageId::parse(id).unwrap().to_bytes().to_vec());
    pairs.client(r#"{"type":"received","items":[]}"#, None, Frame::Received(client::Received::default()));
    pairs.client(r#"{"type":"ping","id":1}"#, Some(1), Frame::Ping(client::Ping {}));
    for (json, id, room, since) in [
        (
            r#""id":2,"room_id":"räum 1","since":{"epoch":"fedcba9876543210","offset":9007199254740991}"#,
            2,
            "räum 1",
            Some(client::Since { epoch: 0xfedc_ba98_7654_3210, offset: INTEGER_MAX }),
        ),
        (
            r#""id":3,"room_id":"two","since":{"epoch":"00000000000000ab","offset":0}"#,
            3,
            "two",
            Some(client::Since { epoch: 0xab, offset: 0 }),
        ),
        (r#""id":4,"room_id":"three""#, 4, "three", None),
    ] {
        let join = client::Join { room_id: room.into(), since };
        pairs.client(&format!(r#"{{"type":"join",{json}}}"#), Some(id), Frame::Join(join));
    }
    let ack = Frame::Ack(client::Ack { message_ids: ids.to_vec() });
    pairs.client(
        &format!(r#"{{"type":"ack","message_ids":["{MESSAGE_ID}","{LAST_MESSAGE_ID}"]}}"#),
        None,
        ack,
    );
    let items = ids.map(|message_id| client::Arrival { message_id, at_ms: 1_700_000_000_000 }).to_vec();
    let item = |id| format!(r#"{{"message_id":"{id}","at_ms":1700000000000}}"#);
    let received =
        format!(r#"{{"type":"received","items":[{},{}]}}"#, item(MESSAGE_ID), item(LAST_MESSAGE_ID));
    pairs.client(&received, None, Frame::Received(client::Received { items }));
    let leave = Frame::Leave(client::Leave { room_id: "räum 1".into() });
    pairs.client(r#"{"type":"leave","id":5,"room_id":"räum 1"}"#, Some(5), leave);
    publishes(pairs);
}

fn publishes(pairs: &mut Pairs) {
    for (json, id, r#type, data, timestamp) in [
        (r#""type":"TEXT","data":"Grüße""#, 6, Type::Text, Data::Text("Grüße".into()), 0),
        (r#""type":"STATE","data":"","timestamp":-5"#, 7, Type::State, Data::Text(String::new()), -5),
        (
            r#""type":"AUDIO","data_base64":"AP+A","timestamp":1"#,
            8,
            Type::Audio,
            Data::Binary(vec![0, 255, 128].into()),
            1,
        ),
    ] {
        let content = client::Content { r#type: r#type.into(), data: Some(data), timestamp };
        let publish = client::Publish { room_id: "two".into(), content: Some(content) };
        let json = format!(r#"{{"type":"publish","id":{id},"room_id":"two","content":{{{json}}}}}"#);
        pairs.client(&json, Some(id), Frame::Publish(publish));
    }
}

#[test]
fn the_browser_client_is_tested_with_the_bytes_that_this_node_writes_and_reads() {
    let (mut server, mut client) = (Pairs::default(), Pairs::default());
    sessions(&mut server);
    rooms(&mut server);
    pushes(&mut server);
    requests(&mut client);
    let [server, client] = [server, client].map(|pairs| pairs.0.join(",\n"));
    let frames = format!("{{\n  \"server\": [\n{server}\n  ],\n  \"client\": [\n{client}\n  ]\n}}\n");
    if std::env::var_os("WRITE_FRAMES").is_some() {
        std::fs::write(FILE, &frames).unwrap();
    }
    let is_current = std::fs::read_to_string(FILE).unwrap() == frames;
    assert!(is_current, "web/tests/frames.json is of another protocol; WRITE_FRAMES=1 writes this one");
}
