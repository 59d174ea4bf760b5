//! One trace from the business server's call to the frame in the client, over all tiers it passes.

use roomcast_testkit::{Client, Cluster, eventually, otlp::Receiver};
use serde_json::json;

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

#[tokio::test]
async fn a_push_is_one_trace_across_the_tiers() {
    let receiver = Receiver::start().await;
    let endpoint = format!("telemetry.otlp_endpoint={}", receiver.endpoint());
    let cluster = Cluster::builder().nodes(1).set(&endpoint).start().await;
    let mut client = Client::join(&cluster.ws(0), "user", &["room"]).await;
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
    cluster.finish().await;

    let spans = eventually("both tiers sent their spans", async || {
        let spans = receiver.spans();
        let has = |service: &str| spans.iter().any(|span| span.service == service);
        (has("push-manager") && has("connect-node")).then_some(spans)
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
}

#[tokio::test]
async fn without_a_receiver_frames_carry_no_trace_of_ours() {
    let cluster = Cluster::builder().nodes(1).start().await;
    let mut client = Client::join(&cluster.ws(0), "user", &["room"]).await;
    cluster.api(0).push_room("room", "plain").await;
    assert!(client.frame("push").await.get("traceparent").is_none());
    cluster.finish().await;
}
