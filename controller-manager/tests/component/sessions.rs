//! Slots: which session of a user stays.

use roomcast_proto::pubsub::{GetUserNodeRequest, kick_request::Reason};
use roomcast_store::Presence;
use roomcast_types::{RoomId, UserId};

use super::{
    node::FakeNode,
    world::{World, eventually},
};

#[tokio::test]
async fn the_second_login_of_a_client_closes_the_first() {
    let world = World::new(&[]).await;
    let (a, b) = (FakeNode::start(&world, 0, "node-a").await, FakeNode::start(&world, 0, "node-b").await);
    let (first, held) = a.open("user", "phone", 1_000).await;
    assert!(held);
    let (second, held) = b.open("user", "phone", 2_000).await;
    assert!(held);
    eventually("the first node is told", || async { !a.kicks().is_empty() }).await;
    let kick = a.kicks().remove(0);
    assert_eq!(kick.session_ids, [first.as_bytes().to_vec()]);
    assert_eq!((kick.reason(), kick.room_id.as_str()), (Reason::TakenOver, ""));
    assert!(b.kicks().is_empty());
    let mut client = world.client().await;
    let place =
        client.get_user_node(GetUserNodeRequest { user_id: "user".into() }).await.unwrap().into_inner();
    assert_eq!((place.node_id.as_str(), place.node_address.as_str()), ("node-b", b.address.as_str()));
    assert_eq!(place.sessions.len(), 1);
    assert_eq!(place.sessions[0].session_id, second.to_string());
}

#[tokio::test]
async fn other_clients_of_a_user_stay_unless_the_policy_is_single() {
    for (policy, sessions) in [("multi", 2), ("single", 1)] {
        let world = World::new(&[&format!("server.session_policy={policy}")]).await;
        let node = FakeNode::start(&world, 0, "node").await;
        let (first, _) = node.open("user", "phone", 1_000).await;
        node.open("user", "laptop", 2_000).await;
        let user = UserId::new("user").unwrap();
        assert_eq!(world.presence.sessions(&user).await.unwrap().len(), sessions, "{policy}");
        if policy == "single" {
            eventually("the first session is closed", || async { !node.kicks().is_empty() }).await;
            assert_eq!(node.kicks()[0].session_ids, [first.as_bytes().to_vec()]);
        }
    }
}

#[tokio::test]
async fn a_login_that_is_reported_late_does_not_displace_a_newer_one() {
    let world = World::new(&[]).await;
    let node = FakeNode::start(&world, 0, "node").await;
    node.open("user", "phone", 2_000).await;
    let (_, held) = node.open("user", "phone", 1_000).await;
    assert!(!held);
    assert_eq!(world.presence.sessions(&UserId::new("user").unwrap()).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_late_close_of_the_old_session_changes_nothing() {
    let world = World::new(&[]).await;
    let (a, b) = (FakeNode::start(&world, 0, "node-a").await, FakeNode::start(&world, 0, "node-b").await);
    let (old, _) = a.open("user", "phone", 1_000).await;
    a.join(old, "room").await.unwrap();
    let (new, _) = b.open("user", "phone", 2_000).await;
    b.join(new, "room").await.unwrap();
    a.close(old).await;
    let (room, user) = (RoomId::new("room").unwrap(), UserId::new("user").unwrap());
    let occupancy = world.presence.occupancy(&room).await.unwrap();
    assert_eq!(occupancy.online, [(user.clone(), vec![new])]);
    assert!(occupancy.absent.is_empty());
    let sessions = world.presence.sessions(&user).await.unwrap();
    assert_eq!(sessions.iter().map(|entry| entry.session_id).collect::<Vec<_>>(), [new]);
}

#[tokio::test]
async fn replies_carry_the_clock_of_the_store() {
    let world = World::new(&[]).await;
    let node = FakeNode::start(&world, 0, "node").await;
    node.open("user", "phone", 1).await;
    let now = world.presence.now().await.unwrap().as_millis();
    assert!((now - node.store_time_ms()).abs() < 5_000);
    world.presence.set_available(false);
    eventually("the clock is not known", || async { node.store_time_ms() == 0 }).await;
}
