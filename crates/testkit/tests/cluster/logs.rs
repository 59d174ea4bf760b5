//! Logs, from the push to the client that comes back: nothing that was accepted is lost unseen.

use std::{cell::Cell, collections::BTreeMap};

use futures_util::future::join_all;
use roomcast_testkit::{Client, Cluster, eventually, outcome, ws::Incoming};
use serde_json::{Value, json};

/// Joins a room again from a position; the answer.
async fn rejoin(client: &mut Client, room: &str, since: (&Value, u64)) -> Value {
    let since = json!({"epoch": since.0, "offset": since.1});
    client.send(json!({"type": "join", "id": 1, "room_id": room, "since": since})).await;
    client.frame("joined").await
}

/// Data and offset of the next push.
async fn pushed(client: &mut Client) -> (String, u64) {
    let push = client.frame("push").await;
    (push["content"]["data"].as_str().unwrap().to_owned(), push["offset"].as_u64().unwrap_or(0))
}

#[tokio::test]
async fn who_comes_back_on_another_node_gets_exactly_what_he_missed() {
    let mut cluster = Cluster::builder().nodes(2).start().await;
    let api = cluster.api(0);
    let mut alice = Client::connect(&cluster.ws(0), "alice", &["room"]).await;
    let mut bob = Client::join(&cluster.ws(1), "bob", &["room"]).await;
    alice.frame("welcome").await;
    let joined = alice.frame("joined").await;
    let epoch = joined["epoch"].clone();
    let reply = api.push_room("room", "before").await;
    assert_eq!((&reply["logged"], &reply["epoch"], &reply["offset"]), (&json!(true), &epoch, &json!(1)));
    assert_eq!(pushed(&mut alice).await, ("before".into(), 1));
    cluster.kill_node(0);
    for number in 2..5 {
        api.push_room("room", &number.to_string()).await;
    }
    let mut alice = Client::join(&cluster.ws(1), "alice", &[]).await;
    let joined = rejoin(&mut alice, "room", (&epoch, 1)).await;
    assert_eq!((&joined["recovered"], &joined["offset"]), (&json!(true), &json!(1)), "{joined}");
    for number in 2..5 {
        assert_eq!(pushed(&mut alice).await, (number.to_string(), number));
    }
    api.push_room("room", "after").await;
    assert_eq!(pushed(&mut alice).await, ("after".into(), 5));
    for offset in 1..6 {
        assert_eq!(pushed(&mut bob).await.1, offset);
    }
    cluster.finish().await;
}

#[tokio::test]
async fn two_push_managers_into_one_room_keep_one_order_everywhere() {
    let cluster = Cluster::builder().nodes(2).push_managers(2).start().await;
    let mut members = Vec::new();
    for user in 0..6 {
        members.push(Client::join(&cluster.ws(user % 2), &format!("u{user}"), &["room"]).await);
    }
    let publishers = (0..8).map(|publisher| {
        let api = cluster.api(publisher % 2);
        async move {
            for number in 0..25 {
                api.push_room("room", &format!("{publisher}.{number}")).await;
            }
        }
    });
    join_all(publishers).await;
    let mut orders = Vec::new();
    for member in &mut members {
        let mut order = Vec::new();
        for offset in 1..=200 {
            let (data, at) = pushed(member).await;
            assert_eq!(at, offset, "no hole and no gap");
            order.push(data);
        }
        orders.push(order);
    }
    assert!(orders.windows(2).all(|pair| pair[0] == pair[1]), "all saw the same order");
    // What one publisher sent one after the other came so.
    let mut last = BTreeMap::new();
    for data in &orders[0] {
        let (publisher, number) = data.split_once('.').unwrap();
        let number: i32 = number.parse().unwrap();
        assert_eq!(last.insert(publisher.to_owned(), number).unwrap_or(-1), number - 1);
    }
    cluster.finish().await;
}

#[tokio::test]
async fn a_lost_log_is_flagged_and_the_next_messages_have_places_again() {
    let cluster = Cluster::builder().nodes(1).start().await;
    let api = cluster.api(0);
    let mut alice = Client::connect(&cluster.ws(0), "alice", &["room"]).await;
    alice.frame("welcome").await;
    let epoch = alice.frame("joined").await["epoch"].clone();
    api.push_room("room", "one").await;
    assert_eq!(pushed(&mut alice).await, ("one".into(), 1));
    cluster.recent_log.flush();
    let reply = api.push_room("room", "two").await;
    assert_ne!(reply["epoch"], epoch);
    let gap = alice.frame("gap").await;
    assert_eq!((&gap["room_id"], &gap["epoch"]), (&json!("room"), &reply["epoch"]));
    assert_eq!(pushed(&mut alice).await, ("two".into(), 1));
    let mut late = Client::join(&cluster.ws(0), "late", &[]).await;
    assert_eq!(rejoin(&mut late, "room", (&epoch, 1)).await["recovered"], false);
    cluster.finish().await;
}

