//! `options.offline: STORE`: a row first, then the routes; an acknowledgement takes it out.

use std::time::Duration;

use roomcast_proto::pubsub::{
    AckInboxRequest, Deliver, InboxAck, LogQuery, PushOptions, deliver, log_query::Log, push_options::Offline,
};
use roomcast_store::{Inbox, log::Stored};
use roomcast_types::{Code, Incarnation, MessageId, StoreTime, UserId};
use tokio::time::timeout;

use crate::{
    node::{DEADLINE, FakeNode},
    stage::{MemoryLogs, Stage, line},
};

fn stored() -> PushOptions {
    PushOptions { offline: Offline::Store.into(), wait_ms: Some(5_000), ..PushOptions::default() }
}

async fn inbox(stage: &Stage, user: &str) -> (Vec<Deliver>, bool) {
    inbox_after(stage, user, Vec::new(), 100).await
}

async fn inbox_after(stage: &Stage, user: &str, after_message: Vec<u8>, limit: u32) -> (Vec<Deliver>, bool) {
    let log = Some(Log::InboxUserId(user.into()));
    let query = LogQuery { log, limit, bytes_max: 1 << 20, after_message, ..LogQuery::default() };
    let answer = stage.read_log(query).await;
    (answer.messages, answer.has_more)
}

fn bytes(message_id: &str) -> Vec<u8> {
    MessageId::parse(message_id).unwrap().to_bytes().to_vec()
}

async fn acknowledge(stage: &Stage, user: &str, message_ids: Vec<Vec<u8>>) {
    let acks = vec![InboxAck { user_id: user.into(), message_ids }];
    stage.client.clone().ack_inbox(AckInboxRequest { acks }).await.unwrap();
}

#[tokio::test]
async fn a_message_waits_for_its_user_until_it_is_acknowledged() {
    let node = FakeNode::start("one").await;
    let stage = Stage::with(&[&node]).await;
    let first = stage.user_with("ann", "a", stored()).await.unwrap();
    let receipt = first.receipt.unwrap();
    assert_eq!(
        line(&receipt),
        "complete targets=1 pending=0 QUEUED_OFFLINE=1 addressed=0 unreachable=0 blind=0"
    );
    assert_eq!(receipt.users[0].outcome, "QUEUED_OFFLINE");
    let second = stage.user_with("ann", "b", stored()).await.unwrap();

    let (page, has_more) = inbox_after(&stage, "ann", Vec::new(), 1).await;
    assert!(has_more);
    let deliver = &page[0];
    assert_eq!((&deliver.message_id, deliver.ack, deliver.stored), (&first.message_id, true, true));
    assert_eq!((deliver.epoch, deliver.ttl_ms), (0, None));
    let (page, has_more) = inbox_after(&stage, "ann", bytes(&first.message_id), 1).await;
    assert_eq!((page[0].message_id.as_str(), has_more), (second.message_id.as_str(), false));

    acknowledge(&stage, "ann", vec![bytes(&first.message_id)]).await;
    acknowledge(&stage, "bob", vec![bytes(&second.message_id)]).await;
    let (left, _) = inbox(&stage, "ann").await;
    assert_eq!(left.len(), 1, "only the user's own messages go");
    assert_eq!(left[0].message_id, second.message_id);
}

#[tokio::test]
async fn who_is_there_gets_it_at_once_and_acknowledges() {
    let node = FakeNode::start("one").await;
    let stage = Stage::with(&[&node]).await;
    node.user("ann", 1).await;
    let reply = stage.user_with("ann", "a", stored()).await.unwrap();
    assert_eq!(reply.receipt.unwrap().outcomes["WRITTEN"], 1);
    assert!(node.last().stored && node.last().ack);
    assert_eq!(inbox(&stage, "ann").await.0.len(), 1, "it lies there until the acknowledgement");
}

