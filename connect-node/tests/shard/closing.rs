//! How sessions end.

use std::time::{Duration, Instant};

use connect_node::{
    log::returning::Standing,
    ports::{CloseCode, ToShard},
};
use serde_json::json;
use tokio_tungstenite::tungstenite::{Message, protocol::CloseFrame};

use crate::fixture::{DEADLINE, Node, counts, until, within};

#[tokio::test]
async fn a_session_that_is_taken_over_learns_it_behind_what_was_sent_before() {
    let node = Node::start().await;
    let mut client = node.member("user_id=u&room_id=r").await;
    let key = node.hub.session("u").await.key;
    let before = node.push("r", "before").await;
    node.close(key, CloseCode::TakenOver).await;
    let after = node.push("r", "after").await;
    let (frames, code) = client.until_close().await;
    assert_eq!((frames.len(), code), (1, 4500));
    assert_eq!(frames[0]["content"]["data"], "before");
    assert_eq!((counts(before).await.written, counts(after).await.targets()), (1, 0));
    node.hub.until_closed(key).await;
    // Commands for a session that is gone are dropped.
    node.close(key, CloseCode::Kicked).await;
    node.send(0, ToShard::Welcome { session: key, standing: Standing::default() }).await;
    let closed = counts(node.push_sessions(vec![(key, 0)], "x").await).await;
    assert_eq!((closed.closed, node.hub.times_closed(key)), (1, 1));
}

#[tokio::test]
async fn a_session_may_be_closed_before_its_welcome() {
    let node = Node::with(|setup| setup.holds_welcome = true).await;
    let mut client = node.connect("user_id=u").await;
    node.close(node.hub.session("u").await.key, CloseCode::TakenOver).await;
    let (frames, code) = client.until_close().await;
    assert_eq!((frames.len(), code), (0, 4500));
}

#[tokio::test]
async fn a_client_that_says_goodbye_hears_it_back() {
    let node = Node::start().await;
    let mut client = node.member("user_id=u").await;
    let key = node.hub.session("u").await.key;
    let close = CloseFrame { code: 1000.into(), reason: "done".into() };
    client.send_raw(Message::Close(Some(close))).await;
    assert_eq!(client.close_code().await, 1000);
    node.hub.until_closed(key).await;
    until("the place to be free", || node.load.sessions() == 0).await;
    assert_eq!((node.hub.times_closed(key), node.metric("pubsub_node_closes_total", "1000")), (1, 1.0));
}

#[tokio::test]
async fn a_client_that_vanishes_is_closed_once() {
    let node = Node::start().await;
    let client = node.member("user_id=u&room_id=r").await;
    let mut other = node.member("user_id=other&room_id=r").await;
    let key = node.hub.session("u").await.key;
    drop(client);
    node.hub.until_closed(key).await;
    assert_eq!(counts(node.push("r", "x").await).await.targets(), 1);
    assert_eq!(other.pushed().await, "x");
    assert_eq!(node.hub.times_closed(key), 1);
    // The next session in the same slot is another one.
    let _next = node.member("user_id=next").await;
    let next = node.hub.session("next").await.key;
    assert_eq!(next.slot, key.slot);
    assert_ne!(next.generation, key.generation);
    node.close(key, CloseCode::Kicked).await;
    assert_eq!(counts(node.push_sessions(vec![(next, 0)], "x").await).await.written, 1);
}

#[tokio::test]
async fn a_panic_ends_its_session_and_no_other() {
    let node = Node::start().await;
    let mut other = node.member("user_id=other&room_id=r").await;
    let mut client = node.member("user_id=u&room_id=r").await;
    let key = node.hub.session("u").await.key;
    client.send(json!({"type": "join", "room_id": "panic"})).await;
    assert_eq!(client.close_code().await, 1011);
    assert_eq!(node.hub.times_closed(key), 1);
    assert_eq!(counts(node.push("r", "x").await).await.written, 1);
    assert_eq!(other.pushed().await, "x");
    assert_eq!(node.metric("pubsub_node_session_panics_total", ""), 1.0);
}

#[tokio::test]
async fn a_stop_closes_every_session_with_4001_within_two_seconds() {
    let mut node = Node::with(|setup| setup.shards = 2).await;
    let mut clients = Vec::new();
    for user in 0..4 {
        clients.push(node.member(&format!("user_id=u{user}")).await);
    }
    // One that never answers the close.
    let deaf = node.member("user_id=deaf").await;
    let began = Instant::now();
    for shard in 0..2 {
        node.send(shard, ToShard::Stop { flush_wait: Duration::from_millis(900) }).await;
    }
    for client in &mut clients {
        assert_eq!(client.close_code().await, 4001);
    }
    for handle in &mut node.handles {
        assert!(handle.stopped(DEADLINE).await);
    }
    assert!(began.elapsed() < Duration::from_millis(2_500), "{:?}", began.elapsed());
    node.hub.until("every close", |told| (told.closed.len() == 5).then_some(())).await;
    drop(deaf);
}

#[tokio::test]
async fn a_killed_node_is_gone_at_once_with_its_sockets() {
    let node = Node::start().await;
    let mut client = node.member("user_id=u").await;
    for handle in node.let_go().await {
        assert!(handle.kill(DEADLINE).await);
    }
    assert_eq!(client.close_code().await, 1006);
}

#[tokio::test]
async fn a_shard_whose_mailbox_nobody_holds_ends() {
    use connect_node::{load::Load, shard};
    let node = Node::start().await;
    let defaults = roomcast_runtime::Config::default();
    let config = shard::Config::new(&defaults).unwrap();
    let pages = axum::Router::new();
    let metrics = shard::ShardMetrics::new();
    let handle = shard::spawn(0, config.into(), node.hub.clone(), pages, metrics, Load::new(1)).unwrap();
    let mailbox = handle.mailbox();
    assert!(!mailbox.is_closed());
    drop(handle);
    within("the thread's end", mailbox.closed()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_close_code_gets_through_to_a_reader_that_lags() {
    let node = Node::start().await;
    let mut client = node.member("user_id=u&room_id=r").await;
    let key = node.hub.session("u").await.key;
    let data = "x".repeat(60_000);
    while counts(node.push("r", &data).await).await.pending == 0 {}
    counts(node.push("r", &data).await).await;
    node.close(key, CloseCode::TakenOver).await;
    node.hub.until_closed(key).await;
    assert_eq!(client.close_code().await, 4500);
}
