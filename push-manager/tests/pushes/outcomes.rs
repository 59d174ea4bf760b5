//! How far a push gets before its answer, and what becomes of it afterwards.

use std::time::Duration;

use roomcast_proto::pubsub::{Outcome, PushOptions, Receipt, WatchPushRequest, push_options::Wait};
use roomcast_types::{Code, Incarnation, MessageId};
use tokio::time::timeout;

use crate::{
    node::{DEADLINE, FakeNode},
    stage::{Stage, line},
};

const MANY_ECHOES: [&str; 2] = ["push_manager.lane_ping_interval=20ms", "push_manager.lane_trust=500ms"];

fn waiting(wait: Wait, wait_ms: u32) -> PushOptions {
    PushOptions { wait: wait.into(), wait_ms: Some(wait_ms), ..PushOptions::default() }
}

fn watching(message_id: &str, until: Option<Wait>) -> WatchPushRequest {
    WatchPushRequest { message_id: message_id.into(), until: until.map(Into::into), once: false }
}

fn written(written: u64, pending: u64) -> Outcome {
    Outcome { targets: written + pending, written, pending, ..Outcome::default() }
}

/// Three sessions of a room on one node that answers as told.
async fn stage(first: Outcome, sets: &[&str]) -> (FakeNode, Stage) {
    let node = FakeNode::start("one").await;
    let stage = Stage::configured(&[&node], sets).await;
    node.room("blue", 3).await;
    node.answer(first);
    (node, stage)
}

fn said(receipt: &Receipt) -> String {
    let all = line(receipt);
    format!("{} {}", receipt.level, all.split(" addressed").next().unwrap())
}

#[tokio::test]
async fn accepted_waits_for_nothing() {
    let (node, stage) = stage(written(3, 0), &[]).await;
    node.withhold_outcomes(true);
    let push = stage.room_with("blue", "x", waiting(Wait::Accepted, 30_000));
    let reply = timeout(Duration::from_secs(20), push).await.unwrap().unwrap();
    assert_eq!(said(&reply.receipt.unwrap()), "ACCEPTED complete targets=3 pending=3 ");
    node.until_delivered(&["x"]).await;
}

#[tokio::test]
async fn written_does_not_wait_for_a_slow_reader_and_settled_does() {
    let (node, stage) = stage(written(2, 1), &[]).await;
    let reply = stage.room_with("blue", "x", waiting(Wait::Written, 30_000)).await.unwrap();
    assert_eq!(said(&reply.receipt.unwrap()), "WRITTEN complete targets=3 pending=1 WRITTEN=2");
    let push = stage.room_with("blue", "y", waiting(Wait::Settled, 30_000));
    let catch_up = async {
        node.until_delivered(&["x", "y"]).await;
        node.tell(&node.last().message_id, written(3, 0));
    };
    let (reply, ()) = tokio::join!(push, catch_up);
    assert_eq!(said(&reply.unwrap().receipt.unwrap()), "SETTLED complete targets=3 pending=0 WRITTEN=3");
}

#[tokio::test]
async fn acked_waits_for_every_client_and_is_incomplete_without_an_error_when_one_stays_silent() {
    let (node, stage) = stage(written(3, 0), &[]).await;
    let push = stage.room_with("blue", "x", waiting(Wait::Acked, 30_000));
    let confirm = async {
        node.until_delivered(&["x"]).await;
        assert!(node.last().ack, "the level asks for acknowledgements");
        for acked in 1..=3 {
            node.tell(&node.last().message_id, Outcome { acked, ..written(3 - acked, 0) });
        }
    };
    let (reply, ()) = tokio::join!(push, confirm);
    assert_eq!(said(&reply.unwrap().receipt.unwrap()), "ACKED complete targets=3 pending=0 ACKED=3");

    node.answer(Outcome { acked: 1, ..written(2, 0) });
    let reply = stage.room_with("blue", "y", waiting(Wait::Acked, 40)).await.unwrap();
    assert_eq!(said(&reply.receipt.unwrap()), "ACKED incomplete targets=3 pending=0 ACKED=1 WRITTEN=2");
}

#[tokio::test]
async fn a_reader_that_catches_up_and_a_session_that_ends_change_the_receipt_after_its_answer() {
    let (node, stage) = stage(written(1, 2), &[]).await;
    let id = stage.push_to_room("blue", "x").await.unwrap().message_id;
    let watch = stage.watch(watching(&id, None));
    let change = async {
        node.tell(&id, written(2, 1));
        stage.until_receipt(&id, |receipt| receipt.pending == 1).await;
        node.tell(&id, Outcome { closed: 1, ..written(2, 0) });
    };
    let (replies, ()) = tokio::join!(watch, change);
    let replies = replies.unwrap();
    let lines: Vec<_> = replies.iter().map(|reply| said(reply.receipt.as_ref().unwrap())).collect();
    assert_eq!(lines.last().unwrap(), "SETTLED complete targets=3 pending=0 CLOSED=1 WRITTEN=2");
    assert!(
        lines.iter().rev().skip(1).all(|line| line.starts_with("SETTLED incomplete targets=3")),
        "{lines:?}"
    );
    assert!(replies.iter().all(|reply| reply.message_id == id && reply.degraded.is_empty()));
    assert!(replies.is_sorted_by_key(|reply| reply.age_ms));
}

