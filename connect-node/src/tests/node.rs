//! A whole node: real shards and a real client between a fake push-manager and a fake controller.

use std::{sync::Arc, time::Duration};

use futures_util::{SinkExt, StreamExt};
use http::{HeaderValue, header::SEC_WEBSOCKET_PROTOCOL};
use prost::Message as _;
use roomcast_proto::{
    client::{ServerFrame, server_frame},
    pubsub::{Content, Deliver, deliver::Target},
};
use roomcast_registry::{Member, MemoryRegistry, Registration, Registry, Role, State};
use roomcast_runtime::{
    Config,
    config::{Layers, Program},
};
use roomcast_types::ServiceId;
use serde_json::{Value, json};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream,
    tungstenite::{Message, client::IntoClientRequest},
};

use super::{
    PATIENCE,
    controller::{FakeController, willing},
    manager::{FakeManager, number},
};
use crate::{Deps, Running, start, wire::Encoding};

pub type Client = WebSocketStream<MaybeTlsStream<TcpStream>>;

pub struct World {
    pub node: Running,
    pub manager: FakeManager,
    controller: FakeController,
    registry: Arc<dyn Registry>,
    _member: Member,
}

fn config(controller: &FakeController) -> Config {
    let sets = [
        "connect_node.grpc_port=0",
        "connect_node.http_port=0",
        "connect_node.metrics_port=0",
        "connect_node.shards=2",
        &format!("connect_node.controller_address={}", controller.address),
    ];
    Layers::default().with_sets(sets.map(str::to_owned)).load(Program::ConnectNode).unwrap()
}

async fn register(registry: &Arc<dyn Registry>, manager: &FakeManager) -> Member {
    let registration = Registration {
        role: Role::PushManager,
        id: ServiceId::new(&manager.id).unwrap(),
        grpc_address: "127.0.0.1:9".into(),
        url: String::new(),
        incarnation: manager.incarnation,
        state: State::Ready,
    };
    Member::join(registry.clone(), registration, Duration::from_secs(10)).await.unwrap()
}

