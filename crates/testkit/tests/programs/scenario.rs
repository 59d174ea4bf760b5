//! The scenario of the quick start: two controllers, two push-managers, three nodes, and Alice, Bob and Charlie.

use std::time::Duration;

use roomcast_testkit::{Api, Client, outcome};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{place::Place, service::Service};

/// How long a node that is gone may stay in the list.
const LISTED_MAX: Duration = Duration::from_secs(10);
/// How long what is known of a user may be out of date.
const STALE_MAX: Duration = Duration::from_secs(5);

const ROOM: &str = "room-001";
const USERS: [&str; 3] = ["user-001", "user-002", "user-003"];

struct Platform {
    controllers: Vec<Service>,
    push_managers: Vec<Service>,
    nodes: Vec<Service>,
}

impl Platform {
    async fn start() -> Self {
        let place = Place::shared().await;
        let started = |start: fn(&Place, &str) -> Service, stem: &str, count: usize| {
            (1..=count).map(|number| start(&place, &format!("{stem}-{number}"))).collect::<Vec<_>>()
        };
        let platform = Self {
            controllers: started(Service::controller, "controller", 2),
            push_managers: started(Service::push_manager, "push-manager", 2),
            nodes: started(Service::node, "connect-node", 3),
        };
        for service in platform.controllers.iter().chain(&platform.push_managers).chain(&platform.nodes) {
            service.until_ready().await;
        }
        platform
    }

    /// The JSON interface of a push-manager.
    fn push(&self, index: usize) -> Api {
        let service = &self.push_managers[index];
        service.api(service.grpc())
    }

    async fn join(&self, user: usize, node: usize) -> Client {
        Client::join(&self.nodes[node].ws(), USERS[user], &[ROOM]).await
    }

    async fn stop(self) {
        for service in self.nodes.into_iter().chain(self.push_managers).chain(self.controllers) {
            service.stop().await;
        }
    }
}

/// Waits for an answer of the platform; panics with the last one when it takes longer than promised.
async fn within(limit: Duration, what: &str, api: &Api, path: &str, is_right: impl Fn(&Value) -> bool) {
    let started = Instant::now();
    loop {
        let (_, answer) = api.get(path).await;
        if is_right(&answer) {
            return;
        }
        assert!(started.elapsed() < limit, "not within {limit:?}: {what}; {path} says {answer}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn lists(answer: &Value, node_id: &str) -> bool {
    answer["nodes"].as_array().is_some_and(|nodes| nodes.iter().any(|node| node["node_id"] == node_id))
}

async fn push(api: &Api, path: &str, kind: &str, data: &str) -> Value {
    let (status, reply) = api.post(path, json!({"content": {"type": kind, "data": data}})).await;
    assert_eq!(status, 200, "{reply}");
    reply
}

/// The next frame is this push.
async fn gets(client: &mut Client, kind: &str, data: &str) {
    let content = &client.frame("push").await["content"];
    assert_eq!((&content["type"], &content["data"]), (&json!(kind), &json!(data)), "{content}");
}

#[tokio::test(flavor = "multi_thread")]
async fn alice_bob_and_charlie_get_what_is_meant_for_them() {
    let platform = Platform::start().await;
    let mut all = [platform.join(0, 0).await, platform.join(1, 1).await, platform.join(2, 2).await];
    for (round, (kind, path)) in [
        ("TEXT", "/v1/push/room/room-001"),
        ("AUDIO", "/v1/push/room/room-001"),
        ("SYSTEM", "/v1/push/broadcast"),
    ]
    .into_iter()
    .enumerate()
    {
        let reply = push(&platform.push(round % 2), path, kind, "to all").await;
        assert_eq!((outcome(&reply, "WRITTEN"), &reply["receipt"]["complete"]), (3, &json!(true)), "{reply}");
        for client in &mut all {
            gets(client, kind, "to all").await;
        }
    }
    let reply = push(&platform.push(1), "/v1/push/user/user-001", "TRANSLATION", "你好！").await;
    assert_eq!((outcome(&reply, "WRITTEN"), &reply["receipt"]["targets"]), (1, &json!(1)), "{reply}");
    gets(&mut all[0], "TRANSLATION", "你好！").await;
    // Nothing of it came to the others before this.
    push(&platform.push(0), "/v1/push/room/room-001", "TEXT", "the last").await;
    for client in &mut all {
        gets(client, "TEXT", "the last").await;
    }
    for node in &platform.nodes {
        let (_, stats) = node.api(node.http()).get("/stats").await;
        assert_eq!((&stats["connections"], &stats["rooms"]), (&json!(1), &json!(1)), "{stats}");
    }
    // Each controller knows what the nodes reported to either.
    for controller in &platform.controllers {
        let client = roomcast_client::Controller::new([controller.grpc().to_string()]).unwrap();
        let request =
            roomcast_proto::pubsub::GetRoomInfoRequest { room_id: ROOM.into(), ..Default::default() };
        let info = client.get_room_info(request).await.unwrap();
        assert_eq!((info.member_count, info.online_count), (3, 3));
    }
    drop(all);
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_ends_is_gone_in_time_and_costs_the_others_nothing() {
    let mut platform = Platform::start().await;
    let [mut bob, mut charlie] = [platform.join(1, 1).await, platform.join(2, 2).await];
    for signal in ["TERM", "KILL"] {
        let mut alice = platform.join(0, 0).await;
        let api = platform.push(0);
        let user = "/v1/users/user-001";
        within(STALE_MAX, "Alice is on node 1", &api, user, |answer| answer["node_id"] == "connect-node-1")
            .await;

        platform.nodes[0].process.signal(signal);
        // In order with the code for it, else just gone.
        assert_eq!(alice.closed().await, (signal == "TERM").then_some(4001));
        let told = format!("after {signal}");
        within(STALE_MAX, &told, &api, user, |answer| answer["online"] == false).await;
        push(&platform.push(1), "/v1/push/room/room-001", "TEXT", &told).await;
        gets(&mut bob, "TEXT", &told).await;
        gets(&mut charlie, "TEXT", &told).await;
        within(LISTED_MAX, &told, &api, "/v1/nodes", |answer| !lists(answer, "connect-node-1")).await;

        let mut alice = platform.join(0, 1).await;
        within(STALE_MAX, &told, &api, user, |answer| answer["node_id"] == "connect-node-2").await;
        let reply = push(&platform.push(1), "/v1/push/room/room-001", "TEXT", "together again").await;
        assert_eq!((outcome(&reply, "WRITTEN"), &reply["receipt"]["complete"]), (3, &json!(true)), "{reply}");
        for client in [&mut alice, &mut bob, &mut charlie] {
            gets(client, "TEXT", "together again").await;
        }
        let node = platform.nodes.remove(0).start_again().await;
        platform.nodes.insert(0, node);
    }
    drop((bob, charlie));
    platform.stop().await;
}
