//! What a shard says of the recent past: who was there, and what became of each message for them.

use std::sync::Arc;

use connect_node::ports::{CloseCode, Inspection, LeftReason, Question, SessionKey, ToShard};
use roomcast_proto::pubsub::InspectReply;
use roomcast_types::{RoomId, UserId};
use serde_json::json;
use tokio::sync::oneshot;

use crate::fixture::{Node, counts, until, within};

async fn ask(node: &Node, question: Question, sessions: Vec<SessionKey>) -> InspectReply {
    let (answer, answered) = oneshot::channel();
    let question = Arc::new(Question { last: 100, ..question });
    node.send(0, ToShard::Inspect(Inspection { question, sessions, answer })).await;
    within("the answer", answered).await.unwrap()
}

async fn about_user(node: &Node, user: &str, sessions: Vec<SessionKey>) -> InspectReply {
    ask(node, Question { user: Some(UserId::new(user).unwrap()), ..Question::default() }, sessions).await
}

/// What became of the messages for the only session asked about, newest first.
fn fates(reply: &InspectReply) -> Vec<&str> {
    let of = |message: &'_ roomcast_proto::pubsub::NodeMessage| message.sessions.len();
    assert!(reply.messages.iter().all(|message| of(message) == 1), "{reply:?}");
    reply.messages.iter().map(|message| message.sessions[0].outcome.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_message_of_a_room_is_told_by_when_the_session_was_in_it() {
    let node = Node::start().await;
    let _first = node.member("user_id=first&room_id=r").await;
    counts(node.push("r", "before she joined").await).await;
    let mut ann = node.member("user_id=ann&room_id=r").await;
    let key = node.hub.session("ann").await.key;
    counts(node.push("r", "while she is there").await).await;
    counts(node.push_except("r", "not for her", &["ann"]).await).await;
    counts(node.push("elsewhere", "of no concern").await).await;
    counts(node.push_all("to all").await).await;
    counts(node.push_sessions(vec![(key, 0)], "to her").await).await;
    ann.send(json!({"type": "leave", "id": 1, "room_id": "r"})).await;
    while ann.json().await["type"] != "left" {}
    counts(node.push("r", "after she left").await).await;

    let reply = about_user(&node, "ann", vec![key]).await;
    assert_eq!(
        fates(&reply),
        ["LEFT_BEFORE", "WRITTEN", "WRITTEN", "FILTERED", "WRITTEN", "JOINED_AFTER"],
        "{reply:?}"
    );
    let targets: Vec<_> = reply.messages.iter().map(|message| message.target.as_str()).collect();
    assert_eq!(targets, ["ROOM", "USERS", "ALL", "ROOM", "ROOM", "ROOM"]);
    let filtered = &reply.messages[3].outcomes;
    assert_eq!((filtered.get("FILTERED"), filtered.get("WRITTEN")), (Some(&1), Some(&1)));
    assert_eq!((reply.left[0].room_id.as_str(), reply.left[0].reason.as_str()), ("r", "LEFT"));
    assert_eq!((reply.sessions[0].phase.as_str(), reply.sessions[0].rooms.len()), ("open", 0));

    node.close(key, CloseCode::Kicked).await;
    node.hub.until_closed(key).await;
    counts(node.push("r", "after her end").await).await;
    let reply = about_user(&node, "ann", vec![]).await;
    assert_eq!((reply.sessions.len(), reply.ended[0].close_code), (0, 4501), "{reply:?}");
    assert_eq!(fates(&reply)[..2], ["ENDED_BEFORE", "LEFT_BEFORE"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_is_told_from_one_that_got_everything() {
    let node = Node::start().await;
    let mut reader = node.member("user_id=reader&room_id=r").await;
    let slow = node.member("user_id=slow&room_id=r").await;
    let key = node.hub.session("slow").await.key;
    let large = "x".repeat(60_000);
    while counts(node.push("r", &large).await).await.pending == 0 {
        reader.pushed().await;
    }
    reader.pushed().await;
    let reply = about_user(&node, "slow", vec![key]).await;
    assert_eq!(fates(&reply)[..2], ["PENDING", "WRITTEN"], "{reply:?}");
    let session = &reply.sessions[0];
    assert!(session.queued_frames == 1 && session.queued_bytes > 0, "{session:?}");
    let room = Question { room: Some(RoomId::new("r").unwrap()), ..Question::default() };
    let reply = ask(&node, room, vec![]).await;
    assert_eq!((reply.sessions_total, reply.messages[0].sessions.len()), (2, 0), "{reply:?}");

    while counts(node.push("r", &large).await).await.dropped_slow == 0 {
        reader.pushed().await;
    }
    node.hub.until_closed(key).await;
    let reply = about_user(&node, "slow", vec![]).await;
    assert_eq!(reply.ended[0].close_code, 4002, "{reply:?}");
    assert_eq!(fates(&reply)[0], "DROPPED_SLOW");
    assert_eq!(fates(&reply).last(), Some(&"WRITTEN"), "what the kernel took stays so");
    drop(slow);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_was_removed_from_a_room_says_why() {
    let node = Node::start().await;
    let mut ann = node.member("user_id=ann&room_id=r").await;
    let session = node.hub.session("ann").await.key;
    let room = RoomId::new("r").unwrap();
    let reason = LeftReason::Kicked;
    node.send(0, ToShard::Left { session, request: None, room, reason }).await;
    assert_eq!(ann.json().await["type"], "left");
    let reply = about_user(&node, "ann", vec![session]).await;
    assert_eq!(reply.left[0].reason, "KICKED", "{reply:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_round_trip_is_that_of_the_last_ping() {
    let node = Node::with(|setup| setup.config.ping_interval = std::time::Duration::from_millis(100)).await;
    let mut ann = node.member("user_id=ann").await;
    let key = node.hub.session("ann").await.key;
    let reading = tokio::spawn(async move { ann.until_close().await });
    within("a pong", async {
        while about_user(&node, "ann", vec![key]).await.sessions[0].rtt_ms.is_none() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
    node.close(key, CloseCode::Kicked).await;
    until("the end", || reading.is_finished()).await;
}