#[tokio::test]
async fn a_watch_of_a_push_with_acknowledgements_ends_with_the_last_of_them() {
    let (node, stage) = stage(written(3, 0), &[]).await;
    let options = PushOptions { ack: true, ..PushOptions::default() };
    let id = stage.room_with("blue", "x", options).await.unwrap().message_id;
    let settled = stage.watch(watching(&id, Some(Wait::Settled))).await.unwrap();
    assert_eq!(settled.len(), 1, "nothing is pending");
    let confirm = async { node.tell(&id, Outcome { acked: 3, ..written(0, 0) }) };
    let (replies, ()) = tokio::join!(stage.watch(watching(&id, None)), confirm);
    let last = replies.unwrap().pop().unwrap().receipt.unwrap();
    assert_eq!(said(&last), "ACKED complete targets=3 pending=0 ACKED=3");
}

#[tokio::test]
async fn what_is_pending_on_a_node_that_dies_is_lost_and_what_was_final_stands() {
    let (node, stage) = stage(written(1, 2), &[]).await;
    let options = PushOptions { ack: true, ..PushOptions::default() };
    let id = stage.room_with("blue", "x", options).await.unwrap().message_id;
    let watch = stage.watch(watching(&id, None));
    let (replies, _) = tokio::join!(watch, node.kill());
    // It can change no more, and the client that got it never confirms: the watch ends nevertheless.
    let last = replies.unwrap().pop().unwrap().receipt.unwrap();
    assert_eq!(said(&last), "ACKED incomplete targets=3 pending=0 NODE_LOST=2 WRITTEN=1");
}

#[tokio::test]
async fn outcomes_that_come_after_the_message_was_given_up_are_late_and_change_nothing() {
    let sets = [&MANY_ECHOES[..], &["push_manager.lane_deadline=300ms"]].concat();
    let (node, stage) = stage(written(1, 2), &sets).await;
    node.withhold_acks(true);
    let id = stage.push_to_room("blue", "x").await.unwrap().message_id;
    stage.until_receipt(&id, |receipt| receipt.pending == 0).await;
    node.tell(&id, written(3, 0));
    stage.until_metric("pubsub_outcomes_late_total", |late| late == 1.0).await;
    let receipt = stage.now(&id).await.receipt.unwrap();
    assert_eq!(said(&receipt), "SETTLED complete targets=3 pending=0 NODE_LOST=2 WRITTEN=1");
}

#[tokio::test]
async fn a_receipt_past_its_time_is_not_found_and_the_answer_says_why() {
    let (_node, stage) = stage(written(3, 0), &["push_manager.receipt_ttl=1s"]).await;
    let id = stage.push_to_room("blue", "x").await.unwrap().message_id;
    assert_eq!(stage.metric("pubsub_push_receipts_kept"), 1.0);
    stage.until_metric("pubsub_push_receipts_forgotten_total{reason=\"age\"}", |count| count == 1.0).await;
    let fault = stage.watch(watching(&id, None)).await.unwrap_err();
    assert_eq!(fault.code, Code::NotFound);
    assert!(fault.message.contains("forgotten (kept for 1s"), "{}", fault.message);
    assert_eq!(stage.metric("pubsub_push_receipts_kept"), 0.0);
    assert_eq!(stage.metric("pubsub_push_receipts_kept_bytes"), 0.0);
}

#[tokio::test]
async fn receipts_that_take_too_much_memory_go_the_oldest_first() {
    let (_node, stage) = stage(written(3, 0), &["push_manager.receipt_bytes=64KiB"]).await;
    let mut ids = Vec::new();
    let forgotten = "pubsub_push_receipts_forgotten_total{reason=\"memory\"}";
    while ids.len() < 10_000 && stage.metric(forgotten) < 3.0 {
        ids.push(stage.push_to_room("blue", "x").await.unwrap().message_id);
    }
    assert!(stage.metric("pubsub_push_receipts_kept_bytes") <= 65_536.0);
    assert_eq!(stage.metric("pubsub_push_receipts_kept"), ids.len() as f64 - stage.metric(forgotten));
    assert_eq!(stage.watch(watching(&ids[0], None)).await.unwrap_err().code, Code::NotFound);
    stage.now(ids.last().unwrap()).await;
}

