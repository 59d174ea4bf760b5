//! Nodes that died.

use roomcast_proto::pubsub::{
    GetUserNodeRequest, KickUserRequest, ListNodesRequest, SelectConnectNodeRequest,
};
use roomcast_store::{Presence, Rooms};
use roomcast_types::{RoomId, UserId};

use super::{
    node::FakeNode,
    world::{World, eventually},
};

async fn is_online(world: &World, user: &str) -> bool {
    !world.presence.sessions(&UserId::new(user).unwrap()).await.unwrap().is_empty()
}

#[tokio::test]
async fn a_node_that_refuses_connections_is_swept_and_a_live_one_is_not() {
    let world = World::new(&[]).await;
    let mut dead = FakeNode::start(&world, 0, "dead").await;
    let live = FakeNode::start(&world, 0, "live").await;
    let (on_dead, _) = dead.open("user-dead", "c", 1).await;
    let (on_live, _) = live.open("user-live", "c", 1).await;
    dead.join(on_dead, "room").await.unwrap();
    live.join(on_live, "room").await.unwrap();
    dead.kill().await;
    eventually("the session of the dead node is gone", || async { !is_online(&world, "user-dead").await })
        .await;
    assert!(is_online(&world, "user-live").await);
    let room = RoomId::new("room").unwrap();
    eventually("its user is away", || async {
        let occupancy = world.presence.occupancy(&room).await.unwrap();
        occupancy.online.len() == 1 && occupancy.absent.len() == 1
    })
    .await;
    assert_eq!(world.rooms.room(&room).await.unwrap().unwrap().members, 2, "the seat waits");
    eventually("nothing is known of the dead node", || async {
        world.presence.indexed_nodes().await.unwrap().len() == 1
    })
    .await;
    let mut client = world.client().await;
    let request = GetUserNodeRequest { user_id: "user-dead".into() };
    assert!(!client.get_user_node(request).await.unwrap().into_inner().online);
}

#[tokio::test]
async fn a_node_whose_stream_breaks_but_which_answers_is_left_alone() {
    let mut world = World::new(&[]).await;
    let mut node = FakeNode::start(&world, 0, "node").await;
    let (session, _) = node.open("user", "c", 1).await;
    node.join(session, "room").await.unwrap();
    world.add_controller(&[]).await;
    world.take_controller(0).stop().await;
    node.report_to(&world, 0).await;
    let (other, _) = node.open("other", "c", 2).await;
    node.join(other, "room").await.unwrap();
    assert!(is_online(&world, "user").await);
    assert_eq!(world.presence.online_counts(&RoomId::new("room").unwrap()).await.unwrap(), (2, 2));
}

#[tokio::test]
async fn an_earlier_life_of_a_node_is_swept_when_the_next_one_reports() {
    let world = World::new(&[]).await;
    let mut earlier = FakeNode::start(&world, 0, "node").await;
    let (session, _) = earlier.open("user", "c", 1).await;
    earlier.join(session, "room").await.unwrap();
    earlier.unregister().await;
    let later = FakeNode::start(&world, 0, "node").await;
    eventually("the earlier life is swept", || async { !is_online(&world, "user").await }).await;
    let (session, _) = later.open("user", "c", 2).await;
    later.join(session, "room").await.unwrap();
    assert!(is_online(&world, "user").await);
}

#[tokio::test]
async fn no_client_is_sent_to_a_node_that_died_while_its_lease_runs_on() {
    let world = World::new(&[]).await;
    let mut dead = FakeNode::start(&world, 0, "dead").await;
    let _live = FakeNode::start(&world, 0, "live").await;
    dead.open("user", "c", 1).await;
    dead.kill().await;
    eventually("the dead node is swept", || async { !is_online(&world, "user").await }).await;
    let mut client = world.client().await;
    let listed = client.list_nodes(ListNodesRequest {}).await.unwrap().into_inner().nodes;
    assert_eq!(listed.len(), 2, "its registration stands");
    for _ in 0..50 {
        let chosen = client.select_connect_node(SelectConnectNodeRequest::default()).await.unwrap();
        assert_eq!(chosen.into_inner().node_id, "live");
    }
}

#[tokio::test]
async fn an_order_to_a_dead_node_is_no_failure_and_has_it_swept() {
    let mut world = World::new(&[]).await;
    world.add_controller(&[]).await;
    let mut dead = FakeNode::start(&world, 0, "dead").await;
    let live = FakeNode::start(&world, 1, "live").await;
    dead.open("ann", "c", 1).await;
    dead.open("bob", "c", 1).await;
    // The controller that it reported to goes first: nobody else has a reason to look after it.
    world.take_controller(0).stop().await;
    dead.kill().await;
    let mut client = world.client().await;
    let kick = KickUserRequest { user_id: "ann".into(), ..Default::default() };
    let kicked = client.kick_user(kick).await.unwrap().into_inner();
    assert_eq!((kicked.sessions, kicked.unreachable_node_ids), (0, Vec::new()));
    eventually("all its sessions are gone", || async {
        !is_online(&world, "ann").await && !is_online(&world, "bob").await
    })
    .await;
    assert!(live.open("ann", "c", 2).await.1);
    assert!(world.metrics().contains("pubsub_controller_kicks_failed_total 0"), "{}", world.metrics());
}
