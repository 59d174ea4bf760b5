//! Readers that do not read.

use std::time::Duration;

use connect_node::ports::Counts;
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use crate::fixture::{Client, Node, counts};

const PUSHES: usize = 200;

/// Reads every push and checks their order.
async fn read_all(mut client: Client) {
    for number in 0..PUSHES {
        let data = client.pushed().await;
        assert!(data.starts_with(&format!("{number}:")), "{number} is missing");
    }
}

fn large(number: usize) -> String {
    format!("{number}:{}", "x".repeat(60_000))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_stops_is_closed_and_the_others_get_everything() {
    let node = Node::start().await;
    let mut readers = Vec::new();
    for user in 0..3 {
        readers.push(tokio::spawn(read_all(node.member(&format!("user_id=u{user}&room_id=r")).await)));
    }
    let mut slow = node.member("user_id=slow&room_id=r").await;
    let key = node.hub.session("slow").await.key;
    let mut sums = Counts::default();
    for number in 0..PUSHES {
        // Paced by the walk, so that nobody who reads falls behind.
        let counted = counts(node.push("r", &large(number)).await).await;
        assert_eq!(counted.targets(), if sums.dropped_slow == 0 { 4 } else { 3 });
        sums.dropped_slow += counted.dropped_slow;
        sums.closed += counted.closed;
    }
    assert_eq!((sums.dropped_slow, sums.closed), (1, 0));
    for reader in readers {
        crate::fixture::within("a reader", reader).await.unwrap();
    }
    node.hub.until_closed(key).await;
    assert_eq!(node.hub.times_closed(key), 1);
    assert_eq!(node.metric("pubsub_node_slow_closes_total", ""), 1.0);
    // It reads again in time, or finds the connection broken; either way in whole frames and without a gap.
    let (frames, code) = slow.until_close().await;
    assert!(code == 4002 || code == 1006, "{code}");
    for (number, frame) in frames.iter().enumerate() {
        assert!(frame["content"]["data"].as_str().unwrap().starts_with(&format!("{number}:")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_that_wakes_up_learns_why() {
    let node = Node::start().await;
    let mut slow = node.member("user_id=slow&room_id=r").await;
    let key = node.hub.session("slow").await.key;
    let mut number = 0;
    while counts(node.push("r", &large(number)).await).await.dropped_slow == 0 {
        number += 1;
    }
    node.hub.until_closed(key).await;
    let (frames, code) = slow.until_close().await;
    assert_eq!(code, 4002);
    assert!(!frames.is_empty() && frames.len() < number, "what was queued behind the first frame is dropped");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_budget_of_the_process_bounds_all_queues_together() {
    let node = Node::with(|setup| setup.config.queue_bytes_total = 100_000).await;
    let slow = node.member("user_id=slow&room_id=r").await;
    let key = node.hub.session("slow").await.key;
    let mut most = 0;
    while counts(node.push("r", &large(0)).await).await.dropped_slow == 0 {
        most = most.max(node.load.queued_bytes());
    }
    node.hub.until_closed(key).await;
    assert!(most <= 100_000, "{most}");
    drop(slow);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_frame_without_progress_is_slow() {
    let node = Node::with(|setup| setup.config.stall_timeout = Duration::from_millis(300)).await;
    let slow = node.member("user_id=slow&room_id=r").await;
    let key = node.hub.session("slow").await.key;
    // Far from the limits of the queue.
    while counts(node.push("r", &large(0)).await).await.pending == 0 {}
    node.hub.until_closed(key).await;
    assert_eq!(node.metric("pubsub_node_closes_total", "4002"), 1.0);
    drop(slow);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_catches_up_is_not_slow() {
    let node = Node::with(|setup| setup.config.stall_timeout = Duration::from_millis(500)).await;
    let mut client = node.member("user_id=u&room_id=r").await;
    let mut sent = 0;
    for round in 0..4 {
        while counts(node.push("r", &large(sent)).await).await.pending == 0 {
            sent += 1;
        }
        sent += 1;
        for number in (0..sent).skip(if round == 0 { 0 } else { sent }) {
            assert!(client.pushed().await.starts_with(&format!("{number}:")));
        }
        if round == 0 {
            break;
        }
    }
    assert!(client.until_pong().await.is_empty());
    assert_eq!(node.load.queued_bytes(), 0);
    assert_eq!(node.metric("pubsub_node_closes_total", ""), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn control_frames_and_answers_come_between_whole_frames() {
    let node = Node::start().await;
    let mut client = node.member("user_id=u&room_id=r").await;
    let mut sent = 0;
    while counts(node.push("r", &large(sent)).await).await.pending == 0 {
        sent += 1;
    }
    // The socket holds half of a frame now. Pongs, answers and pushes line up behind it.
    client.send_raw(Message::Ping("p1".into())).await;
    client.send(json!({"type": "ping", "id": 1})).await;
    client.send(json!({"type": "join", "id": 2, "room_id": "r2"})).await;
    node.hub.until("the join", |told| (told.joins.len() == 2).then_some(())).await;
    counts(node.push("r", &large(sent + 1)).await).await;
    for number in 0..=sent {
        assert!(client.pushed().await.starts_with(&format!("{number}:")));
    }
    let frames = client.until_pong().await;
    assert!(frames.is_empty(), "the first pong is the answer to id 1: {frames:?}");
    let rest = client.until_pong().await;
    let kinds: Vec<_> = rest.iter().map(|frame| frame["type"].as_str().unwrap()).collect();
    assert!(kinds.contains(&"push") && kinds.contains(&"joined"), "{kinds:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_pings_whose_pongs_nobody_reads_ends_the_session() {
    use futures_util::SinkExt;
    let node = Node::with(|setup| setup.config.queue_frames = 64).await;
    let mut client = node.member("user_id=u").await;
    let key = node.hub.session("u").await.key;
    let payload = vec![0u8; 125];
    let flood = async {
        // Fails when the node has closed.
        while client.socket.send(Message::Ping(payload.clone().into())).await.is_ok() {}
    };
    tokio::select! {
        () = flood => {}
        () = node.hub.until_closed(key) => {}
    }
    node.hub.until_closed(key).await;
    assert_eq!(node.metric("pubsub_node_closes_total", "4002"), 1.0);
}
