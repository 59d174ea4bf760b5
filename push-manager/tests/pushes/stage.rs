//! Puts a push-manager, nodes and a controller together, and speaks to it as a business server does.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use push_manager::{Deps, Running};
use roomcast_proto::{
    fault,
    pubsub::{
        BroadcastRequest, Content, GetHistoryRequest, HistoryMessage, LogAnswer, LogQuery, PushOptions,
        PushReply, PushToRoomRequest, PushToUserRequest, PushToUsersRequest, ReadLogRequest, Receipt,
        RoomCard, RoomChangedRequest, WatchPushReply, WatchPushRequest,
        push_manager_service_client::PushManagerServiceClient,
    },
};
use roomcast_registry::{Expect, MemoryRegistry, Registration, Registry, Role, State};
use roomcast_runtime::config::{Config, Layers, Program};
use roomcast_store::{Logs, MemoryInbox, MemoryLog};
use roomcast_types::{Fault, Incarnation, ServiceId};
use tokio::time::timeout;
use tokio_stream::StreamExt;
use tonic::transport::Channel;

use crate::{
    controller::FakeController,
    node::{DEADLINE, FakeNode},
};

/// One push-manager and what is around it.
pub struct Stage {
    pub registry: Arc<MemoryRegistry>,
    pub logs: MemoryLogs,
    pub controller: FakeController,
    pub running: Running,
    pub client: PushManagerServiceClient<Channel>,
}

pub fn config(sets: &[&str]) -> Arc<Config> {
    let ports = ["push_manager.port=0", "push_manager.metrics_port=0"];
    let sets = ports.iter().chain(sets).map(|set| (*set).to_owned());
    Arc::new(Layers::default().with_sets(sets).load(Program::PushManager).unwrap())
}

/// The logs of a test, each with its switch.
#[derive(Clone, Default)]
pub struct MemoryLogs {
    pub recent: Arc<MemoryLog>,
    pub durable: Arc<MemoryLog>,
    pub inbox: Arc<MemoryInbox>,
}

impl MemoryLogs {
    pub fn all(&self) -> Logs {
        Logs { recent: self.recent.clone(), durable: self.durable.clone(), inbox: self.inbox.clone() }
    }
}

impl Stage {
    /// With these nodes registered before it starts.
    pub async fn with(nodes: &[&FakeNode]) -> Self {
        Self::configured(nodes, &[]).await
    }

    pub async fn configured(nodes: &[&FakeNode], sets: &[&str]) -> Self {
        let logs = MemoryLogs::default();
        Self::over(nodes, sets, logs.clone(), logs.all()).await
    }

    /// On logs of the test's own; `logs` are for its look at them.
    pub async fn over(nodes: &[&FakeNode], sets: &[&str], logs: MemoryLogs, used: Logs) -> Self {
        let registry = Arc::new(MemoryRegistry::new());
        let controller = FakeController::start().await;
        controller.register("controller-1", &*registry).await;
        for node in nodes {
            node.register(&*registry).await;
        }
        let running =
            push_manager::start(Deps { config: config(sets), registry: registry.clone(), logs: used });
        let running = timeout(DEADLINE, running).await.unwrap().unwrap();
        let channel = Channel::from_shared(format!("http://{}", running.grpc_address())).unwrap();
        let client = PushManagerServiceClient::new(channel.connect().await.unwrap());
        Self { registry, logs, controller, running, client }
    }

    pub fn registry(&self) -> &dyn Registry {
        &*self.registry
    }

    pub async fn push_to_room(&self, room_id: &str, text: &str) -> Result<PushReply, Fault> {
        let request = PushToRoomRequest { room_id: room_id.into(), content: content(text), options: None };
        answer(self.client.clone().push_to_room(request).await)
    }

    /// A push to a room with options.
    pub async fn room_with(
        &self,
        room_id: &str,
        text: &str,
        options: PushOptions,
    ) -> Result<PushReply, Fault> {
        let request =
            PushToRoomRequest { room_id: room_id.into(), content: content(text), options: Some(options) };
        answer(self.client.clone().push_to_room(request).await)
    }

    /// A push to a user with options.
    pub async fn user_with(
        &self,
        user_id: &str,
        text: &str,
        options: PushOptions,
    ) -> Result<PushReply, Fault> {
        let request =
            PushToUserRequest { user_id: user_id.into(), content: content(text), options: Some(options) };
        answer(self.client.clone().push_to_user(request).await)
    }

    /// A push to several users with options.
    pub async fn users_with(
        &self,
        user_ids: &[&str],
        text: &str,
        options: PushOptions,
    ) -> Result<PushReply, Fault> {
        let user_ids = user_ids.iter().map(|id| (*id).to_owned()).collect();
        let request = PushToUsersRequest { user_ids, content: content(text), options: Some(options) };
        answer(self.client.clone().push_to_users(request).await)
    }

    /// One answer of ReadLog.
    pub async fn read_log(&self, query: LogQuery) -> LogAnswer {
        let request = ReadLogRequest { queries: vec![query] };
        let reply = self.client.clone().read_log(request).await.unwrap().into_inner();
        let [answer] = reply.answers.try_into().unwrap();
        answer
    }

    /// Offsets and texts that GetHistory shows, and whether there are more.
    pub async fn history(&self, request: GetHistoryRequest) -> Result<(Vec<(u64, String)>, bool), Fault> {
        let reply = self.client.clone().get_history(request).await.map_err(|status| fault(&status))?;
        let reply = reply.into_inner();
        let text = |message: HistoryMessage| {
            let data = message.content.unwrap_or_default().data;
            (message.offset, String::from_utf8_lossy(&data).into_owned())
        };
        Ok((reply.messages.into_iter().map(text).collect(), reply.has_more))
    }

