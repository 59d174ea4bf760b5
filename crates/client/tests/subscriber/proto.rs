//! A subscriber that speaks protobuf.

use futures_util::{SinkExt, StreamExt};
use prost::Message as _;
use roomcast_client::{
    Event, Subscriber,
    subscriber::{Continuity, Payload, Position, Protocol, Target},
};
use roomcast_proto::client::{
    self, ClientFrame, Content, Joined, Push, ServerFrame, Welcome, client_frame, content, content::Data,
    server_frame::Frame,
};
use roomcast_types::{Incarnation, MessageId};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    time::timeout,
};
use tokio_tungstenite::tungstenite::Message;

use crate::node::{Node, PATIENCE, Peer, next};

const EPOCH: u64 = 0xab;

impl Peer {
    async fn tell(&mut self, id: Option<u64>, frame: Frame) {
        let frame = ServerFrame { id, frame: Some(frame) };
        self.socket.send(Message::binary(frame.encode_to_vec())).await.unwrap();
    }

    async fn told(&mut self) -> ClientFrame {
        loop {
            match timeout(PATIENCE, self.socket.next()).await.unwrap().unwrap().unwrap() {
                Message::Binary(bytes) => return ClientFrame::decode(bytes).unwrap(),
                Message::Text(text) => panic!("{text}"),
                _ => {}
            }
        }
    }

    async fn welcome(&mut self) {
        let welcome = Welcome { session_id: "s".into(), node_id: "a".into(), ..Welcome::default() };
        self.tell(None, Frame::Welcome(Welcome { ping_interval_ms: 25_000, ..welcome })).await;
    }

    /// Hears a join and grants it; the position that was named.
    async fn admit(&mut self, offset: u64, recovered: Option<bool>) -> Option<client::Since> {
        let ClientFrame { id, frame: Some(client_frame::Frame::Join(join)) } = self.told().await else {
            panic!("a join comes");
        };
        let joined = Joined {
            room_id: join.room_id,
            members: 1,
            epoch: EPOCH,
            offset,
            recovered,
            ..Joined::default()
        };
        self.tell(id, Frame::Joined(joined)).await;
        join.since
    }
}

fn push(offset: u64, data: Data) -> Push {
    Push {
        message_id: MessageId::new(offset, Incarnation::from_u64(1).unwrap(), 0).to_bytes().to_vec(),
        room_id: "r".into(),
        epoch: EPOCH,
        offset,
        content: Some(Content { r#type: content::Type::State.into(), data: Some(data), timestamp: 1 }),
        timestamp_ms: 2,
        ack: true,
        ..Push::default()
    }
}

fn start(node: &Node) -> Subscriber {
    let builder = Subscriber::builder(node.url()).user_id("u").room("r");
    builder.protocol(Protocol::Proto).start().unwrap()
}

async fn next_push(subscriber: &mut Subscriber) -> roomcast_client::Push {
    match next(subscriber).await {
        Event::Push(push) => push,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn text_and_bytes_arrive_are_acknowledged_and_followed_over_a_reconnect() {
    let node = Node::new("a").await;
    let mut subscriber = start(&node);
    let mut peer = node.accept().await;
    peer.welcome().await;
    assert_eq!(peer.admit(4, None).await, None);
    assert!(matches!(next(&mut subscriber).await, Event::Welcome(welcome) if welcome.node_id == "a"));
    let position = |offset| Some(Position { epoch: "00000000000000ab".into(), offset });
    let Event::Joined(joined) = next(&mut subscriber).await else { panic!("joined comes") };
    assert_eq!(joined.position, position(4));
    peer.tell(None, Frame::Push(push(5, Data::Text("hi".into())))).await;
    peer.tell(None, Frame::Push(push(6, Data::Binary(vec![0xff, 0].into())))).await;
    let text = next_push(&mut subscriber).await;
    assert_eq!((text.target, text.content_type.as_str()), (Target::Room("r".into()), "STATE"));
    assert_eq!((text.payload, text.position), (Payload::Text("hi".into()), position(5)));
    assert_eq!(next_push(&mut subscriber).await.payload, Payload::Binary(vec![0xff, 0].into()));
    let Some(client_frame::Frame::Ack(ack)) = peer.told().await.frame else { panic!("an ack comes") };
    assert_eq!(ack.message_ids, [5, 6].map(|offset| push(offset, Data::Text(String::new())).message_id));

    peer.close(4001).await;
    assert!(matches!(next(&mut subscriber).await, Event::Disconnected { code: 4001, .. }));
    let mut peer = node.accept().await;
    peer.welcome().await;
    assert_eq!(peer.admit(6, Some(true)).await, Some(client::Since { epoch: EPOCH, offset: 6 }));
    peer.tell(None, Frame::Push(push(7, Data::Text("missed".into())))).await;
    loop {
        match next(&mut subscriber).await {
            Event::Joined(joined) => break assert_eq!(joined.continuity, Continuity::Recovered),
            Event::Reconnected(_) | Event::Gap { room_id: None, .. } => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(next_push(&mut subscriber).await.payload, Payload::Text("missed".into()));
}

#[tokio::test]
async fn a_node_that_does_not_speak_it_ends_the_subscriber() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/ws", listener.local_addr().unwrap());
    let refusing = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = String::new();
        while !request.ends_with("\r\n\r\n") {
            request.push(stream.read_u8().await.unwrap().into());
        }
        assert!(request.to_lowercase().contains("sec-websocket-protocol: pubsub.proto.v1"), "{request}");
        let answer = "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";
        stream.write_all(answer.as_bytes()).await.unwrap();
    };
    let mut subscriber = Subscriber::builder(url).user_id("u").protocol(Protocol::Proto).start().unwrap();
    let ((), end) = tokio::join!(refusing, next(&mut subscriber));
    assert!(matches!(&end, Event::Closed { code: None, reason } if reason.contains("400")), "{end:?}");
}
