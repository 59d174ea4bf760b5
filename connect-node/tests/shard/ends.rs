//! However a session ends, what waited for it has an outcome.

use connect_node::{
    ports::{CloseCode, ToShard},
    tally::Counts,
};
use roomcast_types::Class;
use serde_json::json;
use socket2::SockRef;
use tokio_tungstenite::{MaybeTlsStream, tungstenite::Message as Frame};

use crate::{
    fixture::{Client, Node},
    message::{Message, Pushed},
};

/// A node with one member that has a filler begun and two messages waiting behind it.
async fn lagging() -> (Node, Client, Vec<Pushed>) {
    let node = Node::start().await;
    let client = node.narrow_member("user_id=u&room_id=r").await;
    let mut waiting: Vec<_> = node.fill("r").await.into_iter().rev().take(1).collect();
    for number in 0..2 {
        let mut push = node.push_message(Message::new(Class::Ordered, number.to_string())).await;
        assert_eq!(push.walked().await.pending, 1);
        waiting.push(push);
    }
    (node, client, waiting)
}

/// All of them have this outcome, but the begun one may have been written.
async fn all(waiting: Vec<Pushed>, outcome: impl Fn(&Counts) -> u64) {
    for (place, mut push) in waiting.into_iter().enumerate() {
        let counts = push.settled().await;
        assert_eq!(counts.targets(), 1);
        assert!(outcome(&counts) == 1 || (place == 0 && counts.written == 1), "{place}: {counts:?}");
    }
}

#[tokio::test]
async fn by_a_close_of_the_peer() {
    let (_node, mut client, waiting) = lagging().await;
    client.send_raw(Frame::Close(None)).await;
    all(waiting, |counts| counts.closed).await;
}

#[tokio::test]
async fn by_a_broken_connection() {
    let (_node, client, waiting) = lagging().await;
    let MaybeTlsStream::Plain(stream) = client.socket.get_ref() else { panic!("plain") };
    SockRef::from(stream).set_linger(Some(std::time::Duration::ZERO)).unwrap();
    drop(client);
    all(waiting, |counts| counts.closed).await;
}

#[tokio::test]
async fn as_too_slow() {
    let (node, client, mut waiting) = lagging().await;
    loop {
        let large = Message::new(Class::Ordered, "x".repeat(60_000));
        let mut push = node.push_message(large).await;
        let counts = push.walked().await;
        waiting.push(push);
        if counts.dropped_slow == 1 {
            break;
        }
    }
    all(waiting, |counts| counts.dropped_slow).await;
    drop(client);
}

#[tokio::test]
async fn by_a_kick_without_a_reader() {
    let (node, client, waiting) = lagging().await;
    node.close(node.hub.session("u").await.key, CloseCode::Kicked).await;
    all(waiting, |counts| counts.closed).await;
    drop(client);
}

#[tokio::test]
async fn by_a_stop_of_the_node() {
    let (node, client, waiting) = lagging().await;
    node.send(0, ToShard::Stop { flush_wait: std::time::Duration::from_millis(900) }).await;
    all(waiting, |counts| counts.closed).await;
    drop(client);
}

#[tokio::test]
async fn by_a_panic() {
    let (_node, mut client, waiting) = lagging().await;
    client.send(json!({"type": "join", "room_id": "panic"})).await;
    all(waiting, |counts| counts.closed).await;
    drop(client);
}
