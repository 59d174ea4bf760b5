//! What is logged, when, and what becomes of a push whose log does not answer.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use roomcast_proto::pubsub::{
    PushOptions,
    content::Class,
    room_card::{Log, OnLogFailure},
};
use roomcast_store::{
    Counters, Logs, MemoryLog, Result,
    log::{Append, Appended, Log as Store, LogKey, Page, Read, Retention},
};
use roomcast_types::{Code, Epoch, Position};

use crate::{
    node::FakeNode,
    stage::{MemoryLogs, Stage},
};

/// A log that takes its time, as a store far away does.
#[derive(Default)]
struct Distant {
    log: MemoryLog,
    appends: AtomicUsize,
    hangs: AtomicBool,
}

#[async_trait::async_trait]
impl Store for Distant {
    async fn append(&self, append: &Append, retention: &Retention) -> Result<Appended> {
        let number = self.appends.fetch_add(1, Ordering::SeqCst);
        if self.hangs.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        let appended = self.log.append(append, retention).await;
        // Answers come back in another order than that of the offsets.
        tokio::time::sleep(Duration::from_millis(4 - number as u64 % 4)).await;
        appended
    }

    async fn read(&self, reads: &[Read]) -> Result<Vec<Page>> {
        self.log.read(reads).await
    }

    async fn renew(&self, key: &LogKey, epoch: Epoch) -> Result<Option<Position>> {
        self.log.renew(key, epoch).await
    }

    async fn remove(&self, key: &LogKey) -> Result<()> {
        self.log.remove(key).await
    }

    async fn sweep(&self, retention: &Retention) -> Result<u64> {
        self.log.sweep(retention).await
    }

    async fn ping(&self) -> Result<()> {
        if self.hangs.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        self.log.ping().await
    }

    fn counters(&self) -> Counters {
        self.log.counters()
    }
}

async fn distant(node: &FakeNode) -> (Stage, Arc<Distant>) {
    let (log, logs) = (Arc::new(Distant::default()), MemoryLogs::default());
    let used = Logs { recent: log.clone(), ..logs.all() };
    (Stage::over(&[node], &[], logs, used).await, log)
}

#[tokio::test]
async fn a_push_has_its_place_before_it_goes_out() {
    let node = FakeNode::start("one").await;
    let stage = Stage::with(&[&node]).await;
    node.room("blue", 1).await;
    node.user("ann", 1).await;
    let first = stage.push_to_room("blue", "a").await.unwrap();
    let second = stage.push_to_room("blue", "b").await.unwrap();
    assert!(first.logged && !first.duplicate && first.degraded.is_empty());
    assert_eq!((first.epoch.len(), &first.epoch, first.offset), (16, &second.epoch, 1));
    assert_eq!(second.offset, 2);
    let deliver = node.last();
    let epoch = u64::from_str_radix(&second.epoch, 16).unwrap();
    assert_eq!((deliver.epoch, deliver.offset, deliver.stored), (epoch, 2, false));

    let user = stage.user_with("ann", "c", PushOptions::default()).await.unwrap();
    assert_eq!((user.logged, user.offset, node.last().offset), (true, 1, 1));
    assert_ne!(user.epoch, first.epoch, "a user has a log of its own");
    // Several users, or all, have none together.
    let several = stage.users_with(&["ann", "bob"], "d", PushOptions::default()).await.unwrap();
    assert_eq!((several.logged, several.offset, several.epoch.as_str()), (false, 0, ""));
    stage.all("e", &[]).await;
    assert_eq!((node.last().epoch, node.last().offset), (0, 0));
    assert_eq!(stage.metric("pubsub_push_appends_total{result=\"new\"}"), 3.0);
}

#[tokio::test]
async fn what_may_be_dropped_is_logged_only_where_the_push_says_so() {
    let node = FakeNode::start("one").await;
    let stage = Stage::with(&[&node]).await;
    node.room("blue", 1).await;
    node.logged_room("bare", Log::None, OnLogFailure::Refuse).await;
    let latest = PushOptions { class: Class::Latest.into(), ..PushOptions::default() };
    for (room, options, is_logged) in [
        ("blue", latest.clone(), false),
        ("blue", PushOptions { log: Some(true), ..latest }, true),
        ("blue", PushOptions { log: Some(false), ..PushOptions::default() }, false),
        ("bare", PushOptions { log: Some(true), ..PushOptions::default() }, false),
    ] {
        let reply = stage.room_with(room, "x", options.clone()).await.unwrap();
        assert_eq!(reply.logged, is_logged, "{room} {options:?}");
        assert!(reply.degraded.is_empty());
    }
}

