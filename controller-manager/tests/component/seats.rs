//! How long seats last.

use std::time::Duration;

use roomcast_proto::pubsub::{
    CreateRoomRequest, GetRoomInfoRequest, LeaveRoomRequest, UpdateRoomRequest, kick_request::Reason,
    room_card::Membership,
};
use roomcast_store::{Presence, Rooms};
use roomcast_types::{RoomId, UserId};

use super::{
    node::FakeNode,
    world::{World, eventually},
};

const PAST_THE_GRACE: Duration = Duration::from_secs(31);

fn room() -> RoomId {
    RoomId::new("room").unwrap()
}

fn user(id: &str) -> UserId {
    UserId::new(id).unwrap()
}

async fn holds_seat(world: &World, id: &str) -> bool {
    world.rooms.seat(&room(), &user(id)).await.unwrap().is_some()
}

#[tokio::test]
async fn a_seat_is_released_after_the_grace_and_not_after_a_rejoin() {
    let world = World::new(&[]).await;
    let node = FakeNode::start(&world, 0, "node").await;
    let (gone, _) = node.open("gone", "c", 1).await;
    let (back, _) = node.open("back", "c", 1).await;
    node.join(gone, "room").await.unwrap();
    node.join(back, "room").await.unwrap();
    node.close(gone).await;
    node.close(back).await;
    assert!(holds_seat(&world, "gone").await && holds_seat(&world, "back").await);
    let (again, _) = node.open("back", "c", 2).await;
    node.join(again, "room").await.unwrap();
    world.presence.advance(PAST_THE_GRACE);
    eventually("the seat of who stayed away is released", || async { !holds_seat(&world, "gone").await })
        .await;
    assert!(holds_seat(&world, "back").await);
    let mut client = world.client().await;
    eventually("the number of members is corrected", || {
        let mut client = client.clone();
        async move {
            let request =
                GetRoomInfoRequest { room_id: "room".into(), card_only: true, ..Default::default() };
            client.get_room_info(request).await.unwrap().into_inner().member_count == 1
        }
    })
    .await;
    let info = GetRoomInfoRequest { room_id: "room".into(), ..Default::default() };
    let info = client.get_room_info(info).await.unwrap().into_inner();
    assert_eq!((info.member_count, info.online_count, info.members.len()), (1, 1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_room_that_went_away_is_released_in_few_transactions() {
    let world = World::new(&["room.default_max_users=2000"]).await;
    let node = FakeNode::start(&world, 0, "node").await;
    let sessions = node.open_all((0..1_500).map(|number| format!("user-{number}"))).await;
    let joins: Vec<_> = sessions.iter().map(|session| (*session, "room".to_owned())).collect();
    node.join_all(&joins).await;
    for session in &sessions {
        node.close(*session).await;
    }
    let before = world.rooms.counters().transactions;
    world.presence.advance(PAST_THE_GRACE);
    eventually("every seat is released", || async {
        world.rooms.room(&room()).await.unwrap().is_none_or(|row| row.members == 0)
    })
    .await;
    let transactions = world.rooms.counters().transactions - before;
    assert!(transactions < 20, "{transactions} transactions for 1500 seats");
}

#[tokio::test]
async fn a_durable_seat_is_kept_until_an_explicit_leave() {
    let world = World::new(&[]).await;
    let mut client = world.client().await;
    let create = CreateRoomRequest {
        room_id: "room".into(),
        max_users: None,
        membership: Membership::Durable.into(),
        ..CreateRoomRequest::default()
    };
    client.create_room(create).await.unwrap();
    let node = FakeNode::start(&world, 0, "node").await;
    let (away, _) = node.open("away", "c", 1).await;
    let (leaves, _) = node.open("leaves", "c", 1).await;
    let (follower, _) = node.open("follower", "c", 1).await;
    node.join(away, "room").await.unwrap();
    node.join(leaves, "room").await.unwrap();
    node.join(follower, "other").await.unwrap();
    node.close(away).await;
    node.close(follower).await;
    node.leave(leaves, "room").await;
    assert!(!holds_seat(&world, "leaves").await);
    world.presence.advance(PAST_THE_GRACE);
    let other = RoomId::new("other").unwrap();
    eventually("a seat of another room is released", || async {
        world.rooms.seat(&other, &user("follower")).await.unwrap().is_none()
    })
    .await;
    assert!(holds_seat(&world, "away").await);
}

#[tokio::test]
async fn a_room_that_stops_being_durable_lets_go_of_who_is_away() {
    let world = World::new(&[]).await;
    let mut client = world.client().await;
    let durable = Membership::Durable.into();
    let create = CreateRoomRequest {
        room_id: "room".into(),
        max_users: None,
        membership: durable,
        ..CreateRoomRequest::default()
    };
    client.create_room(create).await.unwrap();
    let node = FakeNode::start(&world, 0, "node").await;
    let (session, _) = node.open("away", "c", 1).await;
    node.join(session, "room").await.unwrap();
    node.close(session).await;
    let follow = Some(Membership::Follow.into());
    let update = UpdateRoomRequest {
        room_id: "room".into(),
        max_users: None,
        membership: follow,
        ..UpdateRoomRequest::default()
    };
    client.update_room(update).await.unwrap();
    eventually("the absence is due", || async {
        world.presence.advance(PAST_THE_GRACE);
        !holds_seat(&world, "away").await
    })
    .await;
}

#[tokio::test]
async fn leaving_with_one_of_two_sessions_keeps_the_seat() {
    let world = World::new(&[]).await;
    let node = FakeNode::start(&world, 0, "node").await;
    let (first, _) = node.open("user", "c1", 1).await;
    let (second, _) = node.open("user", "c2", 2).await;
    node.join(first, "room").await.unwrap();
    node.join(second, "room").await.unwrap();
    node.leave(first, "room").await;
    assert!(holds_seat(&world, "user").await);
    node.leave(second, "room").await;
    assert!(!holds_seat(&world, "user").await);
    assert!(world.presence.occupancy(&room()).await.unwrap().absent.is_empty());
}

#[tokio::test]
async fn taking_a_seat_away_evicts_the_sessions() {
    let world = World::new(&[]).await;
    let node = FakeNode::start(&world, 0, "node").await;
    let (session, _) = node.open("user", "c", 1).await;
    node.join(session, "room").await.unwrap();
    let mut client = world.client().await;
    let leave = LeaveRoomRequest { room_id: "room".into(), user_id: "user".into() };
    assert!(client.leave_room(leave.clone()).await.unwrap().into_inner().left);
    eventually("the node is told", || async { !node.kicks().is_empty() }).await;
    let kick = node.kicks().remove(0);
    assert_eq!((kick.reason(), kick.room_id.as_str()), (Reason::Evicted, "room"));
    assert!(!holds_seat(&world, "user").await);
    assert!(!client.leave_room(leave).await.unwrap().into_inner().left, "the second time is no error");
}

#[tokio::test]
async fn a_room_that_a_join_created_goes_when_it_stays_empty() {
    let world = World::new(&["room.empty_ttl=1s"]).await;
    let node = FakeNode::start(&world, 0, "node").await;
    let (session, _) = node.open("user", "c", 1).await;
    node.join(session, "room").await.unwrap();
    node.leave(session, "room").await;
    world.presence.advance(Duration::from_secs(2));
    eventually("the room is gone", || async { world.rooms.room(&room()).await.unwrap().is_none() }).await;
    let mut client = world.client().await;
    let info = GetRoomInfoRequest { room_id: "room".into(), card_only: true, ..Default::default() };
    eventually("its card is gone", || {
        let (mut client, info) = (client.clone(), info.clone());
        async move {
            client.get_room_info(info).await.is_err_and(|error| error.message().starts_with("NOT_FOUND"))
        }
    })
    .await;
    assert_eq!(node.join(session, "room").await.unwrap().members, 1, "a join creates it anew");
    client.get_room_info(info).await.unwrap();
}
