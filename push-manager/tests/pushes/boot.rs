//! Starting, being one of several, and stopping.

use std::{sync::Arc, time::Duration};

use push_manager::{Deps, Left};
use roomcast_proto::pubsub::{
    PushToRoomRequest, PushToUserRequest, push_manager_service_client::PushManagerServiceClient,
};
use roomcast_registry::{
    Expect, Hint, LeaseId, MemoryRegistry, Put, Registration, Registry, Result, Role, State,
};
use roomcast_store::Logs;
use roomcast_types::{Incarnation, ServiceId};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use crate::{
    node::{DEADLINE, FakeNode},
    stage::{Stage, config, content, line},
};

fn id() -> ServiceId {
    ServiceId::new("push-manager-1").unwrap()
}

#[tokio::test]
async fn it_is_ready_when_every_registered_node_is_linked() {
    let node = FakeNode::start("one").await;
    let stage = Stage::with(&[&node]).await;
    assert_eq!(node.links(), 1);
    assert_eq!(stage.metric("pubsub_push_lanes{state=\"in_sync\"}"), 1.0);
    let address = stage.running.grpc_address().to_string();
    let is_ready = async {
        loop {
            let own = stage.registry().get(Role::PushManager, &id()).await.unwrap().unwrap();
            assert_eq!(own.grpc_address, address);
            if own.state == State::Ready {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, is_ready).await.unwrap();
}

#[tokio::test]
async fn a_dead_and_a_frozen_node_do_not_keep_it_from_starting() {
    let (dead, frozen, alive) =
        (FakeNode::start("dead").await, FakeNode::start("frozen").await, FakeNode::start("alive").await);
    frozen.freeze();
    let registry = Arc::new(MemoryRegistry::new());
    for node in [&dead, &frozen, &alive] {
        node.register(&*registry).await;
    }
    dead.kill().await;
    let deps = Deps { config: config(&[]), registry: registry.clone(), logs: Logs::memory() };
    let running = timeout(DEADLINE, push_manager::start(deps)).await.unwrap().unwrap();
    alive.user("ann", 1).await;
    let body = r#"{"content":{"data":"x"}}"#;
    let url = format!("http://{}/v1/push/user/ann", running.http_address());
    let reply = reqwest::Client::new().post(url).body(body).send().await.unwrap();
    let reply: serde_json::Value = reply.json().await.unwrap();
    let expected = serde_json::json!({"addressed": 1, "unreachable": 1, "blind": 1});
    assert_eq!(reply["receipt"]["nodes"], expected);
}

#[tokio::test]
async fn a_node_that_registers_later_is_linked_and_reached() {
    let stage = Stage::with(&[]).await;
    let node = FakeNode::start("late").await;
    node.register(stage.registry()).await;
    node.room("blue", 1).await;
    let receipt = stage.room("blue", "x").await;
    assert_eq!(line(&receipt), "complete targets=1 pending=0 WRITTEN=1 addressed=1 unreachable=0 blind=0");
}

#[tokio::test]
async fn two_push_managers_have_lanes_of_their_own() {
    let node = FakeNode::start("one").await;
    let stage = Stage::with(&[&node]).await;
    let deps = Deps {
        config: config(&["push_manager.id=push-manager-2"]),
        registry: stage.registry.clone(),
        logs: stage.logs.all(),
    };
    // The fake node keeps one numbering, so the second one only has to link.
    let second = push_manager::start(deps).await.unwrap();
    node.until_linked(2).await;
    assert_ne!(second.grpc_address(), stage.running.grpc_address());
    assert_ne!(second.incarnation(), stage.running.incarnation());
}

#[tokio::test]
async fn a_lost_registration_is_a_failure_that_names_the_holder() {
    let mut stage = Stage::with(&[]).await;
    let own = stage.registry.get(Role::PushManager, &id()).await.unwrap().unwrap();
    let usurper = FakeNode::start("usurper").await;
    let mut other = usurper.registration();
    (other.role, other.id) = (Role::PushManager, id());
    let lease = stage.registry.grant(Duration::from_secs(3600)).await.unwrap();
    let expect = Expect::HeldBy(own.incarnation);
    stage.registry.put(&other, lease, expect).await.unwrap();
    let why = timeout(DEADLINE, stage.running.failed()).await.unwrap();
    assert!(why.contains(&usurper.address.to_string()), "{why}");
}

#[tokio::test]
async fn stopping_lets_accepted_pushes_arrive_and_leaves_nothing_behind() {
    let node = FakeNode::start("one").await;
    let stage = Stage::configured(&[&node], &["push_manager.wait=0ms"]).await;
    node.room("blue", 1).await;
    node.freeze();
    stage.room("blue", "accepted").await;
    let Stage { registry, running, client, .. } = stage;
    let mut accepted = 1;
    let stopping = async {
        let stopped = running.stop();
        tokio::pin!(stopped);
        let is_draining = async {
            while registry.get(Role::PushManager, &id()).await.unwrap().unwrap().state != State::Draining {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            _ = &mut stopped => panic!("it waits for the acknowledgement"),
            () = is_draining => {}
        }
        // Until it closed, pushes are accepted, and then they arrive.
        let refused = async {
            loop {
                let request =
                    PushToRoomRequest { room_id: "blue".into(), content: content("accepted"), options: None };
                match client.clone().push_to_room(request).await {
                    Ok(_) => accepted += 1,
                    Err(status) => return status,
                }
            }
        };
        tokio::select! {
            _ = &mut stopped => panic!("it waits for the acknowledgement"),
            status = refused => assert_eq!(status.code(), Code::Unavailable),
        }
        node.thaw();
        assert_eq!(stopped.await, Left::default());
        assert!(registry.get(Role::PushManager, &id()).await.unwrap().is_none());
    };
    timeout(DEADLINE, stopping).await.unwrap();
    node.until_delivered(&vec!["accepted"; accepted]).await;
}

#[tokio::test]
async fn health_and_both_reflections_are_served() {
    use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
    let stage = Stage::with(&[]).await;
    let channel = tonic::transport::Channel::from_shared(format!("http://{}", stage.running.grpc_address()));
    let channel = channel.unwrap().connect().await.unwrap();
    for service in ["", "pubsub.PushManagerService"] {
        let request = HealthCheckRequest { service: service.to_owned() };
        let reply = HealthClient::new(channel.clone()).check(request).await.unwrap();
        assert_eq!(reply.into_inner().status, 1, "{service:?} serves");
    }
    // ServerReflectionRequest { list_services: "" }, with its gRPC frame.
    let list = [0, 0, 0, 0, 2, 0x3a, 0];
    for version in ["v1", "v1alpha"] {
        let path = format!("/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo");
        let reply = grpc(&stage, &path, &list).await.bytes().await.unwrap();
        let text = String::from_utf8_lossy(&reply);
        assert!(text.contains("pubsub.PushManagerService"), "{version}: {text}");
    }
    for path in ["/pubsub.PushManagerService/Nothing", "/pubsub.Nothing/There"] {
        assert_eq!(grpc(&stage, path, &[0; 5]).await.headers()["grpc-status"], "12", "{path}");
    }
}

async fn grpc(stage: &Stage, path: &str, body: &[u8]) -> reqwest::Response {
    let url = format!("http://{}{path}", stage.running.grpc_address());
    let request = reqwest::Client::new().post(url).header("content-type", "application/grpc");
    request.body(body.to_vec()).send().await.unwrap()
}

#[tokio::test]
async fn a_registry_that_is_away_is_named_in_receipts_and_stops_no_push() {
    let node = FakeNode::start("one").await;
    let stage = Stage::with(&[&node]).await;
    node.room("blue", 1).await;
    stage.registry.set_available(false);
    let receipt = stage.room("blue", "x").await;
    assert_eq!(line(&receipt), "complete targets=1 pending=0 WRITTEN=1 addressed=1 unreachable=0 blind=0");
}

/// A registry whose hints are all lost: only a list tells what changed.
#[derive(Default)]
struct WithoutHints {
    inner: MemoryRegistry,
    watches: std::sync::Mutex<Vec<mpsc::Sender<Hint>>>,
}

#[async_trait::async_trait]
impl Registry for WithoutHints {
    async fn grant(&self, ttl: Duration) -> Result<LeaseId> {
        self.inner.grant(ttl).await
    }
    async fn keep_alive(&self, lease: LeaseId) -> Result<Duration> {
        self.inner.keep_alive(lease).await
    }
    async fn revoke(&self, lease: LeaseId) -> Result<()> {
        self.inner.revoke(lease).await
    }
    async fn put(&self, registration: &Registration, lease: LeaseId, expect: Expect) -> Result<Put> {
        self.inner.put(registration, lease, expect).await
    }
    async fn remove(&self, role: Role, id: &ServiceId, incarnation: Incarnation) -> Result<bool> {
        self.inner.remove(role, id, incarnation).await
    }
    async fn get(&self, role: Role, id: &ServiceId) -> Result<Option<Registration>> {
        self.inner.get(role, id).await
    }
    async fn list(&self, role: Role) -> Result<Vec<Registration>> {
        self.inner.list(role).await
    }
    async fn watch(&self, _: Role) -> Result<ReceiverStream<Hint>> {
        let (sender, hints) = mpsc::channel(1);
        self.watches.lock().unwrap().push(sender);
        Ok(ReceiverStream::new(hints))
    }
}

/// Holds the only worker of a runtime, as SIGSTOP holds a process, until the sender goes.
fn stand_still(runtime: &tokio::runtime::Runtime) -> std::sync::mpsc::Sender<()> {
    let (release, held) = std::sync::mpsc::channel::<()>();
    let (stands, standing) = std::sync::mpsc::channel();
    runtime.spawn(async move {
        stands.send(()).unwrap();
        let _ = held.recv();
    });
    standing.recv_timeout(DEADLINE).unwrap();
    release
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_standstill_a_push_reaches_a_node_that_came_meanwhile() {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(1).enable_all().build().unwrap();
    let registry = Arc::new(WithoutHints::default());
    let deps = Deps { config: config(&[]), registry: registry.clone(), logs: Logs::memory() };
    let running = runtime.spawn(push_manager::start(deps)).await.unwrap().unwrap();
    let channel = tonic::transport::Channel::from_shared(format!("http://{}", running.grpc_address()));
    let channel = channel.unwrap().connect().await.unwrap();
    let mut client = PushManagerServiceClient::new(channel);

    let release = stand_still(&runtime);
    let node = FakeNode::start("newcomer").await;
    node.holds_user("ann");
    node.register(&*registry).await;
    // Longer than a standstill may be without a second look at the list.
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    let request = PushToUserRequest { user_id: "ann".into(), content: content("x"), options: None };
    let push = tokio::spawn(async move { client.push_to_user(request).await });
    drop(release);
    push.await.unwrap().unwrap();
    node.until_delivered(&["x"]).await;
    drop(running);
    runtime.shutdown_background();
}
