//! A node's shard half on free ports, a hub that answers everything at once, and a client to talk to it.

use std::{collections::HashSet, net::SocketAddr, sync::Arc, time::Duration};

use connect_node::{
    acceptor::Acceptor,
    load::Load,
    ports::{CloseCode, Delivery, DeliveryTarget, SessionKey, Shards, ToShard, Traits},
    shard::{Config, ShardHandle, ShardMetrics, spawn},
    tally::{Counts, Tally},
    wire::{Encoding, PushFrame},
};
use futures_util::{SinkExt, StreamExt};
use roomcast_proto::pubsub::{AllTarget, Content, Deliver, UserTargets, deliver::Target};
use roomcast_runtime::Telemetry;
use roomcast_types::{Class, Incarnation, MessageId, RoomId, UserId};
use serde_json::{Value, json};
use tokio::{
    net::TcpStream,
    sync::{mpsc, oneshot},
    task::JoinSet,
};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, tungstenite::Message};
use tokio_util::sync::CancellationToken;

pub use crate::hub::FakeHub;

/// No wait of these tests is longer.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// Bounds a wait.
pub async fn within<T>(what: &str, wait: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, wait).await.unwrap_or_else(|_| panic!("waited too long for {what}"))
}

/// Waits until a claim holds.
pub async fn until(what: &str, holds: impl Fn() -> bool) {
    within(what, async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// The shard half of a node.
pub struct Node {
    pub hub: Arc<FakeHub>,
    pub load: Arc<Load>,
    pub shards: Shards,
    pub handles: Vec<ShardHandle>,
    pub address: SocketAddr,
    telemetry: Telemetry,
    tasks: JoinSet<()>,
}

pub struct Setup {
    pub shards: u16,
    pub holds_welcome: bool,
    pub config: Config,
}

impl Node {
    pub async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub async fn with(change: impl FnOnce(&mut Setup)) -> Self {
        let defaults = roomcast_runtime::Config::default();
        let config = Config::new(&defaults).unwrap();
        let mut setup = Setup { shards: 1, holds_welcome: false, config };
        change(&mut setup);
        let telemetry = Telemetry::new("connect-node", "test", &defaults.telemetry);
        let metrics = telemetry.register(ShardMetrics::new);
        let (config, load) = (Arc::new(setup.config), Load::new(setup.shards.into()));
        let (answers, to_send) = mpsc::channel(100_000);
        let hub = Arc::new(FakeHub::new(answers, setup.holds_welcome));
        let pages = axum::Router::new().route("/", axum::routing::get(|| async { "page" }));
        let spawn = |index| {
            spawn(index, config.clone(), hub.clone(), pages.clone(), metrics.clone(), load.clone()).unwrap()
        };
        let handles: Vec<_> = (0..setup.shards).map(spawn).collect();
        let shards = Shards::new(handles.iter().map(ShardHandle::mailbox).collect());
        let bound = roomcast_runtime::bind([127, 0, 0, 1].into(), 0, "tests", "test").await.unwrap();
        let address = bound.address;
        let mut tasks = JoinSet::new();
        let end = CancellationToken::new();
        tasks.spawn(Acceptor::run(bound, shards.clone(), load.clone(), config, metrics, end));
        tasks.spawn(answer(to_send, shards.clone()));
        load.set_open(true);
        Self { hub, load, shards, handles, address, telemetry, tasks }
    }

    pub async fn connect(&self, query: &str) -> Client {
        let url = format!("ws://{}/ws?{query}", self.address);
        let connecting = tokio_tungstenite::connect_async(url);
        let (socket, _) = within("the handshake", connecting).await.expect("the handshake is accepted");
        Client { socket }
    }

    /// A session that has read its welcome and one `joined` for each room of the query.
    pub async fn member(&self, query: &str) -> Client {
        let mut client = self.connect(query).await;
        assert_eq!(client.json().await["type"], "welcome");
        for _ in 0..query.matches("room_id=").count() {
            assert_eq!(client.json().await["type"], "joined");
        }
        client
    }

    pub async fn send(&self, shard: u16, command: ToShard) {
        assert!(within("the mailbox", self.shards.send(shard, command)).await, "the shard runs");
    }

    /// Pushes to a room on every shard.
    pub async fn push(&self, room: &str, data: &str) -> oneshot::Receiver<Counts> {
        self.push_except(room, data, &[]).await
    }

    pub async fn push_except(&self, room: &str, data: &str, users: &[&str]) -> oneshot::Receiver<Counts> {
        let room = RoomId::new(room).unwrap();
        let frame = frame(Target::RoomId(room.to_string()), data);
        let exclude: HashSet<_> = users.iter().map(|user| UserId::new(user).unwrap()).collect();
        self.deliver(frame, Some(Arc::new(exclude)), || DeliveryTarget::Room(room.clone())).await
    }

    pub async fn push_all(&self, data: &str) -> oneshot::Receiver<Counts> {
        self.deliver(frame(Target::All(AllTarget {}), data), None, || DeliveryTarget::All).await
    }

    async fn deliver(
        &self,
        frame: PushFrame,
        exclude: Option<Arc<HashSet<UserId>>>,
        target: impl Fn() -> DeliveryTarget,
    ) -> oneshot::Receiver<Counts> {
        let (tally, counts) = tally(self.shards.len() as u32);
        for shard in 0..self.shards.len() as u16 {
            let (frame, exclude, tally) = (frame.clone(), exclude.clone(), tally.clone());
            let traits = ordered(tally.message_id());
            let delivery = Delivery { frame, target: target(), traits, exclude, tally };
            self.send(shard, ToShard::Deliver(delivery)).await;
        }
        counts
    }

    /// Pushes to single sessions of shard 0.
    pub async fn push_sessions(
        &self,
        sessions: Vec<(SessionKey, u32)>,
        data: &str,
    ) -> oneshot::Receiver<Counts> {
        let frame = frame(Target::Users(UserTargets { user_ids: vec![] }), data);
        let (tally, counts) = tally(1);
        let target = DeliveryTarget::Sessions(sessions);
        let traits = ordered(tally.message_id());
        self.send(0, ToShard::Deliver(Delivery { frame, target, traits, exclude: None, tally })).await;
        counts
    }

    pub async fn close(&self, session: SessionKey, code: CloseCode) {
        self.send(session.shard, ToShard::Close { session, code }).await;
    }

    /// A metric as the node's recorder has it, summed over its labels that contain `label`.
    pub fn metric(&self, name: &str, label: &str) -> f64 {
        let rendered = self.telemetry.render();
        let lines = rendered.lines().filter(|line| line.starts_with(name) && line.contains(label));
        lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
    }

    /// Ends everything that holds a mailbox's sender.
    pub async fn let_go(mut self) -> Vec<ShardHandle> {
        self.tasks.shutdown().await;
        self.handles
    }
}

async fn answer(mut answers: mpsc::Receiver<(u16, ToShard)>, shards: Shards) {
    while let Some((shard, command)) = answers.recv().await {
        shards.send(shard, command).await;
    }
}

/// The counts that the tally tells first.
pub fn tally(shards: u32) -> (Arc<Tally>, oneshot::Receiver<Counts>) {
    let (done, counts) = oneshot::channel();
    let mut done = Some(done);
    let tell = move |counts: &Counts, _| {
        let _ = done.take().map(|done| done.send(counts.clone()));
    };
    let tally = Tally::new(MessageId::new(1, Incarnation::random(), 1));
    tally.listen(tell);
    tally.begin(shards);
    (tally, counts)
}

pub fn ordered(message_id: MessageId) -> Traits {
    Traits {
        message_id,
        class: Class::Ordered,
        expires_at: None,
        key: None,
        wants_ack: false,
        is_stored: false,
        place: None,
        trace: None,
    }
}

pub async fn counts(counts: oneshot::Receiver<Counts>) -> Counts {
    within("the tally", counts).await.expect("every delivery is reported")
}

/// Encoded before it comes to a shard, as by the hub.
pub fn frame(target: Target, data: &str) -> PushFrame {
    let frame = PushFrame::new(Deliver {
        message_id: "01ARZ3NDEKTSV4RRFFQ69G5FAV".into(),
        target: Some(target),
        content: Some(Content { data: data.as_bytes().to_vec().into(), ..Content::default() }),
        ..Deliver::default()
    });
    Encoding::ALL.into_iter().for_each(|encoding| drop(frame.bytes(encoding)));
    frame
}

/// One WebSocket client.
pub struct Client {
    pub socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl Client {
    pub async fn send(&mut self, frame: Value) {
        self.send_raw(Message::text(frame.to_string())).await;
    }

    pub async fn send_raw(&mut self, message: Message) {
        within("sending", self.socket.send(message)).await.expect("the socket takes a frame");
    }

    /// The next text frame.
    pub async fn json(&mut self) -> Value {
        loop {
            match within("a frame", self.socket.next()).await {
                Some(Ok(Message::Text(text))) => return serde_json::from_str(&text).unwrap(),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                other => panic!("expected a text frame, got {other:?}"),
            }
        }
    }

    /// The data of the next frame, which is a push.
    pub async fn pushed(&mut self) -> String {
        let frame = self.json().await;
        assert_eq!(frame["type"], "push", "{frame}");
        frame["content"]["data"].as_str().unwrap().to_owned()
    }

    /// Everything before an answer to a ping of the protocol: whatever was sent to this client until now.
    pub async fn until_pong(&mut self) -> Vec<Value> {
        self.send(json!({"type": "ping", "id": 4711})).await;
        let mut frames = Vec::new();
        loop {
            match self.json().await {
                pong if pong["type"] == "pong" => return frames,
                frame => frames.push(frame),
            }
        }
    }

    /// Reads to the end: the text frames on the way, and the close code (1006 when the connection just broke).
    pub async fn until_close(&mut self) -> (Vec<Value>, u16) {
        let mut frames = Vec::new();
        loop {
            match within("a close", self.socket.next()).await {
                Some(Ok(Message::Text(text))) => frames.push(serde_json::from_str(&text).unwrap()),
                Some(Ok(Message::Close(Some(close)))) => return (frames, close.code.into()),
                Some(Ok(Message::Close(None))) => return (frames, 1005),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return (frames, 1006),
            }
        }
    }

    pub async fn close_code(&mut self) -> u16 {
        self.until_close().await.1
    }
}
