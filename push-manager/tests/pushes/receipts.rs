//! Receipts say exactly what happened.

use std::time::Duration;

use roomcast_proto::pubsub::{Outcome, PushToRoomRequest, SessionOutcome, deliver, session_outcome::Kind};
use roomcast_types::{Code, MessageId};
use tonic::Request;

use crate::{
    node::FakeNode,
    stage::{Stage, content, line},
};

#[tokio::test]
async fn a_push_to_a_room_counts_every_session_on_every_node() {
    let (one, two, three) =
        (FakeNode::start("one").await, FakeNode::start("two").await, FakeNode::start("three").await);
    let stage = Stage::with(&[&one, &two, &three]).await;
    one.room("blue", 2).await;
    two.room("blue", 1).await;
    three.room("red", 5).await;
    let receipt = stage.room("blue", "hello").await;
    assert_eq!(line(&receipt), "complete targets=3 pending=0 WRITTEN=3 addressed=2 unreachable=0 blind=0");
    one.until_delivered(&["hello"]).await;
    two.until_delivered(&["hello"]).await;
    assert!(three.delivered().is_empty(), "a node without members gets nothing");
    assert!(receipt.users.is_empty());
}

#[tokio::test]
async fn every_outcome_of_a_node_is_in_the_receipt() {
    let node = FakeNode::start("one").await;
    let stage = Stage::with(&[&node]).await;
    node.room("blue", 9).await;
    node.answer(Outcome {
        written: 1,
        pending: 2,
        filtered: 3,
        dropped_slow: 4,
        closed: 5,
        ..Outcome::default()
    });
    let receipt = stage.room("blue", "x").await;
    assert_eq!(
        line(&receipt),
        "complete targets=15 pending=2 CLOSED=5 DROPPED_SLOW=4 FILTERED=3 WRITTEN=1 addressed=1 unreachable=0 blind=0"
    );
    assert_eq!(stage.metric("pubsub_push_targets_total{outcome=\"DROPPED_SLOW\"}"), 4.0);
    assert_eq!(stage.metric("pubsub_push_targets_total{outcome=\"PENDING\"}"), 2.0);
    assert_eq!(stage.metric("pubsub_push_requests_total{target=\"room\",code=\"OK\"}"), 1.0);
}

#[tokio::test]
async fn a_user_without_a_session_is_offline_and_a_success() {
    let node = FakeNode::start("one").await;
    let stage = Stage::with(&[&node]).await;
    let receipt = stage.user("nobody", "x").await;
    assert_eq!(line(&receipt), "complete targets=1 pending=0 OFFLINE=1 addressed=0 unreachable=0 blind=0");
    assert_eq!(receipt.users[0].outcome, "OFFLINE");
    assert!(node.delivered().is_empty());
}

#[tokio::test]
async fn each_node_gets_its_own_users_and_the_receipt_joins_their_sessions() {
    let (one, two) = (FakeNode::start("one").await, FakeNode::start("two").await);
    let stage = Stage::with(&[&one, &two]).await;
    one.user("ann", 2).await;
    two.user("ann", 1).await;
    two.user("bob", 1).await;
    let receipt = stage.users(&["bob", "eve", "ann"], "x").await;
    assert_eq!(
        line(&receipt),
        "complete targets=5 pending=0 OFFLINE=1 WRITTEN=4 addressed=2 unreachable=0 blind=0"
    );
    let users: Vec<_> = receipt
        .users
        .iter()
        .map(|user| {
            let mut nodes: Vec<_> = user.sessions.iter().map(|session| session.node_id.as_str()).collect();
            nodes.sort_unstable();
            (user.user_id.as_str(), user.outcome.as_str(), nodes)
        })
        .collect();
    assert_eq!(
        users,
        [
            ("bob", "WRITTEN", vec!["two"]),
            ("eve", "OFFLINE", vec![]),
            ("ann", "WRITTEN", vec!["one", "one", "two"])
        ]
    );
    let Some(deliver::Target::Users(named)) = one.last().target else { panic!("{:?}", one.last()) };
    assert_eq!(named.user_ids, ["ann"]);
}

