//! Stores that are away, or hang: what is still answered, how soon, and what is right again when they are back.

use std::time::{Duration, Instant};

use roomcast_proto::pubsub::{
    ChangeResult, DeleteRoomRequest, GetRoomInfoRequest, GetRoomStatsRequest, GetUserNodeRequest,
    JoinRoomRequest, ListSessionsRequest, change_result::Result as Answer,
};
use roomcast_store::{Presence, Rooms};
use roomcast_types::{RoomId, UserId};

use super::{
    node::FakeNode,
    world::{World, eventually},
};

/// Every answer comes within a second; a machine that runs other tests may add as much again and more.
const PROMPT: Duration = Duration::from_secs(5);

fn room() -> RoomId {
    RoomId::new("room").unwrap()
}

fn user(id: &str) -> UserId {
    UserId::new(id).unwrap()
}

fn info(room: &str) -> GetRoomInfoRequest {
    GetRoomInfoRequest { room_id: room.into(), ..Default::default() }
}

fn code(result: &ChangeResult) -> &str {
    match &result.result {
        Some(Answer::Joined(_)) => "JOINED",
        Some(Answer::Error(error)) => {
            assert!(error.retry_after_ms > 0, "{error:?}");
            &error.code
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_hangs_keeps_no_join_waiting_and_piles_up_no_calls() {
    let world = World::new(&["room.default_max_users=10000"]).await;
    let node = FakeNode::start(&world, 0, "node").await;
    let sessions = node.open_all((0..2_000).map(|number| format!("user-{number}"))).await;
    world.slow_rooms.stall();
    for _ in 0..3 {
        let joins: Vec<_> = sessions
            .iter()
            .enumerate()
            .map(|(number, session)| (*session, format!("room-{}", number % 200)))
            .collect();
        let started = Instant::now();
        let results = node.join_all(&joins).await;
        assert!(started.elapsed() < PROMPT, "{:?}", started.elapsed());
        assert!(results.iter().all(|result| code(result) == "UNAVAILABLE"));
        assert!(world.slow_rooms.waiting() < 100, "{} calls wait", world.slow_rooms.waiting());
    }
    world.slow_rooms.go_on();
    eventually("joins go on", || async { node.join(sessions[0], "room").await.is_ok() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_presence_that_hangs_keeps_no_join_waiting_and_is_made_right_afterwards() {
    let world = World::new(&["room.default_max_users=10000"]).await;
    let node = FakeNode::start(&world, 0, "node").await;
    let sessions = node.open_all((0..500).map(|number| format!("user-{number}"))).await;
    let joins: Vec<_> = sessions.iter().map(|session| (*session, "room".to_owned())).collect();
    world.slow_presence.stall();
    let started = Instant::now();
    let results = node.join_all(&joins).await;
    assert!(started.elapsed() < PROMPT, "{:?}", started.elapsed());
    assert!(results.iter().all(|result| code(result) == "JOINED"), "the record decides alone");
    assert_eq!(world.rooms.room(&room()).await.unwrap().unwrap().members, 500);
    eventually("it shows", || async {
        world.metrics().contains("pubsub_controller_store_refusing{store=\"presence\"} 1")
    })
    .await;
    world.slow_presence.go_on();
    eventually("everybody is in the room's presence", || async {
        world.presence.online_counts(&room()).await.unwrap() == (500, 500)
    })
    .await;
}

#[tokio::test]
async fn without_presence_replies_say_so() {
    let world = World::new(&[]).await;
    let node = FakeNode::start(&world, 0, "node").await;
    let (session, _) = node.open("ann", "c", 1).await;
    node.join(session, "room").await.unwrap();
    let mut client = world.client().await;
    assert_eq!(client.get_room_info(info("room")).await.unwrap().into_inner().degraded, [""; 0]);
    world.presence.set_available(false);
    let away = ["PRESENCE_UNAVAILABLE"];
    let reply = client.get_room_info(info("room")).await.unwrap().into_inner();
    assert_eq!((reply.member_count, reply.online_count, reply.members.len()), (1, 0, 1));
    assert_eq!(reply.degraded, away);
    let request = GetRoomInfoRequest { card_only: true, ..info("room") };
    assert_eq!(client.get_room_info(request).await.unwrap().into_inner().degraded, away);
    let stats = client.get_room_stats(GetRoomStatsRequest::default()).await.unwrap().into_inner();
    assert_eq!((stats.members, stats.sessions, stats.degraded), (1, 0, away.map(String::from).to_vec()));
    let join = JoinRoomRequest { room_id: "room".into(), user_id: "bob".into(), user_name: String::new() };
    let reply = client.join_room(join).await.unwrap().into_inner();
    assert_eq!((reply.members, reply.degraded), (2, away.map(String::from).to_vec()));
    let place =
        client.get_user_node(GetUserNodeRequest { user_id: "ann".into() }).await.unwrap().into_inner();
    assert_eq!((place.online, place.node_id.as_str(), place.sessions.len()), (true, "node", 1));
    assert_eq!(place.degraded, away);
    let nobody = client.get_user_node(GetUserNodeRequest { user_id: "bob".into() }).await.unwrap_err();
    assert!(nobody.message().starts_with("UNAVAILABLE: "), "nobody can say that bob is offline: {nobody}");
    let list = ListSessionsRequest { node_id: "node".into(), ..Default::default() };
    let listed = client.list_sessions(list).await.unwrap().into_inner();
    assert_eq!((listed.sessions.len(), listed.sessions[0].room_ids.clone()), (1, vec!["room".to_owned()]));
    assert_eq!(listed.degraded, away);
}

#[tokio::test]
async fn without_the_record_a_rooms_info_comes_from_presence() {
    let world = World::new(&[]).await;
    let node = FakeNode::start(&world, 0, "node").await;
    for name in ["ann", "bob"] {
        let (session, _) = node.open(name, "c", 1).await;
        node.join(session, "room").await.unwrap();
    }
    world.rooms.set_available(false);
    let mut client = world.client().await;
    let mut request = GetRoomInfoRequest { page_size: 1, ..info("room") };
    let first = client.get_room_info(request.clone()).await.unwrap().into_inner();
    assert_eq!((first.member_count, first.online_count, first.created_at_ms), (2, 2, 0));
    assert_eq!((first.members[0].user_id.as_str(), first.members[0].online), ("ann", true));
    assert_eq!(first.degraded, ["RECORD_UNAVAILABLE"]);
    request.page_token = first.next_page_token;
    let second = client.get_room_info(request).await.unwrap().into_inner();
    assert_eq!((second.members[0].user_id.as_str(), second.next_page_token.as_str()), ("bob", ""));
    let unknown = client.get_room_info(info("other")).await.unwrap_err();
    assert!(unknown.message().starts_with("UNAVAILABLE: "), "{unknown}");
    let stats = client.get_room_stats(GetRoomStatsRequest::default()).await.unwrap().into_inner();
    assert_eq!((stats.online_members, stats.sessions, stats.members), (2, 2, 0));
    assert_eq!(stats.degraded, ["RECORD_UNAVAILABLE"]);
}

#[tokio::test]
async fn a_leave_without_the_record_is_done_when_it_is_back() {
    let world = World::new(&[]).await;
    let node = FakeNode::start(&world, 0, "node").await;
    let (session, _) = node.open("ann", "c", 1).await;
    node.join(session, "room").await.unwrap();
    world.rooms.set_available(false);
    node.leave(session, "room").await;
    assert_eq!(world.presence.online_counts(&room()).await.unwrap(), (0, 0));
    world.rooms.set_available(true);
    eventually("the seat is released", || async {
        world.rooms.seat(&room(), &user("ann")).await.unwrap().is_none()
    })
    .await;
}

#[tokio::test]
async fn a_room_deleted_without_presence_stays_deleted_and_is_buried_later() {
    let world = World::new(&[]).await;
    let node = FakeNode::start(&world, 0, "node").await;
    let (session, _) = node.open("ann", "c", 1).await;
    node.join(session, "room").await.unwrap();
    world.presence.set_available(false);
    let mut client = world.client().await;
    client.delete_room(DeleteRoomRequest { room_id: "room".into() }).await.unwrap();
    assert_eq!(node.join(session, "room").await.unwrap_err().code, "ROOM_DELETED");
    world.presence.set_available(true);
    eventually("presence knows", || async {
        matches!(
            world.presence.card(&room()).await.unwrap(),
            roomcast_store::presence::CardEntry::Buried { .. }
        )
    })
    .await;
}

#[tokio::test]
async fn a_controller_whose_stores_hang_still_gives_signs_of_life() {
    let world = World::new(&[]).await;
    let node = FakeNode::start(&world, 0, "node").await;
    world.slow_presence.stall();
    world.slow_rooms.stall();
    let before = node.replies();
    eventually("several replies", || async { node.replies() >= before + 4 }).await;
}
