//! Acknowledgements: what is acknowledged, when, and on which session.

use std::time::Duration;

use roomcast_client::{Event, Subscriber, subscriber::Acknowledge};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::node::{Node, at, in_room, next, next_push, start};

/// A push that wants to be acknowledged.
fn wanted(message_id: &str) -> Value {
    json!({"type": "push", "target": "all", "message_id": message_id, "content": {"data": "x"}, "ack": true})
}

#[tokio::test]
async fn pushes_that_want_it_are_acknowledged_together_and_repeats_again() {
    let node = Node::new("a").await;
    let mut subscriber = start(&node);
    let mut peer = in_room(&mut subscriber, &node).await;
    peer.push("unwanted").await;
    for n in 0..300 {
        peer.say(wanted(&n.to_string())).await;
    }
    let mut acknowledged = Vec::new();
    while acknowledged.len() < 300 {
        let ack = peer.hear().await;
        let ids = ack["message_ids"].as_array().unwrap();
        assert!(ack["type"] == "ack" && ids.len() <= 256, "{ack}");
        acknowledged.extend(ids.iter().map(|id| id.as_str().unwrap().to_owned()));
        while acknowledged.len() < 300 && timeout(Duration::ZERO, subscriber.next()).await.is_ok() {}
    }
    assert_eq!(acknowledged, (0..300).map(|n| n.to_string()).collect::<Vec<_>>());
    peer.say(wanted("299")).await;
    assert_eq!(peer.hear().await, json!({"type": "ack", "message_ids": ["299"]}));
}

#[tokio::test]
async fn an_inbox_message_that_comes_again_is_acknowledged_again_and_not_shown() {
    let node = Node::new("a").await;
    let mut subscriber = start(&node);
    let mut peer = in_room(&mut subscriber, &node).await;
    let waiting =
        json!({"type": "push", "target": "user", "message_id": "1", "content": {"data": "x"}, "ack": true});
    peer.say(waiting.clone()).await;
    assert_eq!(next_push(&mut subscriber).await, "1");
    // The session ends before the acknowledgement is taken.
    peer.close(4001).await;
    let mut peer = node.welcome().await;
    peer.say(waiting).await;
    peer.grant().await;
    assert_eq!(peer.hear().await, json!({"type": "ack", "message_ids": ["1"]}));
    peer.push("after").await;
    loop {
        match next(&mut subscriber).await {
            Event::Push(push) => break assert_eq!(push.message_id, "after"),
            Event::Closed { .. } => panic!(),
            _ => {}
        }
    }
}

/// An acknowledgement is worth something only for what the application got.
#[tokio::test]
async fn a_message_that_comes_too_late_to_be_shown_is_not_acknowledged() {
    let node = Node::new("a").await;
    let mut subscriber = start(&node);
    let mut peer = node.welcome().await;
    peer.grant_with(at(40)).await;
    peer.say(json!({"type": "gap", "room_id": "r", "epoch": "e", "offset": 44})).await;
    for offset in [43, 45] {
        let fields = json!({"epoch": "e", "offset": offset, "ack": true});
        peer.push_with(&offset.to_string(), fields).await;
    }
    assert_eq!(peer.hear().await, json!({"type": "ack", "message_ids": ["45"]}));
    let mut shown = Vec::new();
    while shown.is_empty() {
        if let Event::Push(push) = next(&mut subscriber).await {
            shown.push(push.message_id);
        }
    }
    assert_eq!(shown, ["45"]);
}

#[tokio::test]
async fn by_hand_only_what_the_application_says_is_acknowledged_and_before_the_goodbye() {
    let node = Node::new("a").await;
    let builder = Subscriber::builder(node.url()).user_id("u").room("r");
    let mut subscriber = builder.acknowledge(Acknowledge::ByHand).start().unwrap();
    let mut peer = in_room(&mut subscriber, &node).await;
    for message_id in ["1", "2", "3"] {
        peer.say(wanted(message_id)).await;
    }
    let mut pushes = Vec::new();
    while pushes.len() < 3 {
        let Event::Push(push) = next(&mut subscriber).await else { panic!() };
        pushes.push(push);
    }
    pushes[1].ack();
    pushes[1].ack();
    assert_eq!(peer.hear().await, json!({"type": "ack", "message_ids": ["2"]}));
    pushes[0].ack();
    subscriber.close().await;
    pushes[2].ack();
    assert_eq!(peer.hear().await, json!({"type": "ack", "message_ids": ["1"]}));
    assert_eq!(peer.hear().await, json!({"closed": 1000}));
}

#[tokio::test]
async fn a_message_of_a_lost_session_is_not_acknowledged_on_the_next_unless_it_comes_again() {
    let node = Node::new("a").await;
    let builder = Subscriber::builder(node.url()).user_id("u").room("r");
    let mut subscriber = builder.acknowledge(Acknowledge::ByHand).start().unwrap();
    let mut peer = in_room(&mut subscriber, &node).await;
    peer.say(wanted("1")).await;
    peer.say(wanted("2")).await;
    let Event::Push(first) = next(&mut subscriber).await else { panic!() };
    let Event::Push(second) = next(&mut subscriber).await else { panic!() };
    peer.close(4001).await;
    assert!(matches!(next(&mut subscriber).await, Event::Disconnected { .. }));
    let mut peer = node.welcome().await;
    peer.grant().await;
    assert!(matches!(next(&mut subscriber).await, Event::Reconnected(_)));
    first.ack();
    peer.say(wanted("2")).await;
    peer.push("marker").await;
    while !matches!(next(&mut subscriber).await, Event::Push(_)) {}
    second.ack();
    assert_eq!(peer.hear().await, json!({"type": "ack", "message_ids": ["2"]}));
}