#[tokio::test]
async fn a_log_that_went_back_in_time_loses_nothing_live_and_opens_a_new_epoch() {
    let cluster = Cluster::builder().nodes(1).start().await;
    let api = cluster.api(0);
    let mut alice = Client::join(&cluster.ws(0), "alice", &["room"]).await;
    api.push_room("room", "one").await;
    let dump = cluster.recent_log.dump();
    for data in ["two", "three"] {
        api.push_room("room", data).await;
    }
    cluster.recent_log.restore(dump);
    for (data, offset) in [("one", 1), ("two", 2), ("three", 3)] {
        assert_eq!(pushed(&mut alice).await, (data.into(), offset));
    }
    let sent = Cell::new(0);
    let epoch = eventually("a new epoch", async || {
        let reply = api.push_room("room", &sent.replace(sent.get() + 1).to_string()).await;
        (reply["offset"] == 1).then(|| reply["epoch"].clone())
    })
    .await;
    let mut seen = Vec::new();
    while seen.len() < sent.get() {
        let frame = alice.frame_of_any_kind().await;
        match frame["type"].as_str().unwrap() {
            "gap" => assert_eq!(frame["epoch"], epoch, "{frame}"),
            "push" => seen.push(frame["content"]["data"].as_str().unwrap().to_owned()),
            other => panic!("{other}: {frame}"),
        }
    }
    let sent: Vec<_> = (0..sent.get()).map(|number| number.to_string()).collect();
    assert_eq!(seen, sent, "live, every one arrived");
    cluster.finish().await;
}

#[tokio::test]
async fn without_its_store_a_push_goes_out_and_says_that_it_was_not_logged() {
    let cluster = Cluster::builder().nodes(1).start().await;
    let api = cluster.api(0);
    let mut alice = Client::join(&cluster.ws(0), "alice", &["room"]).await;
    api.push_room("room", "one").await;
    cluster.recent_log.set_available(false);
    let reply = api.push_room("room", "two").await;
    assert_eq!(
        (&reply["logged"], &reply["degraded"]),
        (&json!(false), &json!(["LOG_UNAVAILABLE"])),
        "{reply}"
    );
    assert_eq!(outcome(&reply, "WRITTEN"), 1);
    cluster.recent_log.set_available(true);
    eventually("the log is used again", async || {
        (api.push_room("room", "again").await["logged"] == true).then_some(())
    })
    .await;
    assert_eq!(pushed(&mut alice).await, ("one".into(), 1));
    assert_eq!(pushed(&mut alice).await, ("two".into(), 0));
    cluster.finish().await;
}

#[tokio::test]
async fn messages_to_a_user_who_was_away_come_with_the_welcome() {
    let mut cluster = Cluster::builder().nodes(2).start().await;
    let api = cluster.api(0);
    let mut alice = Client::connect(&cluster.ws(0), "alice", &[]).await;
    let welcome = alice.frame("welcome").await;
    let (epoch, offset) = (welcome["epoch"].as_str().unwrap().to_owned(), welcome["offset"].clone());
    assert_eq!(offset, 0);
    api.push_user("alice", "one").await;
    assert_eq!(pushed(&mut alice).await, ("one".into(), 1));
    cluster.kill_node(0);
    eventually("the node is gone", async || {
        (outcome(&api.push_user("nobody", "x").await, "OFFLINE") == 1).then_some(())
    })
    .await;
    api.push_user("alice", "two").await;
    let mut alice = Client::open(&format!("{}?user_id=alice&since={epoch}:1", cluster.ws(1))).await.unwrap();
    let welcome = alice.frame("welcome").await;
    assert_eq!((&welcome["recovered"], &welcome["offset"]), (&json!(true), &json!(1)), "{welcome}");
    assert_eq!(pushed(&mut alice).await, ("two".into(), 2));
    cluster.finish().await;
}

#[tokio::test]
async fn a_stored_message_waits_for_the_next_connection_and_goes_when_acknowledged() {
    let cluster = Cluster::builder().nodes(2).start().await;
    let api = cluster.api(0);
    let body = json!({"content": {"data": "for later"}, "options": {"offline": "STORE"}});
    let (status, reply) = api.post("/v1/push/user/alice", body).await;
    assert_eq!((status, outcome(&reply, "QUEUED_OFFLINE")), (200, 1), "{reply}");
    // Not acknowledged, it comes again, on whatever node.
    for node in 0..2 {
        let mut alice = Client::join(&cluster.ws(node), "alice", &[]).await;
        let push = alice.frame("push").await;
        assert_eq!((&push["content"]["data"], &push["ack"]), (&json!("for later"), &json!(true)));
        if node == 1 {
            alice.send(json!({"type": "ack", "message_ids": [push["message_id"]]})).await;
        } else {
            alice.close().await;
        }
    }
    eventually("the inbox is empty", async || {
        let mut alice = Client::join(&cluster.ws(0), "alice", &[]).await;
        api.push_user("alice", "now").await;
        let is_empty = alice.push().await == "now";
        alice.close().await;
        is_empty.then_some(())
    })
    .await;
    cluster.finish().await;
}

#[tokio::test]
async fn a_session_that_is_away_longer_than_the_log_hears_that_messages_are_missing() {
    let cluster = Cluster::builder().nodes(1).set("log.recent_messages=5").start().await;
    let api = cluster.api(0);
    let mut alice = Client::connect(&cluster.ws(0), "alice", &["room"]).await;
    alice.frame("welcome").await;
    let epoch = alice.frame("joined").await["epoch"].clone();
    alice.close().await;
    for number in 0..9 {
        api.push_room("room", &number.to_string()).await;
    }
    let mut alice = Client::join(&cluster.ws(0), "alice", &[]).await;
    let joined = rejoin(&mut alice, "room", (&epoch, 0)).await;
    assert_eq!((&joined["recovered"], &joined["offset"]), (&json!(false), &json!(9)));
    let joined = rejoin(&mut alice, "room", (&epoch, 4)).await;
    assert_eq!(joined["recovered"], true, "all five are still there");
    for offset in 5..10 {
        assert_eq!(pushed(&mut alice).await.1, offset);
    }
    let nothing = alice.next_within(std::time::Duration::from_millis(1)).await;
    assert!(!matches!(nothing, Some(Incoming::Frame(_))));
    cluster.finish().await;
}
