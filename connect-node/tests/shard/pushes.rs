//! Whom a push reaches, in what order, and what is counted.

use connect_node::{ports::SessionKey, tally::TargetOutcome};
use futures_util::StreamExt;
use serde_json::json;

use crate::fixture::{Node, counts, until};

#[tokio::test]
async fn a_room_push_reaches_its_members_on_every_shard_in_order() {
    let node = Node::with(|setup| setup.shards = 2).await;
    let mut members = vec![];
    for user in 0..6 {
        members.push(node.member(&format!("user_id=u{user}&room_id=r")).await);
    }
    assert_eq!((node.load.shard_sessions(0), node.load.shard_sessions(1)), (3, 3));
    let mut other = node.member("user_id=other&room_id=elsewhere").await;
    let mut waiting = Vec::new();
    for number in 0..500 {
        waiting.push(node.push("r", &number.to_string()).await);
    }
    for member in &mut members {
        for number in 0..500 {
            assert_eq!(member.pushed().await, number.to_string());
        }
    }
    for counted in waiting {
        let counted = counts(counted).await;
        assert_eq!((counted.targets(), counted.written + counted.pending), (6, 6));
    }
    assert!(other.until_pong().await.is_empty());
}

#[tokio::test]
async fn excluded_users_are_counted_and_get_nothing() {
    let node = Node::start().await;
    let mut a = node.member("user_id=a&room_id=r").await;
    let mut b = node.member("user_id=b&room_id=r").await;
    // Messages that wait together and leave different users out.
    let pushes = [
        node.push_except("r", "not a", &["a", "stranger"]).await,
        node.push_except("r", "not b", &["b"]).await,
        node.push_except("r", "nobody", &["a", "b"]).await,
        node.push("r", "both").await,
    ];
    let mut filtered = Vec::new();
    for push in pushes {
        let counted = counts(push).await;
        assert_eq!(counted.targets(), 2);
        filtered.push(counted.filtered);
    }
    assert_eq!(filtered, [1, 1, 2, 0]);
    assert_eq!([a.pushed().await, a.pushed().await], ["not b", "both"]);
    assert_eq!([b.pushed().await, b.pushed().await], ["not a", "both"]);
    assert!(node.metric("pubsub_node_deliveries_total", "filtered") == 4.0);
}

#[tokio::test]
async fn a_push_to_users_says_what_became_of_each_session() {
    let node = Node::start().await;
    let mut a = node.member("user_id=a").await;
    let mut b = node.member("user_id=b").await;
    let (key_a, key_b) = (node.hub.session("a").await, node.hub.session("b").await);
    let gone = SessionKey { slot: 9_999, ..key_a.key };
    let stale = SessionKey { generation: key_b.key.generation + 50, ..key_b.key };
    let targets = vec![(key_a.key, 0), (gone, 0), (key_b.key, 1), (stale, 1)];
    let mut counted = counts(node.push_sessions(targets, "hello").await).await;
    assert_eq!((counted.written, counted.closed, counted.targets()), (2, 2, 4));
    counted.sessions.sort_by_key(|entry| entry.0);
    let written = TargetOutcome::Written;
    assert_eq!(counted.sessions, [(0, key_a.session_id, written), (1, key_b.session_id, written)]);
    for client in [&mut a, &mut b] {
        let push = client.json().await;
        assert_eq!((&push["target"], push.get("room_id")), (&json!("user"), None));
    }
}

#[tokio::test]
async fn a_push_to_all_reaches_every_session_past_one_slice() {
    let node = Node::with(|setup| setup.shards = 2).await;
    let mut clients = vec![];
    for user in 0..600 {
        clients.push(node.member(&format!("user_id=u{user}")).await);
    }
    let (one, two) = (node.push_all("one").await, node.push_all("two").await);
    for client in &mut clients {
        assert_eq!([client.pushed().await, client.pushed().await], ["one", "two"]);
    }
    assert_eq!((counts(one).await.targets(), counts(two).await.targets()), (600, 600));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_stays_gets_each_message_once_while_others_come_and_go() {
    let node = Node::start().await;
    let (mut staying, mut moving) = (vec![], vec![]);
    for user in 0..400 {
        staying.push(node.member(&format!("user_id=s{user}&room_id=r")).await);
        if user % 4 == 0 {
            moving.push(node.member(&format!("user_id=m{user}&room_id=r")).await);
        }
    }
    let mut waiting = Vec::new();
    let mut number = 0;
    for (index, mut client) in moving.into_iter().enumerate() {
        for _ in 0..3 {
            waiting.push(node.push("r", &number.to_string()).await);
            number += 1;
        }
        match index % 3 {
            0 => drop(client),
            1 => client.send(json!({"type": "leave", "room_id": "r"})).await,
            _ => {
                client.send(json!({"type": "leave", "room_id": "r"})).await;
                client.send(json!({"type": "join", "room_id": "r"})).await;
                // Read to its end, so that it is never slow.
                tokio::spawn(async move { while client.socket.next().await.is_some() {} });
            }
        }
    }
    for client in &mut staying {
        for expected in 0..number {
            assert_eq!(client.pushed().await, expected.to_string());
        }
        assert!(client.until_pong().await.is_empty());
    }
    for counted in waiting {
        let counted = counts(counted).await;
        assert!((400..=500).contains(&counted.targets()) && counted.dropped_slow == 0, "{counted:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_wait_together_leave_in_one_system_call() {
    let node = Node::start().await;
    let mut members = vec![];
    for user in 0..5 {
        members.push(node.member(&format!("user_id=u{user}&room_id=r")).await);
    }
    let mut blocker = node.member("user_id=blocker").await;
    blocker.send(json!({"type": "join", "room_id": "block"})).await;
    node.hub
        .until("the shard to wait", |told| {
            told.joins.iter().find(|join| join.2.as_str() == "block").map(drop)
        })
        .await;
    let before = node.metric("pubsub_node_writes_total", "");
    let mut waiting = Vec::new();
    for number in 0..8 {
        waiting.push(node.push("r", &number.to_string()).await);
        // Another room's messages in between do not part them.
        node.push("nowhere", "x").await;
    }
    node.hub.unblock();
    for member in &mut members {
        for number in 0..8 {
            assert_eq!(member.pushed().await, number.to_string());
        }
    }
    for counted in waiting {
        assert_eq!(counts(counted).await.written, 5);
    }
    let writes = || node.metric("pubsub_node_writes_total", "") - before;
    until("the count of writes", || writes() > 0.0).await;
    assert_eq!(writes(), 5.0);
}
