//! A subscriber against nodes that behave as told, over real sockets.

#![allow(clippy::unwrap_used, clippy::result_large_err)]

mod acknowledging;
mod moving;
mod node;
mod proto;
mod resuming;

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use roomcast_client::{
    Error, Event, Subscriber,
    subscriber::{Continuity, GapCause, Target},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    time::timeout,
};
use tokio_tungstenite::tungstenite::Message;

use self::node::{Node, in_room, next, next_push, start};

#[tokio::test]
async fn pushes_arrive_once_each() {
    let node = Node::new("a").await;
    let mut subscriber = start(&node);
    let mut peer = in_room(&mut subscriber, &node).await;
    assert_eq!(peer.uri, "/ws?user_id=%C3%BC%201&client_id=c");
    for message_id in ["1", "1", "2"] {
        peer.push(message_id).await;
    }
    let Event::Push(push) = next(&mut subscriber).await else { panic!() };
    assert_eq!((push.target, push.payload.as_text()), (Target::Room("r".into()), Some("1")));
    assert_eq!(next_push(&mut subscriber).await, "2");
    subscriber.close().await;
    assert_eq!(peer.hear().await, json!({"closed": 1000}));
}

#[tokio::test]
async fn a_stopping_node_is_left_and_its_rooms_joined_again() {
    let node = Node::new("a").await;
    let mut subscriber = start(&node);
    in_room(&mut subscriber, &node).await.close(4001).await;
    let lost = next(&mut subscriber).await;
    assert!(matches!(&lost, Event::Disconnected { code: 4001, .. }), "{lost:?}");
    let mut peer = node.welcome().await;
    assert!(peer.uri.contains("client_id=c"), "{}", peer.uri);
    let join = peer.grant().await;
    assert_eq!(join.get("since"), None, "no position is known");
    assert!(matches!(next(&mut subscriber).await, Event::Reconnected(_)));
    let gap = next(&mut subscriber).await;
    assert_eq!(gap, Event::Gap { room_id: None, cause: GapCause::NoLog, from: None, to: None });
    let Event::Joined(joined) = next(&mut subscriber).await else { panic!() };
    assert_eq!(joined.continuity, Continuity::Unknown);
    let gap = next(&mut subscriber).await;
    let room_id = Some("r".to_owned());
    assert_eq!(gap, Event::Gap { room_id, cause: GapCause::NoLog, from: None, to: None });
    peer.push("after").await;
    assert_eq!(next_push(&mut subscriber).await, "after");
}

#[tokio::test]
async fn a_taken_over_session_stays_away() {
    let node = Node::new("a").await;
    let mut subscriber = start(&node);
    in_room(&mut subscriber, &node).await.close(4500).await;
    let end = next(&mut subscriber).await;
    assert_eq!(end, Event::Closed { code: Some(4500), reason: "told to".into() });
    assert_eq!(subscriber.next().await, None);
    assert!(matches!(subscriber.join("x").await, Err(Error::Closed)));
}

