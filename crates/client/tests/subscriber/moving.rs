//! DRAINING: the next session beside the old one, and what can go wrong on the way.

use roomcast_client::{Event, Subscriber, subscriber::Continuity};
use serde_json::{Value, json};

use super::node::{Node, Peer, at, next, next_push, start};

fn notice() -> Value {
    json!({"type": "notice", "reason": "DRAINING", "reconnect_after_ms": 50})
}

fn recovered(offset: u64) -> Value {
    json!({"epoch": "e", "offset": offset, "recovered": true})
}

/// Two nodes that know each other, the first with a session in room `r`, at 40 there and at 5 in the user's own log.
async fn two() -> (Node, Node, Subscriber, Peer) {
    let other = Node::new("b").await;
    let mut node = Node::new("a").await;
    node.nodes = json!({"nodes": [node.listed(), other.listed()], "retry": {"first_ms": 1, "max_ms": 1}});
    let mut subscriber = start(&node);
    let mut old = node.welcome_with(at(5)).await;
    old.grant_with(at(40)).await;
    assert!(matches!(next(&mut subscriber).await, Event::Welcome(_)));
    assert!(matches!(next(&mut subscriber).await, Event::Joined(_)));
    node.answer_nodes().await;
    (node, other, subscriber, old)
}

async fn moved(subscriber: &mut Subscriber) {
    let Event::Reconnected(welcome) = next(subscriber).await else { panic!() };
    assert_eq!((welcome.node_id.as_str(), welcome.continuity), ("b", Continuity::Recovered));
}

#[tokio::test]
async fn a_draining_node_is_left_without_a_missing_message_or_a_repeat() {
    let (_node, other, mut subscriber, mut old) = two().await;
    old.say(notice()).await;
    let mut new = other.welcome_with(recovered(5)).await;
    assert!(new.uri.contains("client_id=c") && new.uri.contains("since=e%3A5"), "{}", new.uri);
    moved(&mut subscriber).await;
    let join = new.hear().await;
    assert_eq!(join["since"], at(40));
    old.push_logged([41, 42]).await;
    old.push("plain").await;
    for expected in ["m41", "m42", "plain"] {
        assert_eq!(next_push(&mut subscriber).await, expected);
    }
    let joined = json!({"type": "joined", "id": join["id"], "room_id": "r", "members": 1,
        "epoch": "e", "offset": 40, "recovered": true, "read_offset": 39});
    new.say(joined).await;
    let Event::Joined(joined) = next(&mut subscriber).await else { panic!() };
    assert_eq!((joined.continuity, joined.read_offset), (Continuity::Recovered, Some(39)));
    new.push_logged([41, 42, 43]).await;
    assert_eq!(next_push(&mut subscriber).await, "m43", "the others are repeats");
    old.push_logged([43]).await;
    old.push("late").await;
    assert_eq!(next_push(&mut subscriber).await, "late");
    old.push_with("wants", json!({"ack": true, "target": "user", "room_id": null})).await;
    assert_eq!(next_push(&mut subscriber).await, "wants");
    assert_eq!(old.hear().await, json!({"type": "ack", "message_ids": ["wants"]}), "on its own session");
    assert_eq!(old.hear().await, json!({"closed": 1000}));
    new.push_logged([44]).await;
    assert_eq!(next_push(&mut subscriber).await, "m44");
}

#[tokio::test]
async fn a_slot_that_the_move_itself_took_is_no_end() {
    let (node, other, mut subscriber, mut old) = two().await;
    old.say(notice()).await;
    // The next node takes the slot and breaks before its welcome.
    drop(other.accept().await);
    old.close(4500).await;
    let Event::Disconnected { code: 4500, .. } = next(&mut subscriber).await else { panic!() };
    let mut peer = tokio::select! {
        peer = other.welcome_with(recovered(5)) => peer,
        peer = node.welcome_with(recovered(5)) => peer,
    };
    peer.grant_with(recovered(40)).await;
    loop {
        match next(&mut subscriber).await {
            Event::Disconnected { .. } => {}
            Event::Reconnected(welcome) => break assert_eq!(welcome.continuity, Continuity::Recovered),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_session_goes_on_while_no_other_node_takes_it() {
    let (node, other, mut subscriber, mut old) = two().await;
    old.say(notice()).await;
    for code in [4503, 1013] {
        let mut refusing = other.accept().await;
        refusing.say(json!({"type": "error", "code": "FORBIDDEN", "message": "not here"})).await;
        refusing.close(code).await;
        old.push(&code.to_string()).await;
        assert_eq!(next_push(&mut subscriber).await, code.to_string());
        // All have failed, so the draining one is asked as well.
        drop(node.accept().await);
    }
    let mut new = other.welcome_with(recovered(5)).await;
    moved(&mut subscriber).await;
    new.grant_with(recovered(40)).await;
    assert!(matches!(next(&mut subscriber).await, Event::Joined(_)));
    assert_eq!(old.hear().await, json!({"closed": 1000}));
}

#[tokio::test]
async fn a_draining_node_that_closes_first_makes_a_reconnect_and_no_more() {
    let (_node, other, mut subscriber, mut old) = two().await;
    old.say(notice()).await;
    old.push_logged([41]).await;
    assert_eq!(next_push(&mut subscriber).await, "m41");
    old.close(4001).await;
    let Event::Disconnected { code: 4001, .. } = next(&mut subscriber).await else { panic!() };
    let mut new = other.welcome_with(recovered(5)).await;
    moved(&mut subscriber).await;
    assert_eq!(new.grant_with(recovered(41)).await["since"], at(41));
    let Event::Joined(joined) = next(&mut subscriber).await else { panic!() };
    assert_eq!(joined.continuity, Continuity::Recovered);
}

#[tokio::test]
async fn a_room_that_was_left_during_a_move_brings_nothing_more_on_the_old_session() {
    let (_node, other, mut subscriber, mut old) = two().await;
    old.say(notice()).await;
    let mut new = other.welcome_with(recovered(5)).await;
    moved(&mut subscriber).await;
    let join = new.hear().await;
    let answer = async {
        let leave = new.hear().await;
        new.say(json!({"type": "joined", "id": join["id"], "room_id": "r", "members": 1})).await;
        new.say(json!({"type": "left", "id": leave["id"], "room_id": "r", "reason": "LEFT"})).await;
    };
    let (left, ()) = tokio::join!(subscriber.leave("r"), answer);
    left.unwrap();
    assert!(matches!(next(&mut subscriber).await, Event::Left { .. }));
    old.push_logged([41]).await;
    new.push_with("own", json!({"target": "user", "room_id": null})).await;
    assert_eq!(next_push(&mut subscriber).await, "own");
}
