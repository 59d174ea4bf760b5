//! One idempotency key, one push: whoever repeats it gets the same answer, and those who missed it get the message.

use roomcast_proto::pubsub::{Outcome, PushOptions, PushReply};
use roomcast_types::{Code, Fault};

use crate::{
    node::FakeNode,
    stage::{MemoryLogs, Stage},
};

fn once(key: &str) -> PushOptions {
    PushOptions { idempotency_key: key.into(), wait_ms: Some(5_000), ..PushOptions::default() }
}

#[tokio::test]
async fn a_repeat_is_the_same_push_and_goes_out_again() {
    let node = FakeNode::start("one").await;
    let stage = Stage::with(&[&node]).await;
    node.room("blue", 3).await;
    let first = stage.room_with("blue", "a", once("k")).await.unwrap();
    let second = stage.room_with("blue", "a", once("k")).await.unwrap();
    assert!(!first.duplicate && second.duplicate);
    assert_eq!(PushReply { duplicate: false, ..second }, first);
    node.until_delivered(&["a", "a"]).await;
    let [one, two] = node.deliveries().try_into().unwrap();
    assert_eq!((one.message_id, one.epoch, one.offset), (two.message_id, two.epoch, two.offset));
    // Elsewhere the key is another one.
    node.room("red", 1).await;
    assert!(!stage.room_with("red", "a", once("k")).await.unwrap().duplicate);
    assert_eq!(stage.metric("pubsub_outcomes_late_total"), 0.0);
    assert_eq!(stage.metric("pubsub_push_unaccounted"), 0.0);
}

#[tokio::test]
async fn another_message_under_a_used_key_is_refused() {
    let node = FakeNode::start("one").await;
    let stage = Stage::with(&[&node]).await;
    node.room("blue", 3).await;
    let first = stage.room_with("blue", "a", once("k")).await.unwrap();
    let fault = stage.room_with("blue", "b", once("k")).await.unwrap_err();
    assert_eq!(fault.code, Code::AlreadyExists);
    assert!(fault.message.contains(&first.message_id), "{fault}");
    node.until_delivered(&["a"]).await;
}

#[tokio::test]
async fn a_key_counts_also_where_nothing_is_logged() {
    let node = FakeNode::start("one").await;
    let stage = Stage::with(&[&node]).await;
    node.room("blue", 1).await;
    let unlogged = PushOptions { log: Some(false), ..once("k") };
    let first = stage.room_with("blue", "a", unlogged.clone()).await.unwrap();
    let second = stage.room_with("blue", "a", unlogged).await.unwrap();
    assert_eq!((second.duplicate, second.logged, &second.message_id), (true, false, &first.message_id));
    let first = stage.users_with(&["ann", "bob"], "a", once("k")).await.unwrap();
    let second = stage.users_with(&["ann", "bob"], "a", once("k")).await.unwrap();
    assert_eq!((second.duplicate, &second.message_id), (true, &first.message_id));
    let fault = stage.users_with(&["ann"], "a", once("k")).await;
    assert!(!fault.unwrap().duplicate, "one user has a log, and keys, of its own");
}

#[tokio::test]
async fn a_repeat_reaches_a_node_that_came_later_and_the_receipt_stays_that_of_the_first() {
    let (one, two) = (FakeNode::start("one").await, FakeNode::start("two").await);
    let stage = Stage::with(&[&one, &two]).await;
    one.room("blue", 1).await;
    let first = stage.room_with("blue", "a", once("k")).await.unwrap();
    two.room("blue", 2).await;
    let second = stage.room_with("blue", "a", once("k")).await.unwrap();
    two.until_delivered(&["a"]).await;
    assert_eq!((second.duplicate, second.receipt), (true, first.receipt));
}

#[tokio::test]
async fn a_repeat_of_a_push_that_nobody_walked_is_heard_by_its_own_record() {
    let node = FakeNode::start("one").await;
    let stage = Stage::with(&[&node]).await;
    node.room("blue", 1).await;
    node.withhold_outcomes(true);
    let hasty = PushOptions { wait_ms: Some(1), ..once("k") };
    let first = stage.room_with("blue", "a", hasty).await.unwrap();
    assert!(!first.receipt.unwrap().complete);
    node.tell(&first.message_id, Outcome { targets: 1, written: 1, ..Outcome::default() });
    node.withhold_outcomes(false);
    let second = stage.room_with("blue", "a", once("k")).await.unwrap();
    assert_eq!((second.message_id, second.receipt.unwrap().outcomes["WRITTEN"]), (first.message_id, 1));
}

/// Two push-managers that share their logs, with a node each; eight publishers race under one key.
#[tokio::test]
async fn publishers_that_race_under_one_key_through_two_push_managers_make_one_push() {
    let logs = MemoryLogs::default();
    let (one, two) = (FakeNode::start("one").await, FakeNode::start("two").await);
    let ids: [&[&str]; 2] = [&["push_manager.id=pm-1"], &["push_manager.id=pm-2"]];
    let first = Stage::over(&[&one], ids[0], logs.clone(), logs.all()).await;
    let second = Stage::over(&[&two], ids[1], logs.clone(), logs.all()).await;
    one.room("blue", 1).await;
    two.room("blue", 1).await;
    for round in 0..20 {
        let key = format!("k-{round}");
        let pushes = (0..8).map(|publisher| {
            let stage = if publisher % 2 == 0 { &first } else { &second };
            stage.room_with("blue", "a", once(&key))
        });
        let replies: Result<Vec<_>, Fault> =
            futures_util::future::join_all(pushes).await.into_iter().collect();
        let replies = replies.unwrap();
        assert_eq!(replies.iter().filter(|reply| !reply.duplicate).count(), 1, "one took it");
        for reply in &replies {
            let same = (&reply.message_id, &reply.epoch, reply.offset, reply.logged, &reply.degraded);
            let other = &replies[0];
            assert_eq!(same, (&other.message_id, &other.epoch, round + 1, true, &other.degraded));
            let receipt = reply.receipt.as_ref().unwrap();
            assert_eq!((receipt.targets, receipt.outcomes["WRITTEN"], receipt.complete), (1, 1, true));
        }
    }
    for stage in [&first, &second] {
        assert_eq!(stage.metric("pubsub_push_unaccounted"), 0.0);
        assert_eq!(stage.metric("pubsub_outcomes_late_total"), 0.0);
    }
}