    /// What WatchPush says until it ends.
    pub async fn watch(&self, request: WatchPushRequest) -> Result<Vec<WatchPushReply>, Fault> {
        let stream = self.client.clone().watch_push(request).await.map_err(|status| fault(&status))?;
        let replies = timeout(DEADLINE, stream.into_inner().collect::<Vec<_>>()).await.unwrap();
        replies.into_iter().collect::<Result<_, _>>().map_err(|status| fault(&status))
    }

    /// The receipt of a push as it is now.
    pub async fn now(&self, message_id: &str) -> WatchPushReply {
        let request = WatchPushRequest { message_id: message_id.into(), once: true, ..Default::default() };
        self.watch(request).await.unwrap().remove(0)
    }

    /// Waits for the receipt of a push to become this.
    pub async fn until_receipt(&self, message_id: &str, reached: impl Fn(&Receipt) -> bool) {
        let waiting = async {
            while !reached(&self.now(message_id).await.receipt.unwrap()) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        timeout(DEADLINE, waiting).await.expect("the receipt becomes this in time");
    }

    /// A second push-manager on the same registry.
    pub async fn second(&self) -> Self {
        let config = config(&["push_manager.id=push-manager-2"]);
        let running =
            push_manager::start(Deps { config, registry: self.registry.clone(), logs: self.logs.all() })
                .await
                .unwrap();
        let channel = Channel::from_shared(format!("http://{}", running.grpc_address())).unwrap();
        let client = PushManagerServiceClient::new(channel.connect().await.unwrap());
        let controller = FakeController::start().await;
        Self { registry: self.registry.clone(), logs: self.logs.clone(), controller, running, client }
    }

    /// Registers a push-manager that somebody else plays.
    pub async fn register_push_manager(&self, id: &str, address: SocketAddr) -> Incarnation {
        let lease = self.registry.grant(Duration::from_secs(3600)).await.unwrap();
        let registration = Registration {
            role: Role::PushManager,
            id: ServiceId::new(id).unwrap(),
            grpc_address: address.to_string(),
            url: String::new(),
            incarnation: Incarnation::random(),
            state: State::Ready,
        };
        self.registry.put(&registration, lease, Expect::Absent).await.unwrap();
        registration.incarnation
    }

    /// The receipt of a push to a room.
    pub async fn room(&self, room_id: &str, text: &str) -> Receipt {
        self.push_to_room(room_id, text).await.unwrap().receipt.unwrap()
    }

    /// The receipt of a push to a user.
    pub async fn user(&self, user_id: &str, text: &str) -> Receipt {
        let request = PushToUserRequest { user_id: user_id.into(), content: content(text), options: None };
        answer(self.client.clone().push_to_user(request).await).unwrap().receipt.unwrap()
    }

    /// The receipt of a push to several users.
    pub async fn users(&self, user_ids: &[&str], text: &str) -> Receipt {
        let user_ids = user_ids.iter().map(|id| (*id).to_owned()).collect();
        let request = PushToUsersRequest { user_ids, content: content(text), options: None };
        answer(self.client.clone().push_to_users(request).await).unwrap().receipt.unwrap()
    }

    /// The receipt of a push to everybody but these.
    pub async fn all(&self, text: &str, excluded: &[&str]) -> Receipt {
        let exclude_user_ids = excluded.iter().map(|id| (*id).to_owned()).collect();
        let options = Some(PushOptions { exclude_user_ids, ..PushOptions::default() });
        let request = BroadcastRequest { content: content(text), options };
        answer(self.client.clone().broadcast(request).await).unwrap().receipt.unwrap()
    }

    pub async fn room_changed(&self, card: RoomCard) {
        let request = RoomChangedRequest { card: Some(card) };
        self.client.clone().room_changed(request).await.unwrap();
    }

    /// One sample of `/metrics`.
    pub fn metric(&self, name: &str) -> f64 {
        let text = self.running.telemetry().render();
        let sample = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        sample.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
    }

    /// Waits for a sample to become this.
    pub async fn until_metric(&self, name: &str, reached: impl Fn(f64) -> bool) {
        let waiting = async {
            while !reached(self.metric(name)) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let waited = timeout(DEADLINE, waiting).await;
        assert!(waited.is_ok(), "{name} stayed {}", self.metric(name));
    }

    /// Waits until so many lanes are in this state.
    pub async fn until_lanes(&self, state: &str, count: usize) {
        self.until_metric(&format!("pubsub_push_lanes{{state=\"{state}\"}}"), |lanes| lanes == count as f64)
            .await;
    }
}

pub fn content(text: &str) -> Option<Content> {
    Some(Content { data: Bytes::copy_from_slice(text.as_bytes()), ..Content::default() })
}

fn answer(answer: Result<tonic::Response<PushReply>, tonic::Status>) -> Result<PushReply, Fault> {
    answer.map(tonic::Response::into_inner).map_err(|status| fault(&status))
}

/// What a receipt says, on one line.
pub fn line(receipt: &Receipt) -> String {
    let nodes = receipt.nodes.unwrap();
    let sum: u64 = receipt.outcomes.values().sum();
    assert_eq!(receipt.targets, receipt.pending + sum, "{receipt:?}");
    let outcomes: Vec<_> = receipt.outcomes.iter().map(|(word, count)| format!("{word}={count}")).collect();
    format!(
        "{} targets={} pending={} {} addressed={} unreachable={} blind={}",
        if receipt.complete { "complete" } else { "incomplete" },
        receipt.targets,
        receipt.pending,
        outcomes.join(" "),
        nodes.addressed,
        nodes.unreachable,
        nodes.blind
    )
}
