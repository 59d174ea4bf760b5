//! One trace from the business server's call to the frame in the client, over all tiers it passes.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use roomcast_testkit::{
    Client, Cluster, eventually,
    otlp::{ReceivedSpan, Receiver},
};
use serde_json::{Value, json};

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

#[tokio::test]
async fn a_push_is_one_trace_across_the_tiers() {
    let receiver = Receiver::start().await;
    let endpoint = format!("telemetry.otlp_endpoint={}", receiver.endpoint());
    let cluster = Cluster::builder().nodes(1).set(&endpoint).start().await;
    let mut client = Client::join(&cluster.ws(0), "user", &["room"]).await;
    client.send(json!({"type": "received", "items": []})).await;
    client.send(json!({"type": "ping", "id": 1})).await;
    client.frame("pong").await;
    let http = reqwest::Client::new();
    let address = cluster.push_manager(0).grpc_address();
    let sent = http
        .post(format!("http://{address}/v1/push/room/room"))
        .header("traceparent", PARENT)
        .json(&json!({"content": {"data": "traced"}}))
        .send()
        .await
        .unwrap();
    assert_eq!(sent.status(), 200);
    let frame = client.frame("push").await;
    let traceparent = frame["traceparent"].as_str().expect("sampled").to_owned();
    // The client reports when it came, and then something that it cannot know.
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
    for message_id in [&frame["message_id"], &frame["message_id"], &json!("01ARZ3NDEKTSV4RRFFQ69G5FAV")] {
        client
            .send(json!({"type": "received", "items": [{"message_id": message_id, "at_ms": now_ms}]}))
            .await;
    }
    client.send(json!({"type": "ping", "id": 2})).await;
    client.frame("pong").await;
    cluster.finish().await;

    let spans = eventually("both tiers sent their spans", async || {
        let spans = receiver.spans();
        let has = |service: &str| spans.iter().any(|span| span.service == service);
        let is_reported = spans.iter().any(|span| span.name == "receive");
        (has("push-manager") && has("connect-node") && is_reported).then_some(spans)
    })
    .await;
    let trace = PARENT.split('-').nth(1).unwrap();
    // From the frame back to the caller, each span names the one before it.
    let mut wanted = traceparent.split('-').nth(2).unwrap().to_owned();
    let mut path = Vec::new();
    while wanted != "b7ad6b7169203331" {
        let span = spans.iter().find(|span| span.span_id == wanted && span.trace_id == trace);
        let span = span.unwrap_or_else(|| panic!("no span {wanted} among {spans:#?}"));
        path.push(span.service.as_str());
        wanted = span.parent_id.clone();
    }
    path.dedup();
    assert_eq!(path, ["connect-node", "push-manager"]);
    let push = spans.iter().find(|span| span.name == "push").expect("on the path");
    assert_eq!((&*push.attributes["outcomes.WRITTEN"], &*push.attributes["complete"]), ("1", "true"));
    let received: Vec<_> = spans.iter().filter(|span| span.name == "receive").collect();
    let [received] = received[..] else { panic!("one report counts: {received:#?}") };
    assert_eq!(received.service, "connect-node");
    assert_eq!(
        Some(received.parent_id.as_str()),
        traceparent.split('-').nth(2),
        "behind the node's own span"
    );
    assert!(received.start <= received.end && received.end <= (now_ms + 60_000) * 1_000_000);
}

