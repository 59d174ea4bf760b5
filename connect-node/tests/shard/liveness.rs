//! Pings, and what happens when nobody answers.

use std::time::Duration;

use futures_util::StreamExt;
use tokio_tungstenite::tungstenite::Message;

use crate::fixture::{Node, Setup, within};

fn impatient(setup: &mut Setup) {
    setup.config.ping_interval = Duration::from_millis(200);
    setup.config.pong_timeout = Duration::from_millis(300);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_answers_pings_stays() {
    let node = Node::with(impatient).await;
    let mut client = node.member("user_id=u").await;
    for _ in 0..10 {
        let ping = within("a ping", client.socket.next()).await;
        assert!(matches!(ping, Some(Ok(Message::Ping(_)))), "{ping:?}");
    }
    assert!(client.until_pong().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_says_nothing_is_closed_with_4003() {
    let node = Node::with(impatient).await;
    // It does not read, so nothing of it answers.
    let mut silent = node.member("user_id=silent").await;
    let key = node.hub.session("silent").await.key;
    node.hub.until_closed(key).await;
    assert_eq!(silent.close_code().await, 4003);
    assert_eq!(node.hub.times_closed(key), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn any_sign_of_life_counts_as_an_answer() {
    let node = Node::with(impatient).await;
    let mut client = node.member("user_id=u").await;
    let key = node.hub.session("u").await.key;
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    for _ in 0..12 {
        ticks.tick().await;
        // Sent without reading: no pong goes out.
        client.send(serde_json::json!({"type": "ack", "message_ids": []})).await;
    }
    assert_eq!(node.hub.times_closed(key), 0);
}
