//! Presence agrees with the nodes again after any loss.

use std::time::Duration;

use roomcast_store::{
    Presence, Rooms,
    rooms::{NewRoom, SeatRequest},
};
use roomcast_types::{LogPolicy, Membership, OnLogFailure, RoomId, UserId};

use super::{
    node::FakeNode,
    world::{World, eventually},
};

fn room() -> RoomId {
    RoomId::new("room").unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_presence_that_lost_everything_is_rebuilt_from_the_nodes() {
    let world = World::new(&["room.default_max_users=1000"]).await;
    let node = FakeNode::start(&world, 0, "node").await;
    let sessions = node.open_all((0..300).map(|number| format!("user-{number}"))).await;
    let joins: Vec<_> = sessions.into_iter().map(|session| (session, "room".to_owned())).collect();
    node.join_all(&joins).await;
    world.presence.flush();
    assert_eq!(world.presence.online_counts(&room()).await.unwrap(), (0, 0));
    eventually("everybody is back in the room's presence", || async {
        world.presence.online_counts(&room()).await.unwrap() == (300, 300)
    })
    .await;
    let user = UserId::new("user-7").unwrap();
    assert_eq!(world.presence.sessions(&user).await.unwrap().len(), 1);
    assert_eq!(world.rooms.room(&room()).await.unwrap().unwrap().members, 300);
}

#[tokio::test]
async fn a_loss_is_noticed_although_a_change_follows_at_once() {
    let world = World::new(&[]).await;
    let node = FakeNode::start(&world, 0, "node").await;
    let (first, _) = node.open("first", "c", 1).await;
    node.join(first, "room").await.unwrap();
    world.presence.flush();
    // In the same slice: its version grows by one, as if nothing was missing.
    let second = loop {
        let id = roomcast_types::SessionId::random();
        if id.slice() == first.slice() {
            break id;
        }
    };
    node.open_as(second, "second", "c", 2).await;
    eventually("the first session is back", || async {
        world.presence.sessions(&UserId::new("first").unwrap()).await.unwrap().len() == 1
    })
    .await;
}

#[tokio::test]
async fn a_session_whose_end_was_lost_goes_with_the_next_versions() {
    let world = World::new(&[]).await;
    let node = FakeNode::start(&world, 0, "node").await;
    let (session, _) = node.open("user", "c", 1).await;
    node.join(session, "room").await.unwrap();
    node.lose(session);
    eventually("the user is away", || async {
        let occupancy = world.presence.occupancy(&room()).await.unwrap();
        occupancy.online.is_empty() && occupancy.absent.len() == 1
    })
    .await;
    assert!(world.presence.sessions(&UserId::new("user").unwrap()).await.unwrap().is_empty());
}

#[tokio::test]
async fn an_idle_node_is_not_asked_for_slices() {
    let world = World::new(&[]).await;
    let node = FakeNode::start(&world, 0, "node").await;
    let (session, _) = node.open("user", "c", 1).await;
    node.join(session, "room").await.unwrap();
    node.leave(session, "room").await;
    node.close(session).await;
    let before = node.store_time_ms();
    eventually("some comparisons passed", || async { node.store_time_ms() > before + 500 }).await;
    assert_eq!(node.asked(), [0; 0]);
}

#[tokio::test]
async fn a_node_that_moves_to_another_controller_goes_on_where_it_was() {
    let mut world = World::new(&[]).await;
    world.add_controller(&[]).await;
    let mut node = FakeNode::start(&world, 0, "node").await;
    let (session, _) = node.open("user", "c", 1).await;
    node.join(session, "one").await.unwrap();
    node.report_to(&world, 1).await;
    node.join(session, "two").await.unwrap();
    for name in ["one", "two"] {
        let room = RoomId::new(name).unwrap();
        assert_eq!(world.presence.online_counts(&room).await.unwrap(), (1, 1), "{name}");
    }
    node.close(session).await;
    for name in ["one", "two"] {
        let room = RoomId::new(name).unwrap();
        assert_eq!(world.presence.online_counts(&room).await.unwrap(), (0, 0), "{name}");
    }
}

#[tokio::test]
async fn a_seat_that_the_record_lost_is_given_again() {
    let world = World::new(&[]).await;
    let node = FakeNode::start(&world, 0, "node").await;
    let (session, _) = node.open("user", "c", 1).await;
    node.join(session, "room").await.unwrap();
    world.rooms.delete(&room()).await.unwrap();
    world.presence.flush();
    eventually("the user holds a seat again", || async {
        world.rooms.seat(&room(), &UserId::new("user").unwrap()).await.unwrap().is_some()
    })
    .await;
}

#[tokio::test]
async fn a_seat_that_presence_knows_nothing_of_is_released_in_the_end() {
    let world = World::new(&[]).await;
    let node = FakeNode::start(&world, 0, "node").await;
    let (session, _) = node.open("user", "c", 1).await;
    node.join(session, "room").await.unwrap();
    node.lose(session);
    world.presence.flush();
    eventually("the audit marks the user as away", || async {
        world.presence.occupancy(&room()).await.unwrap().absent.len() == 1
    })
    .await;
    world.presence.advance(Duration::from_secs(31));
    eventually("the seat is released", || async {
        world.rooms.seat(&room(), &UserId::new("user").unwrap()).await.unwrap().is_none()
    })
    .await;
}

#[tokio::test]
async fn a_newer_stream_of_a_node_takes_the_place_of_the_older() {
    let world = World::new(&[]).await;
    let mut node = FakeNode::start(&world, 0, "node").await;
    let (session, _) = node.open("user", "c", 1).await;
    node.join(session, "one").await.unwrap();
    for name in ["two", "three", "four"] {
        node.report_to(&world, 0).await;
        node.join(session, name).await.unwrap();
    }
    node.close(session).await;
    for name in ["one", "two", "three", "four"] {
        let room = RoomId::new(name).unwrap();
        assert_eq!(world.presence.online_counts(&room).await.unwrap(), (0, 0), "{name}");
    }
    assert_eq!(world.presence.indexed_nodes().await.unwrap().len(), 1);
}

#[tokio::test]
async fn seats_of_an_earlier_run_are_found_when_a_controller_starts() {
    let mut world = World::new(&[]).await;
    let user = UserId::new("user").unwrap();
    let request = SeatRequest { user_id: user.clone(), user_name: String::new() };
    let new = NewRoom {
        max_users: 10,
        membership: Membership::Follow,
        log: LogPolicy::Recent,
        on_log_failure: OnLogFailure::Degrade,
        is_auto_created: true,
    };
    let now = world.presence.now().await.unwrap();
    world.rooms.admit(&room(), &[request], Some(new), now).await.unwrap();
    world.add_controller(&[]).await;
    eventually("the user counts as away", || async {
        world.presence.occupancy(&room()).await.unwrap().absent.len() == 1
    })
    .await;
}
