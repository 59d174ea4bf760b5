//! A push-manager that speaks the lane's protocol over gRPC and does what the test says.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use roomcast_proto::pubsub::{
    Deliver, DownItem, LaneDown, LaneHello, LaneHelloReply, LanePing, LaneUp, Outcome, PositionConflict,
    connect_node_service_client::ConnectNodeServiceClient, down_item, interest::Snapshot, up_item,
};
use roomcast_types::{Incarnation, MessageId};
use tokio::{sync::mpsc, task::AbortHandle, time::timeout};
use tokio_stream::wrappers::ReceiverStream;

use super::{PATIENCE, until};
use crate::report::controllers;

/// What it learned.
#[derive(Default)]
pub struct Learned {
    /// Sessions by room, as last told.
    pub rooms: BTreeMap<String, u64>,
    pub users: BTreeMap<String, u64>,
    pub outcomes: Vec<Outcome>,
    pub conflicts: Vec<PositionConflict>,
    pub pongs: Vec<u64>,
    /// Whole snapshots.
    pub snapshots: usize,
    pub down_ack: u64,
    pub up_seen: u64,
    parts: Option<(BTreeMap<String, u64>, BTreeMap<String, u64>)>,
}

/// One life of a push-manager; its streams come and go.
pub struct FakeManager {
    pub id: String,
    pub incarnation: Incarnation,
    pub learned: Arc<Mutex<Learned>>,
    /// Where it reads logs; empty: nowhere.
    pub log_address: String,
    node: u64,
    stream: Option<(mpsc::Sender<LaneDown>, AbortHandle)>,
}

impl Drop for FakeManager {
    fn drop(&mut self) {
        self.cut();
    }
}

/// The down number of the message that an outcome is of.
pub fn number(outcome: &Outcome) -> u64 {
    MessageId::from_bytes(&outcome.message_id).unwrap().unix_ms()
}

impl FakeManager {
    pub fn new(id: &str) -> Self {
        let (incarnation, learned) = (Incarnation::random(), Arc::default());
        Self { id: id.into(), incarnation, learned, log_address: String::new(), node: 0, stream: None }
    }

    /// Links and waits for the snapshot; acknowledges what comes when `acknowledges`.
    pub async fn link(&mut self, address: &str, acknowledges: bool) -> LaneHelloReply {
        let before = self.learned.lock().unwrap().snapshots;
        let reply = self.dial(address, acknowledges).await;
        let learned = self.learned.clone();
        until("a snapshot", || learned.lock().unwrap().snapshots > before).await;
        reply
    }

    pub async fn dial(&mut self, address: &str, acknowledges: bool) -> LaneHelloReply {
        let channel = controllers::connect(address).await.unwrap();
        let mut client = ConnectNodeServiceClient::new(channel);
        let (down, messages) = mpsc::channel(64);
        let up_seen = self.learned.lock().unwrap().up_seen;
        let hello = LaneHello {
            manager_id: self.id.clone(),
            incarnation: self.incarnation.as_u64(),
            up_seen,
            node_incarnation: self.node,
            grpc_address: self.log_address.clone(),
        };
        down.send(LaneDown { hello: Some(hello), ..LaneDown::default() }).await.unwrap();
        let mut up = client.lane(ReceiverStream::new(messages)).await.unwrap().into_inner();
        let first = timeout(PATIENCE, up.message()).await.unwrap().unwrap().unwrap();
        let reply = first.hello.expect("the first message has the hello");
        self.node = reply.incarnation;
        if reply.fresh {
            self.learned.lock().unwrap().up_seen = 0;
        }
        let (learned, acks) = (self.learned.clone(), down.clone());
        let reading = tokio::spawn(async move {
            while let Ok(Some(message)) = up.message().await {
                let up_ack = learned.lock().unwrap().take(message);
                if acknowledges && up_ack > 0 {
                    let _ = acks.send(LaneDown { up_ack, ..LaneDown::default() }).await;
                }
            }
        });
        self.stream = Some((down, reading.abort_handle()));
        reply
    }

    /// Ends the stream as a broken network does.
    pub fn cut(&mut self) {
        if let Some((_, reading)) = self.stream.take() {
            reading.abort();
        }
    }

    /// Whether the node let go of the stream.
    pub fn is_ended(&self) -> bool {
        self.stream.as_ref().is_none_or(|(down, _)| down.is_closed())
    }

    pub async fn send(&self, message: LaneDown) {
        self.stream.as_ref().unwrap().0.send(message).await.unwrap();
    }

    pub async fn ping(&self, sent_us: u64) {
        self.send(LaneDown { ping: Some(LanePing { sent_us }), ..LaneDown::default() }).await;
    }

    /// Sends the message with an id that [`number`] finds the number in.
    pub async fn deliver(&self, number: u64, mut deliver: Deliver) {
        let first = Incarnation::from_u64(1).unwrap();
        deliver.message_id = MessageId::new(number, first, 0).to_string();
        let item = DownItem { item: Some(down_item::Item::Deliver(deliver)) };
        self.send(LaneDown { first_number: number, items: vec![item], ..LaneDown::default() }).await;
    }

    /// Sends the message under its own id.
    pub async fn deliver_as_it_is(&self, number: u64, deliver: Deliver) {
        let item = DownItem { item: Some(down_item::Item::Deliver(deliver)) };
        self.send(LaneDown { first_number: number, items: vec![item], ..LaneDown::default() }).await;
    }

    pub async fn until(&self, what: &str, is_so: impl Fn(&Learned) -> bool) {
        until(what, || is_so(&self.learned.lock().unwrap())).await;
    }

    /// Waits until a ping was echoed: all that was on the lane before has been learned.
    pub async fn catch_up(&self) {
        let sent_us = u64::from(rand::random::<u32>()) + 1;
        self.ping(sent_us).await;
        self.until("an echo", |learned| learned.pongs.contains(&sent_us)).await;
    }
}

impl Learned {
    /// Applies a message; the number to acknowledge. A number processed before changes nothing.
    fn take(&mut self, message: LaneUp) -> u64 {
        self.down_ack = self.down_ack.max(message.down_ack);
        for (number, item) in (message.first_number..).zip(message.items) {
            if number <= self.up_seen {
                continue;
            }
            assert_eq!(number, self.up_seen + 1, "an item is missing");
            self.up_seen = number;
            match item.item.unwrap() {
                up_item::Item::Outcome(outcome) => self.outcomes.push(outcome),
                up_item::Item::Conflict(conflict) => self.conflicts.push(conflict),
                up_item::Item::Interest(interest) => {
                    let kind = interest.snapshot();
                    let is_part = kind != Snapshot::None;
                    let (mut rooms, mut users) = match is_part {
                        true => self.parts.take().unwrap_or_default(),
                        false => (std::mem::take(&mut self.rooms), std::mem::take(&mut self.users)),
                    };
                    for room in interest.rooms {
                        match room.withdrawn {
                            true => rooms.remove(&room.room_id),
                            false => rooms.insert(room.room_id, room.sessions),
                        };
                    }
                    for user in interest.users {
                        match user.sessions {
                            0 => users.remove(&user.user_id),
                            sessions => users.insert(user.user_id, sessions),
                        };
                    }
                    if kind == Snapshot::Part {
                        self.parts = Some((rooms, users));
                    } else {
                        (self.rooms, self.users) = (rooms, users);
                        self.snapshots += usize::from(is_part);
                    }
                }
            }
        }
        self.pongs.extend(message.pong.map(|pong| pong.sent_us));
        self.up_seen
    }
}
