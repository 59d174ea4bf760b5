//! Who gets a seat.

use std::collections::HashSet;

use roomcast_proto::pubsub::{
    ChangeResult, CreateRoomRequest, JoinRoomRequest, change_result::Result as Answer,
};
use roomcast_store::{Presence, Rooms};
use roomcast_types::{RoomId, SessionId, UserId};

use super::{node::FakeNode, world::World};

fn is_joined(result: &ChangeResult) -> bool {
    matches!(result.result, Some(Answer::Joined(_)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_that_race_through_two_controllers_into_fifty_seats_get_exactly_fifty() {
    let mut world = World::new(&["room.default_max_users=50"]).await;
    world.add_controller(&["room.default_max_users=50"]).await;
    let (a, b) = (FakeNode::start(&world, 0, "node-a").await, FakeNode::start(&world, 1, "node-b").await);
    let joins = |sessions: Vec<SessionId>| -> Vec<(SessionId, String)> {
        sessions.into_iter().map(|session| (session, "room".to_owned())).collect()
    };
    let of_a = joins(a.open_all((0..100).map(|number| format!("a-{number}"))).await);
    let of_b = joins(b.open_all((0..100).map(|number| format!("b-{number}"))).await);
    let (of_a, of_b) = tokio::join!(a.join_all(&of_a), b.join_all(&of_b));
    let admitted = of_a.iter().chain(&of_b).filter(|result| is_joined(result)).count();
    assert_eq!(admitted, 50);
    let refused: HashSet<String> = of_a
        .iter()
        .chain(&of_b)
        .filter_map(|result| match &result.result {
            Some(Answer::Error(error)) => Some(format!("{}: {}", error.code, error.message)),
            _ => None,
        })
        .collect();
    assert_eq!(refused, HashSet::from(["ROOM_FULL: room room has 50 of 50 seats taken".to_owned()]));
    let room = RoomId::new("room").unwrap();
    assert_eq!(world.rooms.room(&room).await.unwrap().unwrap().members, 50);
    assert_eq!(world.presence.online_counts(&room).await.unwrap(), (50, 50));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn joins_that_wait_together_share_transactions() {
    let world = World::new(&["room.default_max_users=1000", "server.join_batch_max=100"]).await;
    let node = FakeNode::start(&world, 0, "node").await;
    let sessions = node.open_all((0..1_000).map(|number| format!("user-{number}"))).await;
    let before = world.rooms.counters().transactions;
    let joins: Vec<_> = sessions.into_iter().map(|session| (session, "room".to_owned())).collect();
    assert!(node.join_all(&joins).await.iter().all(is_joined));
    let transactions = world.rooms.counters().transactions - before;
    assert!(transactions < 40, "{transactions} transactions for 1000 joins");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn joins_to_many_rooms_share_transactions_and_a_full_room_harms_no_other() {
    const ROOMS: usize = 100;
    let world = World::new(&["room.default_max_users=1000"]).await;
    let mut client = world.client().await;
    for number in 0..ROOMS {
        let max_users = Some(if number % 2 == 0 { 3 } else { 1_000 });
        let request =
            CreateRoomRequest { room_id: format!("room-{number}"), max_users, ..Default::default() };
        client.create_room(request).await.unwrap();
    }
    let node = FakeNode::start(&world, 0, "node").await;
    let sessions = node.open_all((0..1_000).map(|number| format!("user-{number}"))).await;
    let before = world.rooms.counters().transactions;
    let joins: Vec<_> = sessions
        .into_iter()
        .enumerate()
        .map(|(number, session)| (session, format!("room-{}", number % ROOMS)))
        .collect();
    let results = node.join_all(&joins).await;
    let transactions = world.rooms.counters().transactions - before;
    assert!(transactions < 40, "{transactions} transactions for 1000 joins to {ROOMS} rooms");
    assert_eq!(results.iter().filter(|result| is_joined(result)).count(), 50 * 3 + 50 * 10);
    for number in 0..ROOMS {
        let room = RoomId::new(format!("room-{number}")).unwrap();
        let wanted = if number % 2 == 0 { 3 } else { 10 };
        assert_eq!(world.rooms.room(&room).await.unwrap().unwrap().members, wanted, "{room}");
        assert_eq!(world.presence.online_counts(&room).await.unwrap(), (wanted, wanted), "{room}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn first_joins_to_new_rooms_that_come_together_create_each_once() {
    let world = World::new(&[]).await;
    let node = FakeNode::start(&world, 0, "node").await;
    let sessions = node.open_all((0..200).map(|number| format!("user-{number}"))).await;
    let joins: Vec<_> = sessions
        .into_iter()
        .enumerate()
        .map(|(number, session)| (session, format!("room-{}", number % 20)))
        .collect();
    assert!(node.join_all(&joins).await.iter().all(is_joined));
    for number in 0..20 {
        let room = RoomId::new(format!("room-{number}")).unwrap();
        assert_eq!(world.rooms.room(&room).await.unwrap().unwrap().members, 10);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_herd_of_holders_comes_back_while_the_record_stands_still() {
    let world = World::new(&["room.default_max_users=1000"]).await;
    let node = FakeNode::start(&world, 0, "node").await;
    let herd = async || -> Vec<(SessionId, String)> {
        let sessions = node.open_all((0..500).map(|number| format!("user-{number}"))).await;
        let place = |(number, session)| (session, format!("room-{}", number % 10));
        sessions.into_iter().enumerate().map(place).collect()
    };
    assert!(node.join_all(&herd().await).await.iter().all(is_joined));
    let again = herd().await;
    world.slow_rooms.stall();
    assert!(node.join_all(&again).await.iter().all(is_joined), "a seat that is held costs no SQL");
    world.slow_rooms.go_on();
}

#[tokio::test]
async fn joining_again_needs_no_transaction() {
    let world = World::new(&[]).await;
    let node = FakeNode::start(&world, 0, "node").await;
    let (first, _) = node.open("user", "c1", 1).await;
    let (second, _) = node.open("user", "c2", 2).await;
    let joined = node.join(first, "room").await.unwrap();
    assert_eq!((joined.members, joined.card.clone().unwrap().max_users), (1, 100));
    let before = world.rooms.counters().transactions;
    assert_eq!(node.join(second, "room").await.unwrap(), joined);
    assert_eq!(node.join(first, "room").await.unwrap(), joined);
    assert_eq!(world.rooms.counters().transactions, before);
}

#[tokio::test]
async fn without_auto_create_an_unknown_room_is_not_found() {
    let world = World::new(&["room.auto_create=false"]).await;
    let node = FakeNode::start(&world, 0, "node").await;
    let (session, _) = node.open("user", "c", 1).await;
    let refused = node.join(session, "room").await.unwrap_err();
    assert_eq!((refused.code.as_str(), refused.retry_after_ms), ("NOT_FOUND", 0));
}

#[tokio::test]
async fn without_presence_the_record_still_admits_and_reports_repair_presence() {
    let world = World::new(&[]).await;
    let node = FakeNode::start(&world, 0, "node").await;
    let (session, _) = node.open("user", "c", 1).await;
    world.presence.set_available(false);
    node.join(session, "room").await.unwrap();
    world.presence.set_available(true);
    let room = RoomId::new("room").unwrap();
    super::world::eventually("the session is in the room's presence", || async {
        world.presence.online_counts(&room).await.unwrap() == (1, 1)
    })
    .await;
}

#[tokio::test]
async fn without_the_record_holders_rejoin_and_others_hear_when_to_come_again() {
    let world = World::new(&[]).await;
    let node = FakeNode::start(&world, 0, "node").await;
    let (first, _) = node.open("holder", "c1", 1).await;
    node.join(first, "room").await.unwrap();
    world.rooms.set_available(false);
    let (second, _) = node.open("holder", "c2", 2).await;
    node.join(second, "room").await.unwrap();
    let (other, _) = node.open("other", "c", 3).await;
    let started = std::time::Instant::now();
    let refused = node.join(other, "room").await.unwrap_err();
    assert!(started.elapsed() < std::time::Duration::from_secs(1));
    assert_eq!(refused.code, "UNAVAILABLE");
    assert!(refused.retry_after_ms > 0);
    world.rooms.set_available(true);
    node.join(other, "room").await.unwrap();
}

#[tokio::test]
async fn a_seat_without_a_session_is_kept_for_the_grace() {
    let world = World::new(&[]).await;
    let mut client = world.client().await;
    let request =
        JoinRoomRequest { room_id: "room".into(), user_id: "user".into(), user_name: "Ursula".into() };
    assert_eq!(client.join_room(request).await.unwrap().into_inner().members, 1);
    let (room, user) = (RoomId::new("room").unwrap(), UserId::new("user").unwrap());
    assert_eq!(world.presence.occupancy(&room).await.unwrap().absent.len(), 1);
    world.presence.advance(std::time::Duration::from_secs(31));
    super::world::eventually("the seat is released", || async {
        world.rooms.seat(&room, &user).await.unwrap().is_none()
    })
    .await;
}
