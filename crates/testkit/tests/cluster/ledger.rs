//! The ledger: nothing is missed when all is well, and what is missed is found by node, push-manager and minute.

use std::time::Duration;

use roomcast_client::{AuditReply, Class, Content, ContentType, PushOptions, Wait};
use roomcast_runtime::Telemetry;
use roomcast_testkit::{Client, Cluster, eventually, ws::Incoming};

const HOUR: Duration = Duration::from_secs(3_600);

/// What a gauge of the ledger shows.
pub fn unaccounted(telemetry: &Telemetry) -> f64 {
    let rendered = telemetry.render();
    let line = rendered.lines().find(|line| line.starts_with("pubsub_push_unaccounted "));
    line.and_then(|line| line.rsplit_once(' ')?.1.parse().ok()).expect("the gauge is there from the start")
}

async fn audit(cluster: &Cluster, manager: usize) -> AuditReply {
    cluster.pusher(manager).audit(HOUR).await.expect("the push-manager answers")
}

/// Pushes to a user until more waits in front of its socket than the kernel still takes.
async fn fill(cluster: &Cluster, user: &str) {
    let mut waiting = 0;
    while waiting < 2 {
        let content = Content::text(ContentType::Text, "x".repeat(60_000));
        let reply = cluster.pusher(0).push_to_user(user, content, &PushOptions::default()).await.unwrap();
        waiting += reply.receipt.unwrap().pending;
    }
}

fn minute_of(message_id: &str) -> i64 {
    let id = roomcast_types::MessageId::parse(message_id).unwrap();
    i64::try_from(id.unix_ms()).unwrap() / 60_000 * 60_000
}

#[tokio::test]
async fn pushes_of_every_kind_are_accounted_for_by_whichever_push_manager_is_asked() {
    let cluster = Cluster::builder().nodes(2).push_managers(2).start().await;
    let mut clients = Vec::new();
    for number in 0..6 {
        clients.push(Client::join(&cluster.ws(number % 2), &format!("user-{number}"), &["room"]).await);
    }
    let mut slow = Client::narrow(&cluster.ws(1), "slow", &["room"]).await;
    fill(&cluster, "slow").await;
    let pushers = [cluster.pusher(0), cluster.pusher(1)];
    let mut filled = 0;
    for number in 0..30 {
        let pusher = &pushers[number % 2];
        let content = Content::text(ContentType::Text, number.to_string());
        let options = match number % 3 {
            0 => PushOptions {
                class: Class::Expiring,
                ttl: Some(Duration::from_millis(50)),
                ..PushOptions::default()
            },
            1 => PushOptions { class: Class::Latest, key: "k".into(), ack: true, ..PushOptions::default() },
            _ => PushOptions { exclude_user_ids: vec!["user-1".into()], ..PushOptions::default() },
        };
        let receipt = pusher.push_to_room("room", content, &options).await.unwrap().receipt.unwrap();
        assert_eq!(receipt.targets, 7, "{receipt:?}");
        filled += receipt.targets;
    }
    for manager in 0..2 {
        let reply = audit(&cluster, manager).await;
        assert_eq!((reply.imbalances.len(), reply.unanswered.len()), (0, 0), "{reply:?}");
        assert!(reply.pushes > 30 && reply.targets > filled && reply.pending > 0, "{reply:?}");
    }
    // The slow one reads on: nothing stays pending, and all is equal to the last target.
    tokio::spawn(async move { while let Incoming::Frame(_) = slow.next().await {} });
    let reply = eventually("nothing is pending", async || {
        let reply = audit(&cluster, 0).await;
        (reply.pending == 0).then_some(reply)
    })
    .await;
    assert_eq!((reply.imbalances.len(), reply.unsettled), (0, 0), "{reply:?}");
    for index in 0..2 {
        assert_eq!(unaccounted(cluster.node(index).telemetry()), 0.0);
        assert_eq!(unaccounted(cluster.push_manager(index).telemetry()), 0.0);
    }
    cluster.finish().await;
}

