//! One part is dead, frozen or slow: the others do not notice, and the receipt says so.

use roomcast_testkit::{Client, Cluster, eventually, outcome, ws::Incoming};
use serde_json::json;

#[tokio::test]
async fn a_killed_node_takes_only_its_own_sessions_along() {
    let mut cluster = Cluster::builder().nodes(3).start().await;
    let api = cluster.api(0);
    let mut alice = Client::join(&cluster.ws(0), "alice", &["room"]).await;
    let mut bob = Client::join(&cluster.ws(1), "bob", &["room"]).await;
    api.push_room("room", "before").await;
    assert_eq!(alice.push().await, "before");
    assert_eq!(bob.push().await, "before");

    cluster.kill_node(0);
    assert_eq!(alice.closed().await, None, "no close frame from the dead");
    // The push-manager was refused when it dialled: the route is gone and the receipt names the node.
    let reply = eventually("the dead node's route is gone", async || {
        let reply = api.push_room("room", "after").await;
        (reply["receipt"]["nodes"]["unreachable"] == 1).then_some(reply)
    })
    .await;
    assert_eq!((outcome(&reply, "WRITTEN"), &reply["receipt"]["targets"]), (1, &json!(1)), "{reply}");
    assert_eq!(reply["receipt"]["nodes"]["addressed"], 1, "{reply}");
    assert_eq!(bob.push().await, "after", "the first push after the death already");

    let mut alice = Client::join(&cluster.ws(2), "alice", &["room"]).await;
    let reply = api.push_user("alice", "welcome back").await;
    assert_eq!(outcome(&reply, "WRITTEN"), 1, "{reply}");
    assert_eq!(alice.push().await, "welcome back");
    cluster.finish().await;
}

#[tokio::test]
async fn a_frozen_node_delays_no_push_to_the_others() {
    let cluster = Cluster::builder().nodes(3).start().await;
    let api = cluster.api(0);
    let mut alice = Client::join(&cluster.ws(0), "alice", &["ours"]).await;
    let mut frozen_one = Client::join(&cluster.ws(2), "frozen", &["theirs"]).await;
    let frozen = cluster.freeze_node(2);
    let reply = eventually("the frozen node is addressed blind", async || {
        let reply = api.push_room("ours", "go on").await;
        (reply["receipt"]["nodes"]["blind"] == 1).then_some(reply)
    })
    .await;
    assert_eq!(reply["receipt"]["complete"], true, "nobody waits for a blind node: {reply}");
    assert_eq!(alice.push().await, "go on");
    let reply = api.push_room("theirs", "late, not lost").await;
    assert_eq!(reply["receipt"]["complete"], false, "its only member is on the frozen node: {reply}");
    assert_eq!(reply["receipt"]["pending"], 1, "{reply}");
    drop(frozen);
    assert_eq!(frozen_one.push().await, "late, not lost");
    cluster.finish().await;
}

#[tokio::test]
async fn a_reader_that_stopped_is_closed_and_the_others_get_everything() {
    let cluster = Cluster::builder().nodes(1).start().await;
    let api = cluster.api(0);
    let mut healthy = Client::join(&cluster.ws(0), "healthy", &["room"]).await;
    let mut stuck = Client::join(&cluster.ws(0), "stuck", &["room"]).await;
    let payload = "x".repeat(60_000);
    let mut dropped = 0;
    for number in 0..200 {
        let reply = api.push_room("room", &format!("{number} {payload}")).await;
        assert!(outcome(&reply, "WRITTEN") >= 1, "{reply}");
        dropped += outcome(&reply, "DROPPED_SLOW");
        assert!(healthy.push().await.starts_with(&format!("{number} ")));
    }
    assert_eq!(dropped, 1, "the push that did not fit closed the session, so it was the last one for it");
    let mut next = 0;
    let code = loop {
        match stuck.next().await {
            Incoming::Frame(frame) => {
                let text = frame["content"]["data"].as_str().unwrap();
                assert!(text.starts_with(&format!("{next} ")), "an open session never has a hole");
                next += 1;
            }
            Incoming::Closed(code) => break code,
        }
    };
    assert!(next > 0 && next < 200);
    assert!(code == Some(4002) || code.is_none(), "{code:?}");
    let metrics = cluster.node(0).telemetry().render();
    assert!(metrics.contains("4002"), "the close is counted by its code");
    cluster.finish().await;
}

