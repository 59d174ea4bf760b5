//! Masters that change: a failover behind a Sentinel, and a cluster that loses one of its parts.

use roomcast_store::{ErrorKind, Presence};
use roomcast_test_servers::{RedisCluster, RedisSentinel};
use roomcast_types::SessionId;

use super::support::{at, open, open_impatient, room, user, wait_until};

#[tokio::test]
async fn the_next_master_is_found_and_taken_for_another_generation() {
    let servers = RedisSentinel::start();
    let presence = open(&servers.url(), "");
    let (generation, before) = (presence.generation().await.unwrap(), presence.now().await.unwrap());
    presence.enter(&room("r"), &user("ann"), SessionId::random()).await.unwrap();
    servers.fail_over();
    // The old master takes calls until the Sentinel has told it that it is a replica now.
    wait_until("a call reaches the next master", async || {
        let _ = presence.enter(&room("s"), &user("ann"), SessionId::random()).await;
        servers.master().run(&["HEXISTS", "{r:s}:online", "ann"]).trim() == "1"
    })
    .await;
    assert!(presence.now().await.unwrap() >= before);
    assert_ne!(
        presence.generation().await.unwrap(),
        generation,
        "the replica may have lacked the last writes"
    );
}

#[tokio::test]
async fn a_master_that_was_killed_is_replaced_by_its_replica() {
    let servers = RedisSentinel::start();
    let presence = open_impatient(&servers.url());
    presence.enter(&room("r"), &user("ann"), SessionId::random()).await.unwrap();
    servers.master().kill();
    wait_until("the replica serves", async || {
        presence.enter(&room("r"), &user("bob"), SessionId::random()).await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn a_master_that_lost_its_part_changes_the_generation() {
    let cluster = RedisCluster::start();
    let presence = open(&cluster.url(), "");
    for master in cluster.masters() {
        let before = presence.generation().await.unwrap();
        assert_eq!(presence.generation().await.unwrap(), before);
        master.run(&["FLUSHALL"]);
        assert_ne!(presence.generation().await.unwrap(), before);
    }
}

#[tokio::test]
async fn a_part_of_the_list_of_due_absences_that_was_lost_is_entered_again() {
    let cluster = RedisCluster::start();
    let presence = open(&cluster.url(), "");
    for number in 0..30 {
        let room = room(format!("r{number}"));
        presence.mark_absent(&room, &user("ann"), at(1), Some(at(2))).await.unwrap();
    }
    cluster.masters()[0].run(&["FLUSHALL"]);
    assert!(presence.due_absences(at(3), 100).await.unwrap().len() < 30);
    for number in 0..30 {
        let room = room(format!("r{number}"));
        presence.mark_absent(&room, &user("ann"), at(1), Some(at(2))).await.unwrap();
    }
    assert_eq!(presence.due_absences(at(3), 100).await.unwrap().len(), 30);
}

#[tokio::test]
async fn a_master_that_stands_still_does_not_stop_the_others_for_good() {
    let cluster = RedisCluster::start();
    let presence = open_impatient(&cluster.url());
    let rooms: Vec<_> = (0..30).map(|number| room(format!("r{number}"))).collect();
    for room in &rooms {
        presence.enter(room, &user("ann"), SessionId::random()).await.unwrap();
    }
    let frozen = &cluster.masters()[0];
    let (lost, kept): (Vec<_>, Vec<_>) =
        rooms.iter().partition(|room| frozen.run(&["EXISTS", &format!("{{r:{room}}}:online")]).trim() == "1");
    frozen.freeze();
    let error = presence.online_counts(lost[0]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    for room in &kept {
        wait_until("the other masters serve", async || presence.online_counts(room).await.is_ok()).await;
    }
    frozen.thaw();
    for room in &rooms {
        wait_until("all serve again", async || matches!(presence.online_counts(room).await, Ok((1, 1))))
            .await;
    }
}
