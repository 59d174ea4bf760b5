//! Cards: creation, changes, deletion, and who hears of them.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use roomcast_proto::pubsub::{
    BroadcastRequest, CreateRoomRequest, DeleteRoomRequest, GetRoomInfoRequest, GetRoomStatsRequest,
    ListRoomsRequest, PushReply, PushToRoomRequest, PushToUserRequest, PushToUsersRequest, RoomCard,
    RoomChangedReply, RoomChangedRequest, UpdateRoomRequest,
    push_manager_service_server::{PushManagerService, PushManagerServiceServer},
    room_card::State as CardState,
};
use roomcast_registry::{Member, Registration, Role, State};
use roomcast_store::{Presence, Rooms};
use roomcast_types::{Incarnation, RoomId, ServiceId, SessionId, UserId};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Code, Request, Response, Status};

use super::{
    node::FakeNode,
    world::{World, eventually},
};

/// A push-manager that remembers what it is told.
struct FakePusher {
    told: Arc<Mutex<Vec<RoomCard>>>,
    _member: Member,
    _server: JoinSet<()>,
}

struct Service(Arc<Mutex<Vec<RoomCard>>>);

#[tonic::async_trait]
impl PushManagerService for Service {
    async fn push_to_room(&self, _: Request<PushToRoomRequest>) -> Result<Response<PushReply>, Status> {
        Err(Status::internal("not asked in these tests"))
    }
    async fn push_to_user(&self, _: Request<PushToUserRequest>) -> Result<Response<PushReply>, Status> {
        Err(Status::internal("not asked in these tests"))
    }
    async fn push_to_users(&self, _: Request<PushToUsersRequest>) -> Result<Response<PushReply>, Status> {
        Err(Status::internal("not asked in these tests"))
    }
    async fn broadcast(&self, _: Request<BroadcastRequest>) -> Result<Response<PushReply>, Status> {
        Err(Status::internal("not asked in these tests"))
    }
    async fn room_changed(
        &self,
        request: Request<RoomChangedRequest>,
    ) -> Result<Response<RoomChangedReply>, Status> {
        self.0.lock().unwrap().extend(request.into_inner().card);
        Ok(Response::new(RoomChangedReply {}))
    }
}

impl FakePusher {
    async fn start(world: &World, id: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let registration = Registration {
            role: Role::PushManager,
            id: ServiceId::new(id).unwrap(),
            grpc_address: listener.local_addr().unwrap().to_string(),
            url: String::new(),
            incarnation: Incarnation::random(),
            state: State::Ready,
        };
        let told = Arc::default();
        let service = PushManagerServiceServer::new(Service(Arc::clone(&told)));
        let mut server = JoinSet::new();
        server.spawn(async move {
            let serving = tonic::transport::Server::builder().add_service(service);
            serving.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap();
        });
        let member =
            Member::join(world.registry.clone(), registration, Duration::from_secs(5)).await.unwrap();
        Self { told, _member: member, _server: server }
    }

    fn told(&self) -> Vec<RoomCard> {
        self.told.lock().unwrap().clone()
    }
}

fn create(room: &str) -> CreateRoomRequest {
    CreateRoomRequest {
        room_id: room.into(),
        max_users: Some(2),
        membership: 0,
        ..CreateRoomRequest::default()
    }
}

fn info(room: &str) -> GetRoomInfoRequest {
    GetRoomInfoRequest { room_id: room.into(), ..Default::default() }
}

fn delete(room: &str) -> DeleteRoomRequest {
    DeleteRoomRequest { room_id: room.into() }
}

#[tokio::test]
async fn a_changed_card_reaches_every_push_manager() {
    let world = World::new(&[]).await;
    let pushers = [FakePusher::start(&world, "p1").await, FakePusher::start(&world, "p2").await];
    let mut client = world.client().await;
    let created = client.create_room(create("room")).await.unwrap().into_inner();
    let again = client.create_room(create("room")).await.unwrap_err();
    assert_eq!(again.code(), Code::AlreadyExists);
    let update = UpdateRoomRequest {
        room_id: "room".into(),
        max_users: Some(7),
        membership: None,
        ..UpdateRoomRequest::default()
    };
    eventually("both push-managers hear of changes", || {
        let (mut client, update) = (client.clone(), update.clone());
        let pushers = &pushers;
        async move {
            let updated = client.update_room(update).await.unwrap().into_inner();
            assert_eq!(updated.max_users, 7);
            pushers.iter().all(|pusher| pusher.told().last() == Some(&updated))
        }
    })
    .await;
    assert!(pushers[0].told().last().unwrap().version > created.version);
}

#[tokio::test]
async fn a_deleted_room_answers_so_for_a_while_and_is_then_unknown() {
    let world = World::new(&[]).await;
    let pusher = FakePusher::start(&world, "p1").await;
    let node = FakeNode::start(&world, 0, "node").await;
    let (session, _) = node.open("user", "c", 1).await;
    node.join(session, "room").await.unwrap();
    let mut client = world.client().await;
    assert_eq!(client.delete_room(delete("room")).await.unwrap().into_inner().members, 1);
    let gone = client.get_room_info(info("room")).await.unwrap_err();
    assert_eq!(gone.code(), Code::FailedPrecondition);
    assert!(gone.message().starts_with("ROOM_DELETED: "), "{gone}");
    assert_eq!(node.join(session, "room").await.unwrap_err().code, "ROOM_DELETED");
    assert_eq!(client.delete_room(delete("room")).await.unwrap_err().code(), Code::FailedPrecondition);
    eventually("the push-manager hears of the deletion", || async {
        pusher.told().last().is_some_and(|card| card.state() == CardState::Deleted)
    })
    .await;
    world.presence.advance(Duration::from_secs(61));
    let unknown = client.get_room_info(info("room")).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
    let joined = node.join(session, "room").await.unwrap();
    let version = pusher.told().last().unwrap().version;
    assert!(joined.card.unwrap().version > version, "a room of the same name starts above the deletion");
}

