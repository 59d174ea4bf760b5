//! MariaDB freezes or dies while people join and pushes go on.

use std::time::Duration;

use roomcast_testkit::{Client, Cluster, Servers, ws::Incoming};
use serde_json::{Value, json};

use crate::traffic::Traffic;

#[tokio::test]
async fn while_mariadb_is_frozen_holders_come_back_and_the_others_are_told_when_to_try() {
    let cluster = Cluster::builder().nodes(2).on(Servers::start().await).start().await;
    let traffic = Traffic::start(&cluster, &[0, 1], 10).await;
    let alice = Client::join(&cluster.ws(0), "alice", &["room"]).await;
    cluster.servers().mariadb.freeze();
    alice.close().await;
    let _alice = Client::join(&cluster.ws(1), "alice", &["room"]).await;
    let mut bob = Client::connect(&cluster.ws(0), "bob", &[]).await;
    bob.frame("welcome").await;
    for _ in 0..10 {
        let refused = join(&mut bob, "room").await;
        assert_eq!(refused["code"], "UNAVAILABLE", "{refused}");
        assert!(refused["retry_after_ms"].as_u64().unwrap() > 0, "{refused}");
    }
    cluster.servers().mariadb.thaw();
    joins_at_last(&mut bob, "room").await;
    traffic.finish().await;
    cluster.finish().await;
}

#[tokio::test]
async fn a_crowd_that_meets_a_dead_mariadb_is_refused_and_comes_in_later() {
    let cluster = Cluster::builder().nodes(2).on(Servers::start().await).start().await;
    let traffic = Traffic::start(&cluster, &[0, 1], 10).await;
    cluster.servers().mariadb.kill();
    let mut crowd = Vec::new();
    for number in 0..50 {
        let mut client = Client::connect(&cluster.ws(number % 2), &format!("user-{number}"), &[]).await;
        client.frame("welcome").await;
        client.send(json!({"type": "join", "id": 1, "room_id": "crowded"})).await;
        crowd.push(client);
    }
    for client in &mut crowd {
        let refused = client.frame("error").await;
        assert_eq!(refused["code"], "UNAVAILABLE", "{refused}");
    }
    cluster.servers().mariadb.start_again();
    for client in &mut crowd {
        joins_at_last(client, "crowded").await;
    }
    let seats = cluster.servers().query("SELECT members FROM rooms WHERE room_id = 'crowded'");
    assert_eq!(seats, ["50"]);
    traffic.finish().await;
    cluster.finish().await;
}

async fn join(client: &mut Client, room: &str) -> Value {
    client.send(json!({"type": "join", "id": 1, "room_id": room})).await;
    match client.next_within(Duration::from_secs(5)).await {
        Some(Incoming::Frame(frame)) => frame,
        other => panic!("an answer was due within a second: {other:?}"),
    }
}

async fn joins_at_last(client: &mut Client, room: &str) {
    let started = tokio::time::Instant::now();
    loop {
        let answer = join(client, room).await;
        if answer["type"] == "joined" {
            return;
        }
        assert!(started.elapsed() < roomcast_testkit::DEADLINE, "still refused: {answer}");
        let pause = answer["retry_after_ms"].as_u64().unwrap();
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
}
