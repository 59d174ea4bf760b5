//! A node whose every step a test takes.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use http::header::SEC_WEBSOCKET_PROTOCOL;
use roomcast_client::{Event, Subscriber};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        handshake::server::{Request, Response},
        protocol::{CloseFrame, frame::coding::CloseCode},
    },
};

/// Generous: nothing in these tests waits for it unless something is broken.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A node whose every step the test takes.
pub struct Node {
    listener: TcpListener,
    name: &'static str,
    pub nodes: Value,
}

impl Node {
    pub async fn new(name: &'static str) -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").await.unwrap(), name, nodes: json!({"nodes": []}) }
    }

    pub fn url(&self) -> String {
        format!("ws://{}/ws", self.listener.local_addr().unwrap())
    }

    pub fn listed(&self) -> Value {
        json!({"node_id": self.name, "url": self.url(), "sessions": 0, "state": "ready"})
    }

    /// The next WebSocket client; questions for the node list on the way are answered.
    pub async fn accept(&self) -> Peer {
        loop {
            let (mut stream, _) = timeout(PATIENCE, self.listener.accept()).await.unwrap().unwrap();
            let mut first = [0; 10];
            while stream.peek(&mut first).await.unwrap() < first.len() {}
            if &first == b"GET /nodes" {
                let mut request = [0; 1024];
                let _ = stream.read(&mut request).await.unwrap();
                let answer = format!("HTTP/1.0 200 OK\r\n\r\n{}", self.nodes);
                stream.write_all(answer.as_bytes()).await.unwrap();
                continue;
            }
            let mut uri = String::new();
            let note = |request: &Request, mut response: Response| {
                uri = request.uri().to_string();
                if let Some(offered) = request.headers().get(SEC_WEBSOCKET_PROTOCOL) {
                    response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, offered.clone());
                }
                Ok(response)
            };
            let socket = tokio_tungstenite::accept_hdr_async(stream, note).await.unwrap();
            return Peer { socket, uri };
        }
    }

    pub async fn welcome(&self) -> Peer {
        self.welcome_with(json!({})).await
    }

    /// With further fields.
    pub async fn welcome_with(&self, fields: Value) -> Peer {
        let mut peer = self.accept().await;
        let frame = json!({"type": "welcome", "protocol": 1, "session_id": "s", "node_id": self.name,
            "user_id": "u", "client_id": "c", "ping_interval_ms": 25_000});
        peer.say(with(frame, fields)).await;
        peer
    }

    /// Answers the next question for the node list.
    pub async fn answer_nodes(&self) {
        let (mut stream, _) = timeout(PATIENCE, self.listener.accept()).await.unwrap().unwrap();
        let mut request = [0; 1024];
        let _ = stream.read(&mut request).await.unwrap();
        let answer = format!("HTTP/1.0 200 OK\r\n\r\n{}", self.nodes);
        stream.write_all(answer.as_bytes()).await.unwrap();
    }
}

pub struct Peer {
    pub socket: WebSocketStream<TcpStream>,
    pub uri: String,
}

impl Peer {
    pub async fn say(&mut self, frame: Value) {
        self.socket.send(Message::text(frame.to_string())).await.unwrap();
    }

    pub async fn hear(&mut self) -> Value {
        loop {
            match timeout(PATIENCE, self.socket.next()).await.unwrap().unwrap().unwrap() {
                Message::Text(text) => return serde_json::from_str(&text).unwrap(),
                Message::Close(frame) => return json!({"closed": frame.map(|frame| u16::from(frame.code))}),
                _ => {}
            }
        }
    }

    /// Hears a join and grants it.
    pub async fn grant(&mut self) -> Value {
        self.grant_with(json!({})).await
    }

    /// With further fields.
    pub async fn grant_with(&mut self, fields: Value) -> Value {
        let join = self.hear().await;
        assert_eq!(join["type"], "join");
        let frame = json!({"type": "joined", "id": join["id"], "room_id": join["room_id"], "members": 1});
        self.say(with(frame, fields)).await;
        join
    }

    pub async fn push(&mut self, message_id: &str) {
        self.push_with(message_id, json!({})).await;
    }

    /// With further fields, for example a position.
    pub async fn push_with(&mut self, message_id: &str, fields: Value) {
        let frame = json!({"type": "push", "target": "room", "room_id": "r", "message_id": message_id,
            "content": {"type": "TEXT", "data": message_id, "timestamp": 1}, "timestamp_ms": 2});
        self.say(with(frame, fields)).await;
    }

    /// Messages of these offsets in epoch `e`; each id is `m` and the offset.
    pub async fn push_logged(&mut self, offsets: impl IntoIterator<Item = u64>) {
        for offset in offsets {
            self.push_with(&format!("m{offset}"), at(offset)).await;
        }
    }

    pub async fn close(mut self, code: u16) {
        let frame = CloseFrame { code: CloseCode::from(code), reason: "told to".into() };
        self.socket.close(Some(frame)).await.unwrap();
        while self.socket.next().await.is_some() {}
    }
}

fn with(mut frame: Value, fields: Value) -> Value {
    let (Value::Object(frame_fields), Value::Object(fields)) = (&mut frame, fields) else { panic!() };
    frame_fields.extend(fields);
    frame
}

/// The fields of a position in epoch `e`.
pub fn at(offset: u64) -> Value {
    json!({"epoch": "e", "offset": offset})
}

pub async fn next(subscriber: &mut Subscriber) -> Event {
    timeout(PATIENCE, subscriber.next()).await.unwrap().expect("the subscriber goes on")
}

pub async fn next_push(subscriber: &mut Subscriber) -> String {
    match next(subscriber).await {
        Event::Push(push) => push.message_id,
        other => panic!("{other:?}"),
    }
}

pub fn start(node: &Node) -> Subscriber {
    Subscriber::builder(node.url()).user_id("ü 1").client_id("c").room("r").start().unwrap()
}

/// Up to the first `joined`.
pub async fn in_room(subscriber: &mut Subscriber, node: &Node) -> Peer {
    let mut peer = node.welcome().await;
    peer.grant().await;
    assert!(matches!(next(subscriber).await, Event::Welcome(_)));
    assert!(matches!(next(subscriber).await, Event::Joined(_)));
    peer
}
