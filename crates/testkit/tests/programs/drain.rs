//! A node that is told to end empties itself first: by a signal, or by an order from elsewhere.

use std::time::Duration;

use roomcast_testkit::{Client, eventually};

use crate::{binaries, place::Place, process::Process, service::Service};

struct Platform {
    controller: Service,
    push_manager: Service,
    nodes: [Service; 2],
}

impl Platform {
    async fn start() -> Self {
        let place = Place::shared().await;
        let controller = Service::controller(&place, "controller-1");
        let push_manager = Service::push_manager(&place, "push-manager-1");
        let nodes = ["connect-node-1", "connect-node-2"].map(|id| Service::node(&place, id));
        for service in [&controller, &push_manager].into_iter().chain(&nodes) {
            service.until_ready().await;
        }
        Self { controller, push_manager, nodes }
    }

    /// A session on the first node.
    async fn session(&self) -> Client {
        enter(&self.nodes[0]).await
    }

    /// Waits until the other node knows of both: who is alone has nobody to send its sessions to.
    async fn until_met(&self) {
        let api = self.nodes[0].api(self.nodes[0].http());
        eventually("the node lists both", async || {
            let nodes = api.get("/nodes").await.1;
            let ready = nodes["nodes"].as_array()?.iter().filter(|node| node["state"] == "ready").count();
            (ready == 2).then_some(())
        })
        .await;
    }
}

async fn enter(node: &Service) -> Client {
    let mut client =
        Client::open(&format!("{}?user_id=ann&client_id=tab&room_id=room", node.ws())).await.unwrap();
    client.frame("welcome").await;
    client.frame("joined").await;
    client
}

/// Reconnects elsewhere as the notice says.
async fn follow(mut old: Client, to: &Service) -> Client {
    let after = old.frame("notice").await["reconnect_after_ms"].as_u64().unwrap();
    tokio::time::sleep(Duration::from_millis(after)).await;
    let new = enter(to).await;
    assert_eq!(old.closed().await, Some(4500));
    new
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_gets_sigterm_sends_its_sessions_away_and_counts_them() {
    let platform = Platform::start().await;
    platform.until_met().await;
    let client = platform.session().await;
    let Platform { nodes: [first, second], controller, push_manager, .. } = platform;
    first.process.signal("TERM");
    let _client = follow(client, &second).await;
    let end = first.process.end().await;
    assert_eq!(end.code, Some(0), "{}", end.said);
    let last = end.said.trim_end().lines().last().unwrap();
    for count in ["the node stopped", "sessions=1", "moved=1", "closed=0", "lost=0", "gap_p99_ms="] {
        assert!(last.contains(count), "{count}: {last}");
    }
    for (service, says) in [
        (second, "the node stopped"),
        (push_manager, "cut_short=0 unanswered=0 unacknowledged=0"),
        (controller, "nodes=0 calls=0"),
    ] {
        let end = service.stop().await;
        assert!(end.said.trim_end().lines().last().unwrap().contains(says), "{}", end.said);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_sigterm_ends_a_draining_node_at_once() {
    let platform = Platform::start().await;
    platform.until_met().await;
    let mut client = platform.session().await;
    let [first, _second] = platform.nodes;
    first.process.signal("TERM");
    client.frame("notice").await;
    first.process.signal("TERM");
    let end = first.process.end().await;
    assert!(end.refusal("connect-node").contains("a second signal (SIGTERM)"), "{}", end.said);
    assert_eq!(client.closed().await, None, "nobody waited for it");
}

#[tokio::test(flavor = "multi_thread")]
async fn biz_client_drains_a_node_and_waits_until_it_has_ended() {
    let platform = Platform::start().await;
    platform.until_met().await;
    let client = platform.session().await;
    let order = |node: &str| {
        let mut command = binaries::command("biz-client");
        command.args(["--controller", &platform.controller.grpc().to_string(), "node", "drain", node]);
        command
    };
    let unknown = Process::run(order("connect-node-9")).await;
    assert!(unknown.refusal("biz-client").contains("connect-node-9 is not registered"), "{}", unknown.said);

    let ordered = Process::start(order("connect-node-1"));
    let _client = follow(client, &platform.nodes[1]).await;
    let done = ordered.end().await;
    assert_eq!(done.code, Some(0), "{}", done.said);
    // What it showed last may be a moment older than the node's own last word.
    let last = done.said.lines().last().unwrap();
    assert!(last.starts_with("connect-node-1 has ended"), "{}", done.said);
    assert!(done.said.contains("1 told to go"), "{}", done.said);
    let [first, _second] = platform.nodes;
    let end = first.process.end().await;
    assert_eq!(end.code, Some(0), "{}", end.said);
    assert!(end.said.contains("moved=1 closed=0 lost=0"), "{}", end.said);
}
