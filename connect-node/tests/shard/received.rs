//! Reports of when messages of traces came: one last span for each, and none for what was not sent.

use std::time::{Duration, SystemTime};

use connect_node::{
    ports::{Delivery, DeliveryTarget, ToShard, Traits},
    tally::Counts,
};
use roomcast_proto::pubsub::deliver::Target;
use roomcast_types::{MessageId, RoomId};
use serde_json::json;
use tokio::sync::oneshot;

use super::fixture::{Node, counts, frame, ordered, tally};

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn unix_ms(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as u64
}

/// Pushes to the room, as part of a trace if there is one.
async fn push(node: &Node, data: &str, trace: Option<&str>) -> (MessageId, oneshot::Receiver<Counts>) {
    let frame = frame(Target::RoomId("r".into()), data);
    let (tally, counts) = tally(1);
    let message_id = tally.message_id();
    let traits = Traits { trace: trace.map(Into::into), ..ordered(message_id) };
    let target = DeliveryTarget::Room(RoomId::new("r").unwrap());
    node.send(0, ToShard::Deliver(Delivery { frame, target, traits, exclude: None, tally })).await;
    (message_id, counts)
}

#[tokio::test]
async fn a_report_counts_once_and_only_for_what_this_session_was_sent() {
    let node = Node::start().await;
    let mut client = node.member("user_id=a&room_id=r").await;
    let mut other = node.member("user_id=b&room_id=r").await;
    let session_id = node.hub.session("a").await.session_id;
    client.send(json!({"type": "received", "items": []})).await;
    assert!(client.until_pong().await.is_empty());

    let before = SystemTime::now();
    let (traced, done) = push(&node, "traced", Some(TRACE)).await;
    let (plain, _) = push(&node, "plain", None).await;
    assert_eq!(counts(done).await.written, 2);
    for reader in [&mut client, &mut other] {
        assert_eq!((reader.pushed().await, reader.pushed().await), ("traced".into(), "plain".into()));
    }
    let tomorrow = unix_ms(before) + 86_400_000;
    let report = |id: &str, at_ms: u64| {
        json!({"type": "received", "items": [
        {"message_id": id, "at_ms": at_ms}, {"message_id": plain.to_string(), "at_ms": at_ms},
        {"message_id": "none of ours", "at_ms": at_ms}]})
    };
    // Not this one: it had not said that it reports.
    other.send(report(&traced.to_string(), tomorrow)).await;
    assert!(other.until_pong().await.is_empty());
    client.send(report(&traced.to_string(), tomorrow)).await;
    client.send(report(&traced.to_string(), tomorrow)).await;
    assert!(client.until_pong().await.is_empty());

    let arrivals = node.hub.until("the arrivals", |told| Some(told.arrivals.clone())).await;
    let [arrival] = &arrivals[..] else { panic!("{arrivals:?}") };
    assert_eq!((arrival.message_id, arrival.session_id), (traced, session_id));
    assert_eq!(&*arrival.traceparent, TRACE);
    assert!(before <= arrival.written_at && arrival.written_at <= arrival.received_at, "{arrival:?}");
    assert!(arrival.received_at <= SystemTime::now(), "a time to come is cut off: {arrival:?}");
    assert_eq!(node.metric("pubsub_node_arrivals_total", "counted"), 1.0);
    assert_eq!(node.metric("pubsub_node_arrivals_total", "unknown"), 8.0);

    let (early, _) = push(&node, "early", Some(TRACE)).await;
    assert_eq!(client.pushed().await, "early");
    client.send(report(&early.to_string(), 1)).await;
    let arrivals =
        node.hub.until("the arrival", |told| (told.arrivals.len() == 2).then(|| told.arrivals.clone())).await;
    assert_eq!(arrivals[1].received_at, arrivals[1].written_at, "not before it was written");
    assert!(arrivals[1].written_at.elapsed().unwrap_or_default() < Duration::from_secs(20));
}