#[tokio::test]
async fn a_vanished_node_is_replaced_by_one_of_its_list() {
    let other = Node::new("b").await;
    let mut node = Node::new("a").await;
    node.nodes = json!({"nodes": [node.listed(), other.listed()], "retry": {"first_ms": 1, "max_ms": 1}});
    let mut subscriber = start(&node);
    let peer = in_room(&mut subscriber, &node).await;
    node.answer_nodes().await;
    // The list is taken before the loss: a push after it proves that the task got around to it.
    let mut peer = peer;
    peer.push("1").await;
    assert_eq!(next_push(&mut subscriber).await, "1");
    drop((peer, node));
    assert!(matches!(next(&mut subscriber).await, Event::Disconnected { code: 1006, .. }));
    let mut peer = other.welcome().await;
    peer.grant().await;
    loop {
        match next(&mut subscriber).await {
            Event::Reconnected(welcome) => break assert_eq!(welcome.node_id, "b"),
            Event::Disconnected { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn joins_and_leaves_are_answered() {
    let node = Node::new("a").await;
    let mut subscriber = start(&node);
    let mut peer = in_room(&mut subscriber, &node).await;
    let (joined, _) = tokio::join!(subscriber.join("second"), peer.grant());
    assert_eq!(joined.unwrap().room_id, "second");
    let refuse = async {
        let join = peer.hear().await;
        peer.say(json!({"type": "error", "id": join["id"], "room_id": "full", "code": "ROOM_FULL",
            "message": "no seat"}))
            .await;
    };
    let (refused, ()) = tokio::join!(subscriber.join("full"), refuse);
    assert_eq!(refused.unwrap_err().to_string(), "ROOM_FULL: no seat");
    let leave = async {
        let leave = peer.hear().await;
        assert_eq!((&leave["type"], &leave["room_id"]), (&json!("leave"), &json!("second")));
        peer.say(json!({"type": "left", "id": leave["id"], "room_id": "second", "reason": "LEFT"})).await;
    };
    let (left, ()) = tokio::join!(subscriber.leave("second"), leave);
    left.unwrap();
}

#[tokio::test]
async fn a_refused_request_ends_with_what_the_node_said() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/ws", listener.local_addr().unwrap());
    let mut subscriber = Subscriber::builder(url).user_id("u").start().unwrap();
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut request = [0; 1024];
    let _ = stream.read(&mut request).await.unwrap();
    let body = "user_id has 129 bytes";
    let answer = format!("HTTP/1.1 400 Bad Request\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    stream.write_all(answer.as_bytes()).await.unwrap();
    let Event::Closed { code: None, reason } = next(&mut subscriber).await else { panic!() };
    assert!(reason.contains("400") && reason.contains(body), "{reason}");
}

#[tokio::test]
async fn an_error_before_the_welcome_is_the_reason_of_the_end() {
    let node = Node::new("a").await;
    let mut subscriber = start(&node);
    let mut peer = node.accept().await;
    peer.say(json!({"type": "error", "code": "UNAUTHENTICATED", "message": "the token is not valid"})).await;
    peer.close(4503).await;
    let reason = "UNAUTHENTICATED: the token is not valid".into();
    assert_eq!(next(&mut subscriber).await, Event::Closed { code: Some(4503), reason });
}

#[tokio::test]
async fn an_application_that_does_not_read_stops_the_reading_of_the_socket() {
    let node = Node::new("a").await;
    let mut subscriber = start(&node);
    let mut peer = in_room(&mut subscriber, &node).await;
    let filler = "x".repeat(60_000);
    let mut sent = 0;
    // Twice what kernel buffers of a loopback connection and the 256 events could hold between them.
    let bound = 2 * (256 + 16 * 1024 * 1024 / filler.len());
    loop {
        let frame = json!({"type": "push", "target": "all", "message_id": sent.to_string(),
            "content": {"type": "TEXT", "data": filler}});
        match timeout(Duration::from_millis(500), peer.socket.send(Message::text(frame.to_string()))).await {
            Ok(result) => result.unwrap(),
            Err(_) => break,
        }
        sent += 1;
        assert!(sent < bound, "the subscriber reads without end");
    }
    let flush = async { peer.socket.flush().await.unwrap() };
    let read = async {
        for expected in 0..sent {
            assert_eq!(next_push(&mut subscriber).await, expected.to_string());
        }
    };
    tokio::join!(flush, read);
}

#[tokio::test(start_paused = true)]
async fn a_silent_node_is_asked_and_then_given_up() {
    let node = Node::new("a").await;
    let mut subscriber = start(&node);
    let mut peer = in_room(&mut subscriber, &node).await;
    let silence = tokio::time::Instant::now();
    let ping = peer.socket.next().await.unwrap().unwrap().into_text().unwrap();
    assert_eq!(serde_json::from_str::<Value>(&ping).unwrap()["type"], "ping");
    let lost = subscriber.next().await.unwrap();
    assert!(matches!(&lost, Event::Disconnected { code: 4003, .. }), "{lost:?}");
    assert_eq!(silence.elapsed().as_secs(), 35);
}

#[tokio::test]
async fn what_cannot_work_is_told_before_anything_is_tried() {
    let start = |url: &str| Subscriber::builder(url).user_id("u").start().unwrap_err().to_string();
    assert!(start("wss://push.example.com/ws").contains("needs TLS"));
    assert!(start("nonsense").contains("ws://host:port/ws"));
    let error = Subscriber::builder("ws://localhost:1/ws").start().unwrap_err().to_string();
    assert!(error.contains("user_id"), "{error}");
    let error = Subscriber::builder("ws://localhost:1/ws").user_id("u").room("").start().unwrap_err();
    assert!(error.to_string().contains("room_id is empty"), "{error}");
}