#[tokio::test]
async fn what_was_not_sampled_is_kept_when_it_did_not_reach_its_level() {
    let receiver = Receiver::start().await;
    let endpoint = format!("telemetry.otlp_endpoint={}", receiver.endpoint());
    let cluster = Cluster::builder()
        .nodes(2)
        .set(&endpoint)
        .set("telemetry.sample_ratio=0")
        .set("telemetry.slow_push=20s")
        .start()
        .await;
    let mut clients = Vec::new();
    for node in 0..2 {
        clients.push(Client::join(&cluster.ws(node), &format!("user-{node}"), &["room"]).await);
    }
    let http = reqwest::Client::new();
    let address = cluster.push_manager(0).grpc_address();
    let push = async |body: Value| {
        let sent = http.post(format!("http://{address}/v1/push/room/room"));
        let sent = sent.header("traceparent", PARENT.replace("-01", "-00")).json(&body);
        let reply: Value = sent.send().await.unwrap().json().await.unwrap();
        reply["message_id"].as_str().unwrap_or_else(|| panic!("{reply}")).to_owned()
    };
    let good = push(json!({"content": {"data": "good"}})).await;
    // Nobody acknowledges.
    let options = json!({"ack": true, "wait": "ACKED", "wait_ms": 300});
    let waited = push(json!({"content": {"data": "waited for"}, "options": options})).await;
    let missing = http.post(format!("http://{address}/v1/push/room/missing"));
    let refused = missing.json(&json!({"content": {"data": "nobody"}})).send().await.unwrap();
    assert_eq!(refused.status(), 404);
    for client in &mut clients {
        assert!(client.frame("push").await.get("traceparent").is_none(), "it was not sampled");
    }
    cluster.finish().await;

    let spans = eventually("the kept push is there", async || {
        let spans = receiver.spans();
        (spans.len() >= 3).then_some(spans)
    })
    .await;
    let named = |name: &str| spans.iter().filter(|span| span.name == name).collect::<Vec<&ReceivedSpan>>();
    let [root] = named("push")[..] else { panic!("one push is kept: {spans:#?}") };
    assert_eq!(
        (root.trace_id.as_str(), root.parent_id.as_str()),
        ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"),
        "the caller's trace goes on"
    );
    assert_ne!(good, waited);
    let attribute = |key: &str| root.attributes.get(key).map(String::as_str);
    assert_eq!(attribute("message_id"), Some(waited.as_str()));
    assert_eq!(attribute("room_id"), Some("room"));
    assert_eq!((attribute("kept"), attribute("outcomes.WRITTEN")), (Some("incomplete"), Some("2")));
    assert!(root.end - root.start >= 300_000_000, "{root:?}");
    let legs = named("lane");
    assert_eq!((legs.len(), spans.len()), (2, 3), "one for each node, and nothing else: {spans:#?}");
    for leg in legs {
        assert_eq!((leg.trace_id.as_str(), leg.parent_id.as_str()), (&*root.trace_id, &*root.span_id));
        assert!(root.start <= leg.start && leg.start <= leg.end && leg.end <= root.end, "{leg:?}");
        assert_eq!(leg.attributes["written"], "1");
        assert!(!leg.is_failed);
    }
}

#[tokio::test]
async fn what_was_not_sampled_is_kept_when_it_was_slow() {
    let receiver = Receiver::start().await;
    let endpoint = format!("telemetry.otlp_endpoint={}", receiver.endpoint());
    let cluster = Cluster::builder()
        .nodes(1)
        .set(&endpoint)
        .set("telemetry.sample_ratio=0")
        .set("telemetry.slow_push=100ms")
        .start()
        .await;
    let mut client = Client::join(&cluster.ws(0), "user", &["room"]).await;
    let api = cluster.api(0);
    let body =
        json!({"content": {"data": "slow"}, "options": {"ack": true, "wait": "ACKED", "wait_ms": 20_000}});
    let slow_reader = async {
        let frame = client.frame("push").await;
        // This is the slowness.
        tokio::time::sleep(Duration::from_millis(100)).await;
        client.send(json!({"type": "ack", "message_ids": [frame["message_id"]]})).await;
    };
    let ((status, reply), ()) = tokio::join!(api.post("/v1/push/room/room", body), slow_reader);
    assert_eq!((status, &reply["receipt"]["complete"]), (200, &json!(true)), "{reply}");
    cluster.finish().await;
    let root = eventually("the slow push is kept", async || {
        receiver.spans().into_iter().find(|span| span.name == "push")
    })
    .await;
    assert_eq!((root.attributes["kept"].as_str(), root.parent_id.as_str()), ("slow", ""));
    assert_eq!(root.attributes["outcomes.ACKED"], "1");
}

#[tokio::test]
async fn without_a_receiver_frames_carry_no_trace_of_ours() {
    let cluster = Cluster::builder().nodes(1).start().await;
    let mut client = Client::join(&cluster.ws(0), "user", &["room"]).await;
    cluster.api(0).push_room("room", "plain").await;
    assert!(client.frame("push").await.get("traceparent").is_none());
    cluster.finish().await;
}