/// The node's address, from the registry as a push-manager learns it.
async fn node_address(registry: &Arc<dyn Registry>) -> String {
    timeout(PATIENCE, async {
        loop {
            let nodes = registry.list(Role::ConnectNode).await.unwrap();
            if let Some(node) = nodes.first() {
                assert_eq!(node.state, State::Starting, "no sessions before every push-manager is linked");
                return node.grpc_address.clone();
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await
    .unwrap()
}

async fn world() -> World {
    world_with("").await
}

/// The push-manager reads logs at this address.
pub async fn world_with(log_address: &str) -> World {
    let registry: Arc<dyn Registry> = Arc::new(MemoryRegistry::new());
    let controller = FakeController::start(willing).await;
    let mut manager = FakeManager::new("push-manager-1");
    log_address.clone_into(&mut manager.log_address);
    let member = register(&registry, &manager).await;
    let starting =
        tokio::spawn(start(Deps { config: Arc::new(config(&controller)), registry: registry.clone() }));
    let address = node_address(&registry).await;
    manager.link(&address, true).await;
    let node = timeout(PATIENCE, starting).await.unwrap().unwrap().unwrap();
    World { node, manager, controller, registry, _member: member }
}

pub async fn client(node: &Running, query: &str) -> Client {
    let url = format!("ws://{}/ws?{query}", node.http_address());
    tokio_tungstenite::connect_async(url).await.unwrap().0
}

pub async fn frame(client: &mut Client) -> Value {
    loop {
        match timeout(PATIENCE, client.next()).await.unwrap().unwrap().unwrap() {
            Message::Text(text) => return serde_json::from_str(&text).unwrap(),
            Message::Close(close) => return json!({"close": u16::from(close.unwrap().code)}),
            _ => {}
        }
    }
}

/// As [`client`], in protobuf.
pub async fn proto_client(node: &Running, query: &str) -> Client {
    let url = format!("ws://{}/ws?{query}", node.http_address());
    let mut request = url.into_client_request().unwrap();
    let protocol = HeaderValue::from_static(Encoding::Proto.subprotocol());
    request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, protocol);
    tokio_tungstenite::connect_async(request).await.unwrap().0
}

/// The next frame for a client that speaks protobuf.
pub async fn proto_frame(client: &mut Client) -> server_frame::Frame {
    loop {
        match timeout(PATIENCE, client.next()).await.unwrap().unwrap().unwrap() {
            Message::Binary(bytes) => return ServerFrame::decode(bytes).unwrap().frame.unwrap(),
            Message::Ping(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

fn push(target: Target) -> Deliver {
    let content = Content { data: "Hello".into(), timestamp: 1, ..Content::default() };
    Deliver { message_id: "m".into(), target: Some(target), content: Some(content), ..Deliver::default() }
}

async fn page(node: &Running, path: &str) -> (u16, Value) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = TcpStream::connect(node.http_address()).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    (status, serde_json::from_str(body).unwrap_or(Value::String(body.to_owned())))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_after_joined_is_written_to_the_client_and_counted() {
    let World { node, manager, controller: _controller, registry: _registry, _member } = world().await;
    let mut client = client(&node, "user_id=ann&room_id=lobby").await;
    let welcome = frame(&mut client).await;
    assert_eq!((&welcome["type"], &welcome["user_id"]), (&json!("welcome"), &json!("ann")));
    assert_eq!(manager.learned.lock().unwrap().users.get("ann"), Some(&1), "announced before the welcome");
    let joined = frame(&mut client).await;
    assert_eq!((&joined["type"], &joined["members"]), (&json!("joined"), &json!(5)));
    assert!(manager.learned.lock().unwrap().rooms.contains_key("lobby"), "announced before joined");

    manager.deliver(1, push(Target::RoomId("lobby".into()))).await;
    let frame = frame(&mut client).await;
    assert_eq!((&frame["type"], &frame["content"]["data"]), (&json!("push"), &json!("Hello")));
    manager.until("an outcome", |learned| !learned.outcomes.is_empty()).await;
    let outcome = manager.learned.lock().unwrap().outcomes[0].clone();
    assert_eq!((number(&outcome), outcome.targets, outcome.written), (1, 1, 1));
    manager.until("an acknowledgement", |learned| learned.down_ack == 1).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopping_closes_sessions_reports_them_and_leaves_the_registry() {
    let World { node, controller, registry, manager: _manager, _member } = world().await;
    let mut client = client(&node, "user_id=ann&room_id=lobby").await;
    frame(&mut client).await;
    assert_eq!(frame(&mut client).await["type"], "joined");
    let stopping = tokio::spawn(node.stop());
    assert_eq!(frame(&mut client).await, json!({"close": 4001}));
    client.close(None).await.ok();
    timeout(PATIENCE, stopping).await.unwrap().unwrap();
    use roomcast_proto::pubsub::session_change::Change;
    assert_eq!(controller.script.count(|change| matches!(change, Change::Closed(_))), 1);
    assert!(registry.list(Role::ConnectNode).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_show_the_node_and_where_else_to_go() {
    let World { node, controller: _controller, registry: _registry, manager: _manager, _member } =
        world().await;
    let mut client = client(&node, "user_id=ann&room_id=lobby").await;
    frame(&mut client).await;
    frame(&mut client).await;
    client.send(Message::Text(json!({"type":"ping","id":1}).to_string().into())).await.unwrap();
    assert_eq!(frame(&mut client).await["type"], "pong");
    let (status, stats) = page(&node, "/stats").await;
    assert_eq!(status, 200);
    assert_eq!((&stats["connections"], &stats["rooms"], &stats["lanes"]), (&json!(1), &json!(1), &json!(1)));
    assert_eq!(stats["state"], "ready");
    assert_eq!(page(&node, "/health").await, (200, json!({"status": "ok"})));
    super::until("the node to say that it is ready", || node.is_reporting()).await;
    assert_eq!(page(&node, "/ready").await.0, 200);
    let listed = timeout(PATIENCE, async {
        loop {
            let (_, nodes) = page(&node, "/nodes").await;
            if nodes["nodes"][0]["sessions"] == json!(7) && nodes["nodes"][0]["state"] == "ready" {
                return nodes;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let listed = listed.await.expect("sessions as the controller knows them");
    assert_eq!(listed["nodes"][0]["url"], node.url());
    assert_eq!(listed["retry"], json!({"first_ms": 500, "max_ms": 20000}));
    assert_eq!(page(&node, "/nowhere").await.1["error"]["code"], "NOT_FOUND");
    assert!(page(&node, "/").await.1.as_str().unwrap().contains("<html"));
    node.stop().await;
}