#[tokio::test]
async fn a_watch_with_a_mistake_is_refused_with_its_field() {
    let (_node, stage) = stage(written(3, 0), &[]).await;
    let id = stage.push_to_room("blue", "x").await.unwrap().message_id;
    let unknown_level = WatchPushRequest { until: Some(9), ..watching(&id, None) };
    let never = MessageId::new(1, stage.running.incarnation(), 1).to_string();
    for (request, code, says) in [
        (watching("x", None), Code::BadRequest, "message_id is none of ours"),
        (unknown_level, Code::BadRequest, "until 9 is unknown"),
        (watching(&never, None), Code::NotFound, "is not known"),
    ] {
        let fault = stage.watch(request).await.unwrap_err();
        assert!(fault.code == code && fault.message.contains(says), "{fault}");
    }
    for (options, says) in [
        (PushOptions { wait: 9, ..PushOptions::default() }, "options.wait 9 is unknown"),
        (waiting(Wait::Settled, 0), "options.wait_ms is 0; it takes 1 to 30000"),
        (waiting(Wait::Settled, 30_001), "options.wait_ms is 30001"),
    ] {
        let fault = stage.room_with("blue", "x", options).await.unwrap_err();
        assert!(fault.code == Code::BadRequest && fault.message.starts_with(says), "{fault}");
    }
}

#[tokio::test]
async fn any_push_manager_answers_for_any_other() {
    let stage = Stage::with(&[]).await;
    stage.controller.add_durable_room("blue", 7, 0);
    stage.room("blue", "the card is known").await;
    let second = stage.second().await;
    stage.controller.mute();
    let id = stage.room_with("blue", "x", waiting(Wait::Accepted, 1)).await.unwrap().message_id;
    let replies = second.watch(watching(&id, None));
    let answer = async {
        second.until_receipt(&id, |receipt| !receipt.complete).await;
        stage.controller.unmute();
    };
    let (replies, ()) = timeout(DEADLINE, async { tokio::join!(replies, answer) }).await.unwrap();
    let last = replies.unwrap().pop().unwrap();
    assert_eq!(said(&last.receipt.unwrap()), "SETTLED complete targets=7 pending=0 OFFLINE=7");

    // The error of the one that took it is passed on as well.
    let never = MessageId::new(1, stage.running.incarnation(), 1).to_string();
    assert_eq!(second.watch(watching(&never, None)).await.unwrap_err().code, Code::NotFound);
}

#[tokio::test]
async fn receipts_go_with_the_push_manager_that_took_the_push() {
    let stage = Stage::with(&[]).await;
    let nobody = MessageId::new(1, Incarnation::random(), 1).to_string();
    let fault = stage.watch(watching(&nobody, None)).await.unwrap_err();
    assert_eq!(fault.code, Code::NotFound);
    assert!(fault.message.contains("is gone, and its receipts with it"), "{}", fault.message);

    // Registered, and silent: a frozen process. It is told apart from one that is gone.
    let frozen = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let incarnation = stage.register_push_manager("frozen", frozen.local_addr().unwrap()).await;
    let id = MessageId::new(1, incarnation, 1).to_string();
    let fault = timeout(DEADLINE, stage.watch(watching(&id, None))).await.unwrap().unwrap_err();
    assert_eq!(fault.code, Code::Unavailable);
    assert!(fault.message.contains("does not answer"), "{}", fault.message);
    drop(frozen);
}

#[tokio::test]
async fn a_question_is_passed_on_once() {
    let stage = Stage::with(&[]).await;
    // It is registered under another incarnation at our own address: it would ask itself for ever.
    let incarnation = stage.register_push_manager("echo", stage.running.grpc_address()).await;
    let id = MessageId::new(1, incarnation, 1).to_string();
    let fault = timeout(DEADLINE, stage.watch(watching(&id, None))).await.unwrap().unwrap_err();
    assert_eq!(fault.code, Code::NotFound);
}

#[tokio::test]
async fn without_a_registry_a_foreign_message_is_unavailable_and_an_own_one_is_found() {
    let stage = Stage::with(&[]).await;
    let own = stage.user("nobody", "x").await;
    assert!(own.complete);
    stage.registry.set_available(false);
    let foreign = MessageId::new(1, Incarnation::random(), 1).to_string();
    // A list that is a moment old still counts.
    let refused = async {
        loop {
            let fault = stage.watch(watching(&foreign, None)).await.unwrap_err();
            if fault.code == Code::Unavailable {
                return fault;
            }
        }
    };
    let fault = timeout(DEADLINE, refused).await.unwrap();
    assert!(fault.message.contains("the registry is away"), "{}", fault.message);
}
