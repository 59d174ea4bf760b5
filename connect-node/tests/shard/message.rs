//! Messages of every class, and what becomes of them from the first word to the last.

use std::{sync::Arc, time::Duration};

use connect_node::{
    ports::{Delivery, DeliveryTarget, ToShard, Traits},
    tally::{Counts, Tally},
    wire::{Encoding, PushFrame},
};
use futures_util::StreamExt;
use roomcast_proto::pubsub::{Content, Deliver, deliver::Target};
use roomcast_types::{Class, Incarnation, MessageId, Position, RoomId};
use serde_json::Value;
use socket2::{Domain, Socket, Type};
use tokio::{sync::watch, time::Instant};
use tokio_tungstenite::{MaybeTlsStream, tungstenite::Message as Text};

use crate::fixture::{Client, Node, within};

/// A message to a room.
#[derive(Debug, Clone)]
pub struct Message<'a> {
    pub room: &'a str,
    pub data: String,
    pub class: Class,
    pub ttl: Option<Duration>,
    pub key: &'a str,
    pub ack: bool,
    pub place: Option<Position>,
}

impl Message<'_> {
    pub fn new(class: Class, data: impl Into<String>) -> Self {
        Self { room: "r", data: data.into(), class, ttl: None, key: "", ack: false, place: None }
    }
}

/// A message that was pushed.
pub struct Pushed {
    pub message_id: MessageId,
    counts: watch::Receiver<Option<Counts>>,
}

impl Pushed {
    /// The counts when they satisfy the condition.
    pub async fn until(&mut self, what: &str, is_so: impl Fn(&Counts) -> bool) -> Counts {
        let counts = within(what, self.counts.wait_for(|counts| counts.as_ref().is_some_and(&is_so)));
        counts.await.expect("the tally lives on, or has told").clone().expect("it was told")
    }

    /// The counts after the walk, or those of now.
    pub async fn walked(&mut self) -> Counts {
        self.until("the walk", |_| true).await
    }

    /// The counts when nothing is pending.
    pub async fn settled(&mut self) -> Counts {
        let counts = self.until("every outcome", |counts| counts.pending == 0).await;
        assert_eq!(counts.unaccounted, 0, "{counts:?}");
        counts
    }
}

impl Client {
    /// The next text frame; `None` at the end of the connection.
    pub async fn next_text(&mut self) -> Option<Value> {
        loop {
            match within("a frame", self.socket.next()).await {
                Some(Ok(Text::Text(text))) => return Some(serde_json::from_str(&text).unwrap()),
                Some(Ok(Text::Close(_)) | Err(_)) | None => return None,
                Some(Ok(_)) => {}
            }
        }
    }
}

impl Node {
    pub async fn push_message(&self, message: Message<'_>) -> Pushed {
        let message_id = MessageId::new(1, Incarnation::random(), 1);
        let room = RoomId::new(message.room).unwrap();
        let frame = PushFrame::new(Deliver {
            message_id: message_id.to_string(),
            target: Some(Target::RoomId(room.to_string())),
            content: Some(Content { data: message.data.into_bytes().into(), ..Content::default() }),
            ack: message.ack,
            ..Deliver::default()
        });
        // As by the hub. Whoever reads protobuf is one that came since.
        drop(frame.bytes(Encoding::Json));
        let (tell, counts) = watch::channel(None);
        let shards = self.shards.len() as u16;
        let told = move |counts: &Counts, _| {
            tell.send_replace(Some(counts.clone()));
        };
        let tally = Tally::new(message_id);
        tally.listen(told);
        tally.begin(shards.into());
        let key = format!("{}\0{}", message.room, message.key);
        let traits = Traits {
            message_id,
            class: message.class,
            expires_at: message.ttl.map(|ttl| Instant::now() + ttl),
            key: (message.class == Class::Latest).then(|| Arc::from(key)),
            wants_ack: message.ack,
            is_stored: false,
            place: message.place.map(|place| (room.clone(), place)),
            trace: None,
        };
        for shard in 0..shards {
            let (frame, traits, tally) = (frame.clone(), traits.clone(), tally.clone());
            let target = DeliveryTarget::Room(room.clone());
            self.send(shard, ToShard::Deliver(Delivery { frame, target, traits, exclude: None, tally }))
                .await;
        }
        Pushed { message_id, counts }
    }

    /// A member of the rooms of the query whose socket takes little that is not read.
    pub async fn narrow_member(&self, query: &str) -> Client {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(4_096).unwrap();
        socket.connect(&self.address.into()).unwrap();
        socket.set_nonblocking(true).unwrap();
        let stream = tokio::net::TcpStream::from_std(socket.into()).unwrap();
        let url = format!("ws://{}/ws?{query}", self.address);
        let connecting = tokio_tungstenite::client_async(url, MaybeTlsStream::Plain(stream));
        let (socket, _) = within("the handshake", connecting).await.expect("the handshake is accepted");
        let mut client = Client { socket };
        assert_eq!(client.json().await["type"], "welcome");
        for _ in 0..query.matches("room_id=").count() {
            assert_eq!(client.json().await["type"], "joined");
        }
        client
    }

    /// Pushes until something waits for the only member of the room; what was pushed. Its frames are larger than what the
    /// kernel takes, also of what it takes after a first refusal.
    pub async fn fill(&self, room: &str) -> Vec<Pushed> {
        let mut pushed = Vec::new();
        loop {
            let filler =
                Message { room, ..Message::new(Class::Ordered, format!("fill {}", "x".repeat(200_000))) };
            let mut push = self.push_message(filler).await;
            let counts = push.walked().await;
            assert_eq!(counts.dropped_slow, 0, "the member waits before it is slow");
            pushed.push(push);
            if counts.pending > 0 {
                return pushed;
            }
        }
    }
}
