//! Receipts say exactly what happened.

use crate::{
    node::FakeNode,
    stage::{Stage, line},
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
    assert_eq!((one.delivered(), two.delivered()), (vec!["hello".to_owned()], vec!["hello".to_owned()]));
    assert!(three.delivered().is_empty(), "a node without members gets nothing");
    assert!(receipt.users.is_empty());
}
