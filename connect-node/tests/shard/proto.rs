//! Sessions that speak protobuf, alone and beside those that speak JSON.

use connect_node::{
    ports::{DeliveryTarget, LeftReason, ToShard},
    wire::Encoding,
};
use futures_util::StreamExt;
use prost::Message as _;
use roomcast_proto::client::{
    self, ClientFrame, Left, Ping, ServerFrame, client_frame, content::Data, left, push, server_frame::Frame,
};
use roomcast_types::{Class, Epoch, Position, RoomId};
use serde_json::json;
use tokio_tungstenite::tungstenite::{Message as Raw, client::IntoClientRequest};

use crate::{
    fixture::{Client, Node, counts, within},
    message::Message,
};

impl Node {
    /// As `connect`, for a client that offers protobuf.
    async fn proto(&self, query: &str) -> Client {
        let mut request = format!("ws://{}/ws?{query}", self.address).into_client_request().unwrap();
        let offer = "pubsub.proto.v1, pubsub.json.v1".parse().unwrap();
        request.headers_mut().insert("sec-websocket-protocol", offer);
        let connecting = tokio_tungstenite::connect_async(request);
        let (socket, answer) = within("the handshake", connecting).await.expect("it is accepted");
        assert_eq!(answer.headers()["sec-websocket-protocol"], "pubsub.proto.v1");
        Client { socket }
    }

    /// A session of a client that speaks protobuf, which is in this room.
    async fn proto_member(&self, user: &str, room: &str) -> Client {
        let mut client = self.proto(&format!("user_id={user}&room_id={room}")).await;
        assert!(matches!(client.proto().await, (None, Frame::Welcome(_))));
        assert!(matches!(client.proto().await, (None, Frame::Joined(joined)) if joined.room_id == room));
        client
    }
}

impl Client {
    /// The next binary frame.
    async fn proto(&mut self) -> (Option<u64>, Frame) {
        loop {
            match within("a frame", self.socket.next()).await {
                Some(Ok(Raw::Binary(bytes))) => {
                    let ServerFrame { id, frame } = ServerFrame::decode(bytes).unwrap();
                    return (id, frame.unwrap());
                }
                Some(Ok(Raw::Ping(_))) => {}
                other => panic!("expected a binary frame, got {other:?}"),
            }
        }
    }

    async fn say(&mut self, id: u64, frame: client_frame::Frame) {
        let frame = ClientFrame { id: Some(id), frame: Some(frame) };
        self.send_raw(Raw::binary(frame.encode_to_vec())).await;
    }

