//! Readers that do not read.

use std::time::Duration;

use connect_node::tally::Counts;
use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use crate::fixture::{Node, counts};

const PUSHES: usize = 200;

fn large(number: usize) -> String {
    format!("{number}:{}", "x".repeat(60_000))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_stops_is_closed_and_the_others_get_everything() {
    let node = Node::start().await;
    let mut readers = Vec::new();
    for user in 0..3 {
        readers.push(node.member(&format!("user_id=u{user}&room_id=r")).await);
    }
    let mut slow = node.member("user_id=slow&room_id=r").await;
    let key = node.hub.session("slow").await.key;
    let mut sums = Counts::default();
    for number in 0..PUSHES {
        let counted = counts(node.push("r", &large(number)).await).await;
        assert_eq!(counted.targets(), if sums.dropped_slow == 0 { 4 } else { 3 });
        sums.dropped_slow += counted.dropped_slow;
        sums.closed += counted.closed;
        for reader in &mut readers {
            assert!(reader.pushed().await.starts_with(&format!("{number}:")));
        }
    }
    assert_eq!((sums.dropped_slow, sums.closed), (1, 0));
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
    // More than the kernel still takes after its first refusal, and far from the limits of the queue.
    while node.load.queued_bytes() < 100_000 {
        counts(node.push("r", &large(0)).await).await;
    }
    node.hub.until_closed(key).await;
    assert_eq!(node.metric("pubsub_node_closes_total", "4002"), 1.0);
    drop(slow);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_catches_up_is_not_slow() {
    let node = Node::start().await;
    let mut client = node.member("user_id=u&room_id=r").await;
    let mut number = 0;
    for _ in 0..3 {
        let first = number;
        while counts(node.push("r", &large(number)).await).await.pending == 0 {
            number += 1;
        }
        number += 1;
        for expected in first..number {
            assert!(client.pushed().await.starts_with(&format!("{expected}:")));
        }
        assert!(client.until_pong().await.is_empty());
    }
    assert_eq!(node.metric("pubsub_node_closes_total", ""), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn control_frames_and_answers_come_between_whole_frames() {
    let node = Node::start().await;
    let mut client = node.member("user_id=u&room_id=r").await;
    let mut halted = 0;
    while counts(node.push("r", &large(halted)).await).await.pending == 0 {
        halted += 1;
    }
    // The socket took part of a frame. A pong, answers and a push line up behind its rest.
    client.send_raw(Message::Ping("p".into())).await;
    client.send(json!({"type": "join", "id": 2, "room_id": "r2"})).await;
    node.hub.until("the join", |told| (told.joins.len() == 2).then_some(())).await;
    counts(node.push("r", &large(halted + 1)).await).await;
    for number in 0..=halted {
        assert!(client.pushed().await.starts_with(&format!("{number}:")));
    }
    let pong = crate::fixture::within("the pong", client.socket.next()).await;
    assert!(matches!(&pong, Some(Ok(Message::Pong(data))) if data == "p"), "{pong:?}");
    let mut rest = [client.json().await, client.json().await];
    rest.sort_by_key(|frame| frame["type"].to_string());
    assert_eq!((&rest[0]["type"], &rest[1]["type"]), (&json!("joined"), &json!("push")));
    assert!(client.until_pong().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_pings_whose_pongs_nobody_reads_ends_the_session() {
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