#[tokio::test]
async fn an_id_that_was_deleted_may_be_created_again_by_request() {
    let world = World::new(&[]).await;
    let mut client = world.client().await;
    client.create_room(create("room")).await.unwrap();
    client.delete_room(delete("room")).await.unwrap();
    client.create_room(create("room")).await.unwrap();
    client.get_room_info(info("room")).await.unwrap();
}

#[tokio::test]
async fn a_room_that_only_presence_knows_can_be_deleted() {
    let world = World::new(&[]).await;
    let mut client = world.client().await;
    let (room, user) = (RoomId::new("ghost").unwrap(), UserId::new("user").unwrap());
    world.presence.enter(&room, &user, SessionId::random()).await.unwrap();
    client.delete_room(delete("ghost")).await.unwrap();
    assert_eq!(world.presence.online_counts(&room).await.unwrap(), (0, 0));
    assert_eq!(client.delete_room(delete("never")).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn a_room_created_by_request_is_kept_when_empty() {
    let world = World::new(&["room.empty_ttl=1s"]).await;
    let mut client = world.client().await;
    client.create_room(create("kept")).await.unwrap();
    let node = FakeNode::start(&world, 0, "node").await;
    let (session, _) = node.open("user", "c", 1).await;
    node.join(session, "passing").await.unwrap();
    node.leave(session, "passing").await;
    world.presence.advance(Duration::from_secs(5));
    let passing = RoomId::new("passing").unwrap();
    eventually("the other room is gone", || async { world.rooms.room(&passing).await.unwrap().is_none() })
        .await;
    client.get_room_info(info("kept")).await.unwrap();
}

#[tokio::test]
async fn rooms_and_members_come_in_pages() {
    let world = World::new(&[]).await;
    let node = FakeNode::start(&world, 0, "node").await;
    for number in 0..5 {
        let (session, _) = node.open(&format!("user-{number}"), "c", 1).await;
        node.join(session, "room").await.unwrap();
        node.join(session, &format!("room-{number}")).await.unwrap();
    }
    let mut client = world.client().await;
    let (mut token, mut members) = (String::new(), Vec::new());
    loop {
        let request = GetRoomInfoRequest { page_size: 2, page_token: token, ..info("room") };
        let page = client.get_room_info(request).await.unwrap().into_inner();
        assert_eq!((page.member_count, page.online_count), (5, 5));
        members.extend(page.members.into_iter().map(|member| (member.user_id, member.sessions)));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    let expected: Vec<_> = (0..5).map(|number| (format!("user-{number}"), 1)).collect();
    assert_eq!(members, expected);
    let (mut token, mut pages) = (String::new(), Vec::new());
    loop {
        let request = ListRoomsRequest { page_size: 4, page_token: token };
        let page = client.list_rooms(request).await.unwrap().into_inner();
        pages.push(page.rooms.len());
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(pages, [4, 2]);
    let stats = client.get_room_stats(GetRoomStatsRequest::default()).await.unwrap().into_inner();
    assert_eq!((stats.rooms, stats.members, stats.online_members), (6, 10, 10));
    assert_eq!((stats.sessions, stats.nodes), (5, 1));
    let one = GetRoomStatsRequest { room_id: "room".into() };
    let stats = client.get_room_stats(one).await.unwrap().into_inner();
    assert_eq!((stats.rooms, stats.members, stats.online_members, stats.sessions), (1, 5, 5, 5));
}

#[tokio::test]
async fn a_push_manager_that_is_away_does_not_hold_up_a_change() {
    let world = World::new(&[]).await;
    let near = FakePusher::start(&world, "near").await;
    // Takes connections and answers nothing, as a frozen process does.
    let frozen = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let registration = Registration {
        role: Role::PushManager,
        id: ServiceId::new("frozen").unwrap(),
        grpc_address: frozen.local_addr().unwrap().to_string(),
        url: String::new(),
        incarnation: Incarnation::random(),
        state: State::Ready,
    };
    let _member = Member::join(world.registry.clone(), registration, Duration::from_secs(5)).await.unwrap();
    let mut client = world.client().await;
    client.create_room(create("room")).await.unwrap();
    eventually("both push-managers are known, and the one that answers is told in time", || {
        let mut client = client.clone();
        let (near, world) = (&near, &world);
        async move {
            let update = UpdateRoomRequest {
                room_id: "room".into(),
                max_users: Some(7),
                membership: None,
                ..UpdateRoomRequest::default()
            };
            let started = std::time::Instant::now();
            let updated = client.update_room(update).await.unwrap().into_inner();
            assert!(started.elapsed() < Duration::from_secs(3));
            near.told().last() == Some(&updated)
                && world.metrics().lines().any(|line| {
                    line.starts_with("pubsub_controller_room_notices_failed_total ") && !line.ends_with(" 0")
                })
        }
    })
    .await;
}
