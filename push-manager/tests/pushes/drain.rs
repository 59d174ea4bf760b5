//! How a push-manager ends while others are there to take over.

use push_manager::Left;
use roomcast_proto::pubsub::{
    PushOptions, PushToRoomRequest, PushToUserRequest, WatchPushRequest, push_options::Wait,
};
use roomcast_registry::{Registry, Role, State};
use roomcast_types::ServiceId;
use tokio::time::timeout;

use crate::{
    node::{DEADLINE, FakeNode},
    stage::{Stage, content},
};

fn to_blue(text: &str, options: Option<PushOptions>) -> PushToRoomRequest {
    PushToRoomRequest { room_id: "blue".into(), content: content(text), options }
}

#[tokio::test]
async fn pushes_are_taken_while_there_are_others_to_find_out() {
    let node = FakeNode::start("one").await;
    let stage = Stage::configured(&[&node], &["push_manager.drain.accept_grace=5m"]).await;
    node.room("blue", 1).await;
    let second = stage.second().await;
    // The first one knows of the second when it passes a question on to it.
    let push = PushToUserRequest { user_id: "ann".into(), content: content("x"), options: None };
    let pushed = second.client.clone().push_to_user(push).await.unwrap().into_inner();
    let question =
        WatchPushRequest { message_id: pushed.message_id, once: true, ..WatchPushRequest::default() };
    let passed_on = async { while stage.watch(question.clone()).await.is_err() {} };
    timeout(DEADLINE, passed_on).await.unwrap();
    let Stage { registry, running, mut client, .. } = stage;
    let mut draining = tokio::spawn(running.drain());
    let id = ServiceId::new("push-manager-1").unwrap();
    let is_told = async {
        while registry.get(Role::PushManager, &id).await.unwrap().unwrap().state != State::Draining {
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, is_told).await.expect("its key says that it drains");
    let taken = client.push_to_room(to_blue("taken", None)).await.expect("it takes pushes").into_inner();
    assert_eq!(taken.receipt.unwrap().outcomes["WRITTEN"], 1);
    assert!(!draining.is_finished());
    // The grace is for the other one: it ends with it.
    second.running.stop().await;
    assert_eq!(timeout(DEADLINE, &mut draining).await.unwrap().unwrap(), Left::default());
    assert!(registry.list(Role::PushManager).await.unwrap().is_empty());
}

#[tokio::test]
async fn whoever_waits_is_answered_with_what_is_known() {
    let node = FakeNode::start("one").await;
    let stage = Stage::configured(&[&node], &["push_manager.drain.settle_wait=0ms"]).await;
    node.room("blue", 1).await;
    let (mut pushing, mut watching) = (stage.client.clone(), stage.client.clone());
    let options =
        PushOptions { wait: Wait::Acked.into(), wait_ms: Some(30_000), ack: true, ..PushOptions::default() };
    let pushing = tokio::spawn(async move { pushing.push_to_room(to_blue("x", Some(options))).await });
    node.until_delivered(&["x"]).await;
    let other = PushOptions { wait: Wait::Accepted.into(), ack: true, ..PushOptions::default() };
    let other = stage.room_with("blue", "y", other).await.unwrap();
    let question = WatchPushRequest { message_id: other.message_id, ..WatchPushRequest::default() };
    let mut watch = watching.watch_push(question).await.unwrap().into_inner();
    watch.message().await.unwrap().expect("the receipt as it is");
    let left = timeout(DEADLINE, stage.running.drain()).await.unwrap();
    assert_eq!((left.cut_short, left.unanswered), (1, 0));
    let receipt = pushing.await.unwrap().expect("an answer").into_inner().receipt.unwrap();
    assert!(!receipt.complete, "nobody acknowledged: {receipt:?}");
    while watch.message().await.expect("it ends in order").is_some() {}
}