    /// The text of the next frame, which is a push.
    async fn proto_pushed(&mut self) -> String {
        match self.proto().await {
            (None, Frame::Push(client::Push { content: Some(content), .. })) => match content.data {
                Some(Data::Text(text)) => text,
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn members_of_a_room_get_the_same_messages_each_in_its_encoding() {
    let node = Node::start().await;
    let mut json = node.member("user_id=a&room_id=r").await;
    let mut proto = node.proto_member("b", "r").await;
    let mut excluded = node.proto_member("c", "r").await;
    for number in 0..3 {
        let sent = counts(node.push("r", &format!("to all {number}")).await).await;
        assert_eq!((sent.written, sent.targets()), (3, 3));
    }
    let sent = counts(node.push_except("r", "not to c", &["c"]).await).await;
    assert_eq!((sent.written, sent.filtered), (2, 1));
    for data in ["to all 0", "to all 1", "to all 2", "not to c"] {
        assert_eq!((json.pushed().await, proto.proto_pushed().await), (data.to_owned(), data.to_owned()));
    }
    for number in 0..3 {
        assert_eq!(excluded.proto_pushed().await, format!("to all {number}"));
    }
    excluded.say(9, client_frame::Frame::Ping(Ping {})).await;
    assert_eq!(excluded.proto().await, (Some(9), Frame::Pong(client::Pong {})));
}

#[tokio::test]
async fn pushes_to_single_sessions_and_to_everybody_come_in_each_encoding() {
    let node = Node::start().await;
    let mut json = node.member("user_id=a").await;
    let mut proto = node.proto("user_id=b").await;
    assert!(matches!(proto.proto().await, (None, Frame::Welcome(_))));
    let (a, b) = (node.hub.session("a").await, node.hub.session("b").await);
    assert_eq!((a.encoding, b.encoding), (Encoding::Json, Encoding::Proto));
    let sent = counts(node.push_sessions(vec![(a.key, 0), (b.key, 1)], "to two").await).await;
    assert_eq!((sent.written, sent.sessions.len()), (2, 2));
    assert_eq!(counts(node.push_all("to everybody").await).await.written, 2);
    for data in ["to two", "to everybody"] {
        assert_eq!((json.pushed().await, proto.proto_pushed().await), (data.to_owned(), data.to_owned()));
    }
}

#[tokio::test]
async fn a_room_that_speaks_protobuf_alone_is_served_and_slow_readers_settle_in_either_encoding() {
    let node = Node::start().await;
    let mut proto = node.proto_member("b", "r").await;
    assert_eq!(counts(node.push("r", "first").await).await.written, 1);
    assert_eq!(proto.proto_pushed().await, "first");
    let mut narrow = node.narrow_member("user_id=a&room_id=r").await;
    // The one who reads keeps nothing of what waits for the other.
    let pushed = node.fill_beside(&mut proto).await;
    let state = Message { key: "k", ..Message::new(Class::Latest, "state") };
    let mut last = node.push_message(state).await;
    assert_eq!(proto.proto_pushed().await, "state");
    assert_eq!(last.walked().await.targets(), 2);
    while narrow.pushed().await != "state" {}
    assert_eq!(last.settled().await.written, 2);
    for mut push in pushed {
        assert_eq!(push.settled().await.written, 2);
    }
}

impl Node {
    /// Pushes until something waits for one of the room's two members; the other reads.
    async fn fill_beside(&self, reader: &mut Client) -> Vec<crate::message::Pushed> {
        let mut pushed = Vec::new();
        loop {
            let filler = Message::new(Class::Ordered, "x".repeat(100_000));
            let mut push = self.push_message(filler).await;
            let counts = push.until("the reader", |counts| counts.written > 0).await;
            assert_eq!(reader.proto_pushed().await.len(), 100_000);
            pushed.push(push);
            if counts.pending > 0 {
                return pushed;
            }
        }
    }
}

#[tokio::test]
async fn answers_gaps_and_notices_come_in_protobuf() {
    let node = Node::start().await;
    let mut proto = node.proto_member("b", "r").await;
    let mut json = node.member("user_id=a&room_id=r").await;
    let full = client::Join { room_id: "full".into(), since: None };
    proto.say(1, client_frame::Frame::Join(full)).await;
    let (id, Frame::Error(error)) = proto.proto().await else { panic!("the room is full") };
    assert_eq!((id, error.code.as_str(), error.room_id.as_str()), (Some(1), "ROOM_FULL", "full"));
    assert_eq!(error.retry_after_ms, 500);
    let publish = client::Publish { room_id: "r".into(), content: None };
    proto.say(2, client_frame::Frame::Publish(publish)).await;
    assert!(matches!(proto.proto().await, (Some(2), Frame::Error(error)) if error.code == "FORBIDDEN"));

    let position = Position { epoch: Epoch::from_u64(7).unwrap(), offset: 3 };
    let target = DeliveryTarget::Room(RoomId::new("r").unwrap());
    node.send(0, ToShard::Gap { target, position }).await;
    let key = node.hub.session("b").await.key;
    node.send(0, ToShard::Gap { target: DeliveryTarget::Sessions(vec![(key, 0)]), position }).await;
    let mut gaps = Vec::new();
    for _ in 0..2 {
        match proto.proto().await {
            (None, Frame::Gap(gap)) => gaps.push((gap.room_id, gap.epoch, gap.offset)),
            other => panic!("{other:?}"),
        }
    }
    gaps.sort();
    assert_eq!(gaps, [(String::new(), 7, 3), ("r".into(), 7, 3)]);
    let gap = json!({"type": "gap", "room_id": "r", "epoch": "0000000000000007", "offset": 3});
    assert_eq!(json.json().await, gap);

    let leave = client::Leave { room_id: "r".into() };
    proto.say(3, client_frame::Frame::Leave(leave)).await;
    let left = Left { room_id: "r".into(), reason: left::Reason::Left.into() };
    assert_eq!(proto.proto().await, (Some(3), Frame::Left(left)));
    let reconnect_after = std::time::Duration::from_millis(800);
    node.send(0, ToShard::Notice { session: key, reconnect_after }).await;
    let (None, Frame::Notice(notice)) = proto.proto().await else { panic!("a notice answers nothing") };
    assert_eq!(notice.reconnect_after_ms, 800);
}

#[tokio::test]
async fn a_kick_is_told_in_protobuf() {
    let node = Node::start().await;
    let mut proto = node.proto_member("b", "r").await;
    let session = node.hub.session("b").await.key;
    let room = RoomId::new("r").unwrap();
    node.send(0, ToShard::Left { session, request: None, room, reason: LeftReason::Kicked }).await;
    let left = Left { room_id: "r".into(), reason: left::Reason::Kicked.into() };
    assert_eq!(proto.proto().await, (None, Frame::Left(left)));
}

#[tokio::test]
async fn an_acknowledgement_in_protobuf_counts() {
    let node = Node::start().await;
    let mut proto = node.proto_member("b", "r").await;
    let message = Message { ack: true, ..Message::new(Class::Ordered, "x") };
    let mut sent = node.push_message(message).await;
    let (_, Frame::Push(push)) = proto.proto().await else { panic!("a push comes") };
    assert!(push.ack && push.target() == push::Target::Room);
    assert_eq!(push.message_id, sent.message_id.to_bytes());
    let ack = client::Ack { message_ids: vec![push.message_id] };
    proto.say(1, client_frame::Frame::Ack(ack)).await;
    let counts = sent.until("the acknowledgement", |counts| counts.acked == 1).await;
    assert_eq!((counts.written, counts.targets()), (0, 1));
}

#[tokio::test]
async fn what_is_no_frame_of_the_encoding_is_answered_until_there_is_too_much_of_it() {
    let node = Node::with(|setup| setup.config.bad_frames_per_minute = 3).await;
    let mut proto = node.proto("user_id=b").await;
    assert!(matches!(proto.proto().await, (None, Frame::Welcome(_))));
    for (frame, id, words) in [
        (Raw::text(r#"{"type":"ping","id":1}"#), None, "this session speaks pubsub.proto.v1"),
        (Raw::binary(vec![0x1a, 0x7f]), None, "not protobuf of the protocol"),
        (Raw::binary(vec![0x08, 0x05]), Some(5), "of no known type"),
    ] {
        proto.send_raw(frame).await;
        let (answered, Frame::Error(error)) = proto.proto().await else { panic!("an error answers") };
        assert_eq!((answered, error.code.as_str()), (id, "BAD_REQUEST"));
        assert!(error.message.contains(words), "{}", error.message);
    }
    // A frame of the protocol with a bad field does not count.
    let join = client::Join { room_id: String::new(), since: None };
    proto.say(6, client_frame::Frame::Join(join)).await;
    assert!(
        matches!(proto.proto().await, (Some(6), Frame::Error(error)) if error.message.contains("room_id"))
    );
    proto.send_raw(Raw::binary(vec![])).await;
    assert!(matches!(proto.proto().await, (None, Frame::Error(_))));
    assert_eq!(proto.close_code().await, 1008);
}
