//! Members of a DURABLE room who are not there are targets, too; asking for them delays nobody.

use roomcast_proto::pubsub::{PushOptions, RoomCard, WatchPushRequest, push_options::Wait, room_card::State};
use tokio::time::timeout;

use crate::{
    controller::card,
    node::{DEADLINE, FakeNode},
    stage::{Stage, line},
};

fn waiting(wait: Wait, wait_ms: u32) -> PushOptions {
    PushOptions { wait: wait.into(), wait_ms: Some(wait_ms), ..PushOptions::default() }
}

#[tokio::test]
async fn absent_members_of_a_durable_room_are_offline() {
    let node = FakeNode::start("one").await;
    let stage = Stage::with(&[&node]).await;
    stage.controller.add_durable_room("blue", 13, 3);
    node.durable_room("blue", 4).await;
    let reply = stage.push_to_room("blue", "x").await.unwrap();
    assert_eq!(
        line(&reply.receipt.unwrap()),
        "complete targets=14 pending=0 OFFLINE=10 WRITTEN=4 addressed=1 unreachable=0 blind=0"
    );
    assert!(reply.degraded.is_empty());
    let later = stage.now(&reply.message_id).await.receipt.unwrap();
    assert_eq!((later.targets, later.outcomes.get("OFFLINE")), (14, Some(&10)));
}

#[tokio::test]
async fn a_durable_room_with_nobody_in_it_counts_its_members() {
    let stage = Stage::with(&[]).await;
    stage.controller.add_durable_room("blue", 7, 0);
    for push in 1..=2 {
        let receipt = stage.room("blue", "x").await;
        assert_eq!(
            line(&receipt),
            "complete targets=7 pending=0 OFFLINE=7 addressed=0 unreachable=0 blind=0",
            "push {push}"
        );
    }
}

#[tokio::test]
async fn a_room_whose_seats_follow_its_sessions_asks_nobody() {
    let node = FakeNode::start("one").await;
    let stage = Stage::with(&[&node]).await;
    stage.controller.add_room("blue");
    node.room("blue", 4).await;
    for _ in 0..3 {
        stage.room("blue", "x").await;
    }
    assert_eq!(stage.controller.questions(), 0);
}

#[tokio::test]
async fn a_card_that_a_controller_told_outranks_the_one_of_the_route() {
    let node = FakeNode::start("one").await;
    let stage = Stage::with(&[&node]).await;
    stage.controller.add_durable_room("blue", 5, 4);
    node.room("blue", 4).await;
    let durable = RoomCard { membership: 1, ..card("blue", 2, State::Active) };
    stage.room_changed(durable).await;
    assert_eq!(stage.room("blue", "x").await.outcomes.get("OFFLINE"), Some(&1));
}

#[tokio::test]
async fn a_fast_publisher_does_not_multiply_questions_and_a_join_asks_anew() {
    let node = FakeNode::start("one").await;
    let stage = Stage::with(&[&node]).await;
    stage.controller.add_durable_room("blue", 13, 3);
    node.durable_room("blue", 3).await;
    stage.controller.mute();
    let pushes: Vec<_> = (0..50).map(|_| stage.room("blue", "x")).collect();
    let pushes = futures_util::future::join_all(pushes);
    let answer = async {
        node.until_delivered(&["x"; 50]).await;
        stage.controller.unmute();
    };
    let (receipts, ()) = tokio::join!(pushes, answer);
    assert!(receipts.iter().all(|receipt| receipt.outcomes.get("OFFLINE") == Some(&10)));
    assert_eq!(stage.controller.questions(), 1);

    stage.controller.add_durable_room("blue", 13, 4);
    node.durable_room("blue", 4).await;
    let receipt = stage.room("blue", "y").await;
    assert_eq!((receipt.targets, receipt.outcomes.get("OFFLINE")), (13, Some(&9)));
}

#[tokio::test]
async fn no_answer_is_named_and_leaves_them_out() {
    let node = FakeNode::start("one").await;
    let stage = Stage::with(&[&node]).await;
    stage.controller.add_durable_room("blue", 13, 3);
    node.durable_room("blue", 3).await;
    stage.controller.mute();
    let reply = stage.push_to_room("blue", "x").await.unwrap();
    assert_eq!(reply.degraded, ["OFFLINE_UNKNOWN"]);
    assert_eq!(
        line(&reply.receipt.unwrap()),
        "complete targets=3 pending=0 WRITTEN=3 addressed=1 unreachable=0 blind=0"
    );
    assert_eq!(stage.now(&reply.message_id).await.degraded, ["OFFLINE_UNKNOWN"]);
}

#[tokio::test]
async fn without_presence_nobody_is_taken_for_absent() {
    let node = FakeNode::start("one").await;
    let stage = Stage::with(&[&node]).await;
    stage.controller.add_durable_room("blue", 13, 0);
    stage.controller.lose_presence();
    node.durable_room("blue", 3).await;
    let reply = stage.push_to_room("blue", "x").await.unwrap();
    assert_eq!((reply.degraded, reply.receipt.unwrap().targets), (vec!["OFFLINE_UNKNOWN".to_owned()], 3));
}

#[tokio::test]
async fn a_controller_that_is_slow_delays_neither_delivery_nor_a_push_that_does_not_wait() {
    let node = FakeNode::start("one").await;
    let stage = Stage::with(&[&node]).await;
    stage.controller.add_durable_room("blue", 13, 3);
    node.durable_room("blue", 3).await;
    stage.controller.mute();
    let reply = stage.room_with("blue", "x", waiting(Wait::Accepted, 30_000)).await.unwrap();
    assert!(reply.degraded.is_empty(), "it is filled in later");
    assert!(!reply.receipt.unwrap().outcomes.contains_key("OFFLINE"));
    node.until_delivered(&["x"]).await;
    assert!(!stage.now(&reply.message_id).await.receipt.unwrap().complete, "it may still change");
    stage.controller.unmute();
    let request = WatchPushRequest { message_id: reply.message_id, ..WatchPushRequest::default() };
    let last = stage.watch(request).await.unwrap().pop().unwrap();
    assert_eq!(last.receipt.unwrap().outcomes.get("OFFLINE"), Some(&10));
}

#[tokio::test]
async fn a_wait_that_runs_out_first_says_that_they_are_not_known_yet() {
    let node = FakeNode::start("one").await;
    let stage = Stage::with(&[&node]).await;
    stage.controller.add_durable_room("blue", 13, 3);
    node.durable_room("blue", 3).await;
    stage.controller.mute();
    let push = stage.room_with("blue", "x", waiting(Wait::Written, 20));
    let reply = timeout(DEADLINE, push).await.unwrap().unwrap();
    assert_eq!(
        (reply.degraded, reply.receipt.unwrap().complete),
        (vec!["OFFLINE_UNKNOWN".to_owned()], false)
    );
}