#[tokio::test]
async fn a_session_that_is_slow_leaves_its_user_pending() {
    let node = FakeNode::start("one").await;
    let stage = Stage::with(&[&node]).await;
    node.user("ann", 1).await;
    let session = SessionOutcome { user: 0, session_id: vec![7; 16].into(), kind: Kind::Pending.into() };
    node.answer(Outcome { targets: 1, pending: 1, sessions: vec![session], ..Outcome::default() });
    let receipt = stage.user("ann", "x").await;
    assert_eq!(line(&receipt), "complete targets=1 pending=1  addressed=1 unreachable=0 blind=0");
    assert_eq!(receipt.users[0].outcome, "PENDING");
    assert_eq!(receipt.users[0].sessions[0].session_id, "07".repeat(16));
}

#[tokio::test]
async fn a_broadcast_goes_to_every_node_that_holds_somebody() {
    let (one, two, empty) =
        (FakeNode::start("one").await, FakeNode::start("two").await, FakeNode::start("empty").await);
    let stage = Stage::with(&[&one, &two, &empty]).await;
    one.user("ann", 2).await;
    two.user("bob", 1).await;
    let receipt = stage.all("x", &["eve"]).await;
    assert_eq!(line(&receipt), "complete targets=3 pending=0 WRITTEN=3 addressed=2 unreachable=0 blind=0");
    assert!(empty.delivered().is_empty());
    assert_eq!(one.last().exclude_user_ids, ["eve"]);
}

#[tokio::test]
async fn a_node_that_does_not_answer_in_time_leaves_the_receipt_incomplete() {
    let (one, two) = (FakeNode::start("one").await, FakeNode::start("two").await);
    let stage = Stage::configured(&[&one, &two], &["push_manager.wait=100ms"]).await;
    one.room("blue", 2).await;
    two.room("blue", 3).await;
    two.withhold_outcomes(true);
    let receipt = stage.room("blue", "x").await;
    assert_eq!(line(&receipt), "incomplete targets=5 pending=3 WRITTEN=2 addressed=2 unreachable=0 blind=0");
}

#[tokio::test]
async fn the_answer_comes_before_the_callers_own_deadline() {
    let node = FakeNode::start("one").await;
    let stage = Stage::configured(&[&node], &["push_manager.wait=30s"]).await;
    node.room("blue", 1).await;
    node.withhold_outcomes(true);
    let mut request =
        Request::new(PushToRoomRequest { room_id: "blue".into(), content: content("x"), options: None });
    request.set_timeout(Duration::from_secs(1));
    let reply = stage.client.clone().push_to_room(request).await.unwrap().into_inner();
    assert_eq!(
        line(&reply.receipt.unwrap()),
        "incomplete targets=1 pending=1  addressed=1 unreachable=0 blind=0"
    );
}

#[tokio::test]
async fn message_ids_grow_and_name_their_push_manager() {
    let node = FakeNode::start("one").await;
    let stage = Stage::with(&[&node]).await;
    node.room("blue", 1).await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(stage.push_to_room("blue", "x").await.unwrap().message_id);
        assert_eq!(node.last().message_id, *ids.last().unwrap());
    }
    let distinct: std::collections::HashSet<_> = ids.iter().collect();
    assert_eq!(distinct.len(), 5);
    let id = MessageId::parse(&ids[0]).unwrap();
    assert_eq!(id.instance(), stage.running.incarnation().as_u64() as u32);
    assert!(id.unix_ms().abs_diff(node.last().timestamp_ms as u64) < 60_000);
}

#[tokio::test]
async fn a_sampled_trace_goes_on_to_the_node() {
    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let node = FakeNode::start("one").await;
    let stage = Stage::with(&[&node]).await;
    node.room("blue", 1).await;
    let mut request =
        Request::new(PushToRoomRequest { room_id: "blue".into(), content: content("x"), options: None });
    request.metadata_mut().insert("traceparent", PARENT.parse().unwrap());
    stage.client.clone().push_to_room(request).await.unwrap();
    assert_eq!(node.last().traceparent, PARENT);
    stage.room("blue", "y").await;
    assert_eq!(node.last().traceparent, "");
}

#[tokio::test]
async fn content_that_is_too_large_is_refused_before_anything_is_sent() {
    let node = FakeNode::start("one").await;
    let stage = Stage::configured(&[&node], &["limits.push_bytes_max=8B"]).await;
    node.room("blue", 1).await;
    assert_eq!(stage.push_to_room("blue", "123456789").await.unwrap_err().code, Code::TooLarge);
    assert!(stage.push_to_room("blue", "12345678").await.is_ok());
    node.until_delivered(&["12345678"]).await;
    assert_eq!(stage.metric("pubsub_push_requests_total{target=\"room\",code=\"TOO_LARGE\"}"), 1.0);
}
