//! How full nodes are, as each of several controllers tells it.

use std::time::Duration;

use roomcast_proto::pubsub::{
    ListNodesReply, ListNodesRequest, SelectConnectNodeReply, SelectConnectNodeRequest,
    controller_service_client::ControllerServiceClient,
};
use tonic::transport::Channel;

use super::{
    node::FakeNode,
    world::{World, eventually},
};

const AWAY: [&str; 1] = ["PRESENCE_UNAVAILABLE"];

type Client = ControllerServiceClient<Channel>;

async fn list(mut client: Client) -> ListNodesReply {
    client.list_nodes(ListNodesRequest {}).await.unwrap().into_inner()
}

async fn select(mut client: Client) -> SelectConnectNodeReply {
    client.select_connect_node(SelectConnectNodeRequest::default()).await.unwrap().into_inner()
}

/// Id, sessions, places, whether it reports.
fn seen(reply: &ListNodesReply) -> Vec<(&str, u64, u64, bool)> {
    let nodes = reply.nodes.iter();
    nodes.map(|node| (node.node_id.as_str(), node.sessions, node.sessions_max, node.reporting)).collect()
}

async fn until_seen(client: &Client, what: &str, expected: &[(&str, u64, u64, bool)], degraded: &[&str]) {
    eventually(what, || async {
        let reply = list(client.clone()).await;
        seen(&reply) == expected && reply.degraded == degraded
    })
    .await;
}

/// Two controllers and a node that reports to each.
async fn world() -> (World, [FakeNode; 2], [Client; 2]) {
    let mut world = World::new(&[]).await;
    world.add_controller(&[]).await;
    let nodes = [FakeNode::start(&world, 0, "node-a").await, FakeNode::start(&world, 1, "node-b").await];
    let clients = [world.client_of(0).await, world.client_of(1).await];
    (world, nodes, clients)
}

#[tokio::test]
async fn every_controller_knows_the_load_of_nodes_that_report_to_another() {
    let (_world, [a, b], clients) = world().await;
    a.open("user", "c", 1).await;
    b.open_all((0..100).map(|number| format!("user-{number}"))).await;
    for client in &clients {
        let expected = [("node-a", 1, 100, true), ("node-b", 100, 100, true)];
        until_seen(client, "both loads", &expected, &[]).await;
        for _ in 0..50 {
            let chosen = select(client.clone()).await;
            assert_eq!(chosen.node_id, "node-a", "the other one is full");
            assert_eq!(chosen.degraded, [""; 0]);
        }
    }
}

#[tokio::test]
async fn a_load_that_is_not_repeated_is_no_load_any_more() {
    let (world, [_a, mut b], clients) = world().await;
    let both = [("node-a", 0, 100, true), ("node-b", 0, 100, true)];
    until_seen(&clients[0], "both report", &both, &[]).await;
    b.fall_silent().await;
    for client in &clients {
        until_seen(client, "its last load is young", &both, &[]).await;
    }
    world.presence.advance(Duration::from_secs(11));
    let one = [("node-a", 0, 100, true), ("node-b", 0, 0, false)];
    for client in &clients {
        until_seen(client, "only one reports", &one, &[]).await;
    }
    b.report_to(&world, 0).await;
    for client in &clients {
        until_seen(client, "it reports to the other controller", &both, &[]).await;
    }
}

#[tokio::test]
async fn without_presence_loads_that_are_not_known_are_not_invented() {
    let (world, [a, _b], clients) = world().await;
    a.open("user", "c", 1).await;
    let both = [("node-a", 1, 100, true), ("node-b", 0, 100, true)];
    until_seen(&clients[0], "both loads", &both, &[]).await;
    world.presence.set_available(false);
    let one = [("node-a", 1, 100, true), ("node-b", 0, 0, false)];
    until_seen(&clients[0], "the one that reports here", &one, &AWAY).await;
    let chosen = select(clients[0].clone()).await;
    assert!(!chosen.url.is_empty());
    assert_eq!(chosen.degraded, AWAY);
    world.presence.set_available(true);
    until_seen(&clients[0], "both loads again", &both, &[]).await;
}

#[tokio::test]
async fn a_presence_that_hangs_keeps_nobody_waiting_for_a_node() {
    let (world, [_a, _b], clients) = world().await;
    world.slow_presence.stall();
    until_seen(
        &clients[1],
        "the one that reports here",
        &[("node-a", 0, 0, false), ("node-b", 0, 100, true)],
        &AWAY,
    )
    .await;
    for _ in 0..100 {
        assert!(!select(clients[1].clone()).await.url.is_empty());
    }
}

#[tokio::test]
async fn no_controller_sends_clients_to_a_node_that_was_killed() {
    let (_world, [a, mut b], clients) = world().await;
    b.open("user", "c", 1).await;
    let both = [("node-a", 0, 100, true), ("node-b", 1, 100, true)];
    for client in &clients {
        until_seen(client, "both report", &both, &[]).await;
    }
    b.kill().await;
    for client in &clients {
        // It is registered as ready until its lease runs out.
        until_seen(client, "only one reports", &[("node-a", 0, 100, true), ("node-b", 0, 0, false)], &[])
            .await;
        for _ in 0..50 {
            assert_eq!(select(client.clone()).await.node_id, a.id);
        }
    }
}

#[tokio::test]
async fn clients_are_sent_to_a_node_that_missed_reports_when_there_is_no_other() {
    let (world, [mut a, mut b], clients) = world().await;
    let both = [("node-a", 0, 100, true), ("node-b", 0, 100, true)];
    until_seen(&clients[0], "both report", &both, &[]).await;
    b.fall_silent().await;
    world.presence.advance(Duration::from_secs(4));
    eventually("the other one alone is chosen", async || {
        let mut chosen = Vec::new();
        for _ in 0..20 {
            chosen.push(select(clients[0].clone()).await.node_id);
        }
        chosen.iter().all(|node| *node == "node-a")
    })
    .await;
    a.unregister().await;
    a.fall_silent().await;
    eventually("the one that is left", async || select(clients[0].clone()).await.node_id == "node-b").await;
}