#[tokio::test]
async fn an_outcome_that_a_node_loses_shows_there_and_in_the_audit() {
    let cluster = Cluster::builder().nodes(2).push_managers(2).start().await;
    let _other = Client::join(&cluster.ws(0), "other", &["room"]).await;
    let mut slow = Client::narrow(&cluster.ws(1), "slow", &["room"]).await;
    fill(&cluster, "slow").await;
    let content = Content::text(ContentType::Text, "waits");
    let reply = cluster.pusher(1).push_to_room("room", content, &PushOptions::default()).await.unwrap();
    assert_eq!(reply.receipt.unwrap().pending, 1);
    assert!(audit(&cluster, 0).await.imbalances.is_empty(), "what waits is not missed");

    // The filler that is begun is the next to be settled, then the message.
    cluster.node(1).failpoints().lose_outcomes(u64::MAX);
    while slow.push().await != "waits" {}
    eventually("the node misses it", async || {
        (unaccounted(cluster.node(1).telemetry()) >= 2.0).then_some(())
    })
    .await;
    cluster.node(1).failpoints().lose_outcomes(0);
    assert_eq!(unaccounted(cluster.node(0).telemetry()), 0.0);
    for manager in 0..2 {
        let reply = audit(&cluster, manager).await;
        let is_it = |manager: &str| {
            reply.imbalances.iter().any(|found| {
                (found.node_id.as_str(), found.manager_id.as_str()) == ("connect-node-2", manager)
            })
        };
        assert!(is_it("push-manager-1") && is_it("push-manager-2"), "{reply:?}");
        assert!(reply.imbalances.iter().all(|found| found.node_id == "connect-node-2"), "{reply:?}");
    }
    cluster.finish().await;
}

#[tokio::test]
async fn a_word_that_does_not_arrive_is_missed_by_both_sides() {
    let cluster =
        Cluster::builder().nodes(2).push_managers(1).set("push_manager.receipt_ttl=1s").start().await;
    let _one = Client::join(&cluster.ws(0), "one", &["room"]).await;
    let _two = Client::join(&cluster.ws(1), "two", &["room"]).await;
    cluster.node(0).failpoints().lose_words(1);
    let pusher = cluster.pusher(0);
    let options = PushOptions {
        wait: Wait::Settled,
        wait_for: Some(Duration::from_millis(50)),
        ..PushOptions::default()
    };
    let content = Content::text(ContentType::Text, "x");
    let reply = pusher.push_to_room("room", content, &options).await.unwrap();
    assert!(cluster.node(0).failpoints().is_done());
    let receipt = reply.receipt.clone().unwrap();
    assert_eq!((receipt.complete, receipt.pending), (false, 1), "{receipt:?}");

    let found = audit(&cluster, 0).await;
    assert_eq!(found.imbalances.len(), 1, "{found:?}");
    let imbalance = &found.imbalances[0];
    assert_eq!(
        (imbalance.node_id.as_str(), imbalance.manager_id.as_str()),
        ("connect-node-1", "push-manager-1")
    );
    assert_eq!((imbalance.minute_ms, imbalance.targets), (minute_of(&reply.message_id), 1), "{imbalance:?}");
    eventually("the push-manager misses it when the receipt is forgotten", async || {
        (unaccounted(cluster.push_manager(0).telemetry()) == 1.0).then_some(())
    })
    .await;
    assert_eq!(audit(&cluster, 0).await.imbalances.len(), 2, "told and not heard; not told in time");
    cluster.finish().await;
}

#[tokio::test]
async fn parts_that_do_not_answer_are_named_and_bad_bounds_refused() {
    let mut cluster = Cluster::builder().nodes(3).push_managers(2).start().await;
    let _one = Client::join(&cluster.ws(0), "one", &["room"]).await;
    cluster.api(0).push_room("room", "x").await;
    cluster.kill_node(1);
    let frozen = (cluster.freeze_node(2), cluster.freeze_push_manager(1));
    let reply = audit(&cluster, 0).await;
    let silent: Vec<_> = reply.unanswered.iter().map(|part| (part.role.as_str(), part.id.as_str())).collect();
    let expected = [
        ("connect-node", "connect-node-2"),
        ("connect-node", "connect-node-3"),
        ("push-manager", "push-manager-2"),
    ];
    assert_eq!(silent, expected, "{reply:?}");
    assert_eq!((reply.imbalances.len(), reply.pushes), (0, 1), "{reply:?}");
    drop(frozen);
    for since in [Duration::from_millis(59_999), Duration::from_millis(86_400_001)] {
        let error = cluster.pusher(0).audit(since).await.unwrap_err().to_string();
        assert!(error.contains("BAD_REQUEST") && error.contains("60000 to 86400000"), "{error}");
    }
    cluster.finish().await;
}