#[tokio::test]
async fn without_a_controller_pushes_go_on_and_joins_say_so() {
    let mut cluster = Cluster::builder().nodes(2).start().await;
    let api = cluster.api(0);
    let mut alice = Client::join(&cluster.ws(0), "alice", &["room"]).await;
    cluster.kill_controller(0);
    api.push_room("room", "still").await;
    assert_eq!(alice.push().await, "still");
    let error = eventually("a join is refused for want of a controller", async || {
        let mut bob = Client::connect(&cluster.ws(1), "bob", &[]).await;
        bob.frame("welcome").await;
        bob.send(json!({"type": "join", "id": 1, "room_id": "other"})).await;
        match bob.next().await {
            Incoming::Frame(frame) if frame["type"] == "error" => Some(frame),
            _ => None,
        }
    })
    .await;
    assert_eq!(error["code"], "UNAVAILABLE", "{error}");
    assert!(error["retry_after_ms"].as_u64().unwrap() > 0, "{error}");
    let (status, reply) = api.post("/v1/push/room/unknown", json!({"content": {"data": "x"}})).await;
    assert_eq!((status, &reply["error"]["code"]), (503, &json!("UNAVAILABLE")), "never NOT_FOUND: {reply}");

    // The next controller takes over where the stores stand.
    cluster.start_controller().await;
    eventually("joins work again", async || {
        let mut carol = Client::connect(&cluster.ws(1), "carol", &["room"]).await;
        carol.frame("welcome").await;
        match carol.next().await {
            Incoming::Frame(frame) if frame["type"] == "joined" => Some(()),
            _ => None,
        }
    })
    .await;
    cluster.finish().await;
}

#[tokio::test]
async fn losing_the_registry_stops_nobody_who_is_there() {
    let cluster = Cluster::builder().nodes(2).start().await;
    let api = cluster.api(0);
    let mut alice = Client::join(&cluster.ws(0), "alice", &["room"]).await;
    cluster.registry.set_available(false);
    let mut bob = Client::join(&cluster.ws(1), "bob", &["room"]).await;
    let reply = eventually("the push says that its list is old", async || {
        let reply = api.push_room("room", "on").await;
        assert_eq!(outcome(&reply, "WRITTEN"), 2, "{reply}");
        (reply["degraded"] == json!(["REGISTRY_STALE"])).then_some(reply)
    })
    .await;
    assert_eq!(reply["receipt"]["complete"], true);
    cluster.registry.set_available(true);
    cluster.registry.revoke_all();
    eventually("the list is fresh again", async || {
        let reply = api.push_room("room", "again").await;
        (reply["degraded"] == json!([]) && outcome(&reply, "WRITTEN") == 2).then_some(())
    })
    .await;
    while alice.push().await != "again" {}
    while bob.push().await != "again" {}
    cluster.finish().await;
}

#[tokio::test]
async fn a_stopped_node_says_goodbye_and_leaves_the_list() {
    let mut cluster = Cluster::builder().nodes(2).start().await;
    let mut alice = Client::join(&cluster.ws(0), "alice", &["room"]).await;
    cluster.stop_node(0).await;
    assert_eq!(alice.closed().await, Some(4001));
    let nodes = cluster.node_api(1).get("/nodes").await.1;
    let nodes = nodes["nodes"].as_array().unwrap();
    assert_eq!(nodes.iter().map(|node| &node["node_id"]).collect::<Vec<_>>(), [&json!("connect-node-2")]);
    let reply = cluster.api(0).push_user("alice", "gone").await;
    assert_eq!(outcome(&reply, "OFFLINE"), 1, "{reply}");
    assert_eq!(reply["receipt"]["nodes"]["unreachable"], 0, "it deregistered: {reply}");
    cluster.finish().await;
}
