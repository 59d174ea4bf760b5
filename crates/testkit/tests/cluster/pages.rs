//! What a node and the other tiers show over HTTP: pages, stats, lists, metrics.

use roomcast_testkit::{Api, Client, Cluster, eventually};
use serde_json::json;

#[tokio::test]
async fn a_node_shows_its_page_its_numbers_and_the_other_nodes() {
    let cluster = Cluster::builder().nodes(3).start().await;
    let _client = Client::join(&cluster.ws(1), "user", &["room"]).await;
    let node = cluster.node_api(1);
    assert!(node.text("/").await.contains("<html"));
    assert!(node.text("/client.html").await.contains("roomcast.js"));
    assert!(node.text("/roomcast.js").await.contains("export class RoomcastClient"));
    assert_eq!(node.get("/health").await.0, 200);
    assert_eq!(node.get("/ready").await.0, 200);
    let (status, stats) = node.get("/stats").await;
    assert_eq!((status, &stats["node_id"]), (200, &json!("connect-node-2")));
    assert_eq!((&stats["connections"], &stats["rooms"]), (&json!(1), &json!(1)), "{stats}");
    assert_eq!(node.get("/nothing").await.0, 404);
    let nodes = eventually("the list knows the number of sessions", async || {
        let (_, list) = node.get("/nodes").await;
        let nodes = list["nodes"].as_array()?.clone();
        (nodes.len() == 3 && nodes[1]["sessions"] == 1).then_some(nodes)
    })
    .await;
    for (index, node) in nodes.iter().enumerate() {
        assert_eq!((&node["url"], &node["state"]), (&json!(cluster.ws(index)), &json!("ready")));
    }
    cluster.finish().await;
}

#[tokio::test]
async fn queries_answer_over_json_as_over_grpc() {
    let cluster = Cluster::builder().nodes(2).start().await;
    let _client = Client::join(&cluster.ws(1), "user-001", &["room-001"]).await;
    let api = cluster.api(0);
    let (status, room) = api.get("/v1/rooms/room-001").await;
    assert_eq!(status, 200, "{room}");
    assert_eq!(room["card"]["membership"], "FOLLOW");
    assert_eq!(
        (&room["member_count"], &room["next_page_token"]),
        (&json!(1), &json!("")),
        "defaults are written"
    );
    assert_eq!(api.get("/v1/rooms").await.1["rooms"][0]["card"]["room_id"], "room-001");
    let (_, user) = api.get("/v1/users/user-001").await;
    assert_eq!((&user["online"], &user["node_id"]), (&json!(true), &json!("connect-node-2")));
    assert_eq!(api.get("/v1/users/nobody").await.1["online"], false);
    let (_, sessions) = api.get("/v1/users?node_id=connect-node-2").await;
    assert_eq!(sessions["sessions"][0]["user_id"], "user-001", "{sessions}");
    let (_, nodes) = api.get("/v1/nodes").await;
    assert_eq!(nodes["nodes"].as_array().unwrap().len(), 2);
    assert_eq!(api.get("/v1/rooms/unknown").await.1["error"]["code"], "NOT_FOUND");
    cluster.finish().await;
}

#[tokio::test]
async fn each_tier_and_each_node_has_metrics_of_its_own() {
    let cluster = Cluster::builder().nodes(2).start().await;
    let _client = Client::join(&cluster.ws(0), "user", &["room"]).await;
    cluster.api(0).push_room("room", "counted").await;
    let first = Api::new(cluster.node(0).metrics_address()).text("/metrics").await;
    let second = Api::new(cluster.node(1).metrics_address()).text("/metrics").await;
    assert_ne!(first, second, "two nodes in one process count apart");
    let push = Api::new(cluster.push_manager(0).metrics_address()).text("/metrics").await;
    let controller = Api::new(cluster.controller(0).metrics_address()).text("/metrics").await;
    for (text, prefix) in [
        (first, "pubsub_node_"),
        (second, "pubsub_node_"),
        (push, "pubsub_push_"),
        (controller, "pubsub_controller_"),
    ] {
        let metrics: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
        assert!(metrics.iter().any(|metric| metric.starts_with(prefix)), "{prefix} missing in {metrics:?}");
        for metric in metrics {
            let name = metric.split(' ').next().unwrap();
            assert!(text.contains(&format!("# HELP {name} ")), "{name} is not described");
        }
    }
    cluster.finish().await;
}