#[tokio::test]
async fn a_full_inbox_refuses_a_push_to_one_and_not_to_others() {
    let node = FakeNode::start("one").await;
    let stage = Stage::configured(&[&node], &["log.inbox_messages=1"]).await;
    stage.user_with("ann", "a", stored()).await.unwrap();
    let fault = stage.user_with("ann", "b", stored()).await.unwrap_err();
    assert_eq!(fault.code, Code::InboxFull);
    assert_eq!(fault.message, "1 messages wait in the inbox of user ann (log.inbox_messages)");
    assert_eq!(stage.metric("pubsub_push_appends_total{result=\"new\"}"), 1.0, "nothing was done");

    let reply = stage.users_with(&["ann", "bob", "eve"], "c", stored()).await.unwrap();
    assert_eq!(reply.degraded, ["INBOX_FULL"]);
    let receipt = reply.receipt.unwrap();
    let outcomes: Vec<_> = receipt.users.iter().map(|user| user.outcome.as_str()).collect();
    assert_eq!(outcomes, ["OFFLINE", "QUEUED_OFFLINE", "QUEUED_OFFLINE"]);
    let (rows, _) = inbox(&stage, "bob").await;
    let Some(deliver::Target::Users(users)) = &rows[0].target else { panic!("{rows:?}") };
    assert_eq!(users.user_ids, ["bob"], "nobody hears who else got it");
}

#[tokio::test]
async fn an_inbox_that_is_away_refuses_and_the_excluded_get_no_row() {
    let node = FakeNode::start("one").await;
    let stage = Stage::with(&[&node]).await;
    let options = PushOptions { exclude_user_ids: vec!["bob".into()], ..stored() };
    let receipt = stage.users_with(&["ann", "bob"], "a", options).await.unwrap().receipt.unwrap();
    assert_eq!(receipt.users[1].outcome, "OFFLINE");
    assert_eq!(inbox(&stage, "bob").await.0.len(), 0);
    stage.logs.inbox.set_available(false);
    let fault = stage.user_with("ann", "b", stored()).await.unwrap_err();
    assert!(
        fault.code == Code::Unavailable && fault.message.contains("the inbox does not answer"),
        "{fault}"
    );
}

#[tokio::test]
async fn a_row_lives_as_long_as_the_push_says() {
    let node = FakeNode::start("one").await;
    let stage = Stage::with(&[&node]).await;
    stage.user_with("ann", "a", PushOptions { ttl_ms: Some(1), ..stored() }).await.unwrap();
    let day = PushOptions { ttl_ms: Some(86_400_000), ..stored() };
    let kept = stage.user_with("ann", "b", day).await.unwrap();
    tokio::time::sleep(Duration::from_millis(2)).await;
    let (rows, _) = inbox(&stage, "ann").await;
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].message_id, kept.message_id);
}

#[tokio::test]
async fn a_repeated_push_lies_in_the_inbox_once() {
    let node = FakeNode::start("one").await;
    let stage = Stage::with(&[&node]).await;
    let once = PushOptions { idempotency_key: "k".into(), ..stored() };
    let first = stage.user_with("ann", "a", once.clone()).await.unwrap();
    let second = stage.user_with("ann", "a", once).await.unwrap();
    assert_eq!((&second.message_id, second.duplicate), (&first.message_id, true));
    assert_eq!(second.receipt.unwrap().outcomes["QUEUED_OFFLINE"], 1);
    assert_eq!(inbox(&stage, "ann").await.0.len(), 1);
}

#[tokio::test]
async fn what_expired_in_an_inbox_is_swept() {
    let logs = MemoryLogs::default();
    let user = UserId::new("ann").unwrap();
    let message_id = MessageId::new(1, Incarnation::random(), 1);
    let expires_at = StoreTime::from_millis(1_000);
    let message = Stored { message_id, payload: Vec::new().into(), expires_at };
    let past = StoreTime::from_millis(0);
    logs.inbox.put(std::slice::from_ref(&user), &message, 10, past).await.unwrap();
    // A push-manager sweeps when it starts.
    let _stage = Stage::over(&[], &[], logs.clone(), logs.all()).await;
    let swept = async {
        while !logs.inbox.list(&user, None, 10, u64::MAX, past).await.unwrap().0.is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(DEADLINE, swept).await.expect("it goes unread");
}