#[tokio::test]
async fn a_log_that_is_away_degrades_a_push_or_refuses_it_as_its_room_says() {
    let node = FakeNode::start("one").await;
    let stage = Stage::with(&[&node]).await;
    node.logged_room("easy", Log::Recent, OnLogFailure::Degrade).await;
    node.logged_room("strict", Log::Recent, OnLogFailure::Refuse).await;
    node.logged_room("days", Log::DurableLog, OnLogFailure::Degrade).await;
    stage.logs.recent.set_available(false);
    stage.logs.durable.set_available(false);
    let easy = stage.push_to_room("easy", "a").await.unwrap();
    assert_eq!((easy.logged, easy.offset, easy.degraded), (false, 0, vec!["LOG_UNAVAILABLE".to_owned()]));
    assert_eq!(easy.receipt.unwrap().outcomes["WRITTEN"], 1);
    for room in ["strict", "days"] {
        let fault = stage.push_to_room(room, "x").await.unwrap_err();
        assert!(fault.code == Code::Unavailable && fault.retry_after.is_some(), "{fault}");
        assert!(fault.message.contains("the log does not answer"), "{fault}");
    }
    assert_eq!(node.delivered(), ["a"], "what is refused goes nowhere");

    stage.logs.recent.set_available(true);
    stage.logs.durable.set_available(true);
    for room in ["easy", "strict", "days"] {
        until_logged(&stage, room).await;
    }
}

/// A store that answers again is noticed without a push that waits for it.
async fn until_logged(stage: &Stage, room: &str) {
    let logged = async {
        while !stage.push_to_room(room, "again").await.is_ok_and(|reply| reply.logged) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(crate::node::DEADLINE, logged).await.expect("the log is used again");
}

#[tokio::test]
async fn a_log_that_hangs_costs_one_push_its_deadline_and_the_others_nothing() {
    let node = FakeNode::start("one").await;
    let (stage, log) = distant(&node).await;
    node.room("blue", 1).await;
    log.hangs.store(true, Ordering::SeqCst);
    for _ in 0..50 {
        let reply = stage.push_to_room("blue", "x").await.unwrap();
        assert_eq!(reply.degraded, ["LOG_UNAVAILABLE"]);
        assert_eq!(reply.receipt.unwrap().outcomes["WRITTEN"], 1);
    }
    let waited = log.appends.load(Ordering::SeqCst);
    assert!(waited <= 5, "{waited} of 50 pushes waited for the store");
    log.hangs.store(false, Ordering::SeqCst);
    until_logged(&stage, "blue").await;
}

#[tokio::test]
async fn messages_of_one_room_go_out_in_the_order_of_their_places() {
    let node = FakeNode::start("one").await;
    let (stage, _) = distant(&node).await;
    node.room("blue", 1).await;
    let pushes = (0..200).map(|number| {
        let stage = &stage;
        async move { stage.push_to_room("blue", &number.to_string()).await.unwrap() }
    });
    let replies = futures_util::future::join_all(pushes).await;
    assert!(replies.iter().all(|reply| reply.logged));
    let offsets: Vec<_> = node.deliveries().iter().map(|deliver| deliver.offset).collect();
    let disordered = offsets.windows(2).filter(|pair| pair[0] > pair[1]).count() as f64;
    // Nothing but an append that took too long lets another one pass.
    assert!(disordered <= stage.metric("pubsub_push_disordered_total"), "{offsets:?}");
    assert_eq!(offsets.len(), 200);
}

#[tokio::test]
async fn a_conflict_of_positions_begins_a_new_epoch() {
    let node = FakeNode::start("one").await;
    let stage = Stage::with(&[&node]).await;
    node.room("blue", 1).await;
    let first = stage.push_to_room("blue", "a").await.unwrap();
    let epoch = u64::from_str_radix(&first.epoch, 16).unwrap();
    // Of another epoch than the log's, and of this.
    node.conflict("blue", epoch ^ 1);
    node.conflict("blue", epoch);
    stage.until_metric("pubsub_push_log_renewals_total", |renewals| renewals == 1.0).await;
    node.conflict("blue", epoch);
    let second = stage.push_to_room("blue", "b").await.unwrap();
    assert_ne!(second.epoch, first.epoch);
    assert_eq!(second.offset, 1);
    assert_eq!(stage.metric("pubsub_push_log_renewals_total"), 1.0);
}

#[tokio::test]
async fn absent_members_of_a_durable_room_catch_up_from_a_durable_log_only() {
    let node = FakeNode::start("one").await;
    let stage = Stage::with(&[&node]).await;
    stage.controller.add_durable_room("blue", 5, 1);
    node.durable_room("blue", 1).await;
    let minutes = stage.push_to_room("blue", "a").await.unwrap().receipt.unwrap();
    assert_eq!(minutes.outcomes["OFFLINE"], 4, "they may be away for longer");
    node.logged_room("blue", Log::DurableLog, OnLogFailure::Degrade).await;
    let days = stage.push_to_room("blue", "b").await.unwrap().receipt.unwrap();
    assert_eq!(days.outcomes["QUEUED_OFFLINE"], 4);
    assert!(!days.outcomes.contains_key("OFFLINE"));
}
