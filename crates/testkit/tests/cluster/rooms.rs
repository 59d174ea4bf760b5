//! Rooms, seats and slots as clients and business servers see them.

use roomcast_proto::pubsub::{
    CreateRoomRequest, DeleteRoomRequest, GetRoomInfoRequest, GetUserNodeRequest, KickUserRequest,
    LeaveRoomRequest,
    controller_service_client::ControllerServiceClient,
    room_card::{Log, Membership},
};
use roomcast_testkit::{Client, Cluster, eventually, outcome, ws::Incoming};
use serde_json::json;
use tonic::transport::{Channel, Endpoint};

async fn controller(cluster: &Cluster) -> ControllerServiceClient<Channel> {
    let address = format!("http://{}", cluster.controller(0).grpc_address());
    let channel = Endpoint::from_shared(address).unwrap().connect().await.expect("the controller listens");
    ControllerServiceClient::new(channel)
}

fn info(room: &str) -> GetRoomInfoRequest {
    GetRoomInfoRequest { room_id: room.into(), ..Default::default() }
}

#[tokio::test]
async fn a_full_room_refuses_by_name_and_the_session_lives() {
    let cluster = Cluster::builder().nodes(2).start().await;
    let mut rooms = controller(&cluster).await;
    let request = CreateRoomRequest { room_id: "small".into(), max_users: Some(2), ..Default::default() };
    rooms.create_room(request).await.unwrap();
    let _alice = Client::join(&cluster.ws(0), "alice", &["small"]).await;
    let _bob = Client::join(&cluster.ws(1), "bob", &["small"]).await;
    let mut carol = Client::connect(&cluster.ws(0), "carol", &["small"]).await;
    carol.frame("welcome").await;
    let error = carol.frame("error").await;
    assert_eq!((&error["code"], &error["room_id"]), (&json!("ROOM_FULL"), &json!("small")));
    assert!(error.get("id").is_none(), "a room of the URL has no request: {error}");
    // A second session of a holder takes no second seat.
    let _again = Client::join(&cluster.ws(1), "alice", &["small"]).await;
    carol.join_room("other").await;
    let found = rooms.get_room_info(info("small")).await.unwrap().into_inner();
    assert_eq!((found.member_count, found.online_count), (2, 2));
    cluster.finish().await;
}

#[tokio::test]
async fn a_deleted_room_sends_its_members_away() {
    let cluster = Cluster::builder().nodes(2).push_managers(2).start().await;
    let mut rooms = controller(&cluster).await;
    let mut alice = Client::join(&cluster.ws(0), "alice", &["room"]).await;
    let mut bob = Client::join(&cluster.ws(1), "bob", &["room"]).await;
    rooms.delete_room(DeleteRoomRequest { room_id: "room".into() }).await.unwrap();
    for client in [&mut alice, &mut bob] {
        let left = client.frame("left").await;
        assert_eq!((&left["room_id"], &left["reason"]), (&json!("room"), &json!("ROOM_DELETED")));
    }
    let body = json!({"content": {"data": "x"}});
    for manager in 0..2 {
        let (status, reply) = cluster.api(manager).post("/v1/push/room/room", body.clone()).await;
        assert_eq!((status, &reply["error"]["code"]), (410, &json!("ROOM_DELETED")), "{reply}");
    }
    alice.send(json!({"type": "join", "id": 7, "room_id": "room"})).await;
    let error = alice.frame("error").await;
    assert_eq!((&error["id"], &error["code"]), (&json!(7), &json!("ROOM_DELETED")));
    cluster.finish().await;
}

#[tokio::test]
async fn a_later_login_closes_the_earlier_one_on_another_node() {
    let cluster = Cluster::builder().nodes(2).set("server.session_policy=single").start().await;
    let mut first = Client::join(&cluster.ws(0), "alice", &["room"]).await;
    let mut second = Client::join(&cluster.ws(1), "alice", &["room"]).await;
    assert_eq!(first.closed().await, Some(4500));
    let mut users = controller(&cluster).await;
    eventually("one session is left", async || {
        let request = GetUserNodeRequest { user_id: "alice".into() };
        let found = users.clone().get_user_node(request).await.ok()?.into_inner();
        (found.sessions.len() == 1 && found.node_id == "connect-node-2").then_some(())
    })
    .await;
    cluster.api(0).push_user("alice", "still here").await;
    assert_eq!(second.push().await, "still here");
    let seats = users.get_room_info(info("room")).await.unwrap().into_inner();
    assert_eq!((seats.member_count, seats.online_count), (1, 1));
    cluster.finish().await;
}

#[tokio::test]
async fn kick_and_leave_by_request_reach_the_session() {
    let cluster = Cluster::builder().nodes(2).start().await;
    let mut server = controller(&cluster).await;
    let mut alice = Client::join(&cluster.ws(0), "alice", &["room"]).await;
    let mut bob = Client::join(&cluster.ws(1), "bob", &["room"]).await;

    let evict = LeaveRoomRequest { room_id: "room".into(), user_id: "alice".into() };
    assert!(server.leave_room(evict).await.unwrap().into_inner().left);
    assert_eq!(alice.frame("left").await["reason"], "EVICTED");
    let reply = cluster.api(0).push_room("room", "to bob").await;
    assert_eq!(outcome(&reply, "WRITTEN"), 1, "{reply}");
    assert_eq!(bob.push().await, "to bob");

    let kick = KickUserRequest { user_id: "bob".into(), room_id: "room".into(), session_id: String::new() };
    assert_eq!(server.kick_user(kick).await.unwrap().into_inner().sessions, 1);
    assert_eq!(bob.frame("left").await["reason"], "KICKED");
    let kick = KickUserRequest { user_id: "bob".into(), ..Default::default() };
    server.kick_user(kick).await.unwrap();
    assert_eq!(bob.closed().await, Some(4501));
    alice.join_room("room").await;
    cluster.finish().await;
}

#[tokio::test]
async fn a_seat_outlives_its_session_for_the_grace_and_then_is_free() {
    let cluster = Cluster::builder().nodes(2).set("room.rejoin_grace=1s").start().await;
    let mut server = controller(&cluster).await;
    for (room, membership) in [("follow", Membership::Follow), ("durable", Membership::Durable)] {
        let request = CreateRoomRequest {
            room_id: room.into(),
            max_users: Some(1),
            membership: membership.into(),
            ..CreateRoomRequest::default()
        };
        server.create_room(request).await.unwrap();
    }
    let alice = Client::join(&cluster.ws(0), "alice", &["follow", "durable"]).await;
    alice.close().await;
    eventually("the seat that follows its sessions is released", async || {
        let found = server.clone().get_room_info(info("follow")).await.ok()?.into_inner();
        (found.member_count == 0).then_some(())
    })
    .await;
    let found = server.get_room_info(info("durable")).await.unwrap().into_inner();
    assert_eq!((found.member_count, found.online_count), (1, 0), "a durable seat is kept");
    let mut bob = Client::connect(&cluster.ws(1), "bob", &["follow", "durable"]).await;
    bob.frame("welcome").await;
    // Each room of the URL is answered, in no promised order.
    for _ in 0..2 {
        match bob.next().await {
            Incoming::Frame(frame) if frame["room_id"] == "follow" => assert_eq!(frame["type"], "joined"),
            Incoming::Frame(frame) => assert_eq!(frame["code"], "ROOM_FULL", "{frame}"),
            Incoming::Closed(code) => panic!("closed with {code:?}"),
        }
    }
    cluster.finish().await;
}

#[tokio::test]
async fn presence_that_was_lost_is_rebuilt_from_the_nodes() {
    let cluster = Cluster::builder().nodes(2).start().await;
    let server = controller(&cluster).await;
    let mut clients = Vec::new();
    for user in 0..20 {
        clients.push(Client::join(&cluster.ws(user % 2), &format!("user-{user}"), &["room"]).await);
    }
    cluster.presence.flush();
    eventually("everybody is where they are", async || {
        let found = server.clone().get_room_info(info("room")).await.ok()?.into_inner();
        (found.member_count == 20 && found.online_count == 20).then_some(())
    })
    .await;
    for user in 0..20 {
        eventually("the user is found", async || {
            let request = GetUserNodeRequest { user_id: format!("user-{user}") };
            let found = server.clone().get_user_node(request).await.ok()?.into_inner();
            (found.online && found.node_id == format!("connect-node-{}", user % 2 + 1)).then_some(())
        })
        .await;
    }
    cluster.finish().await;
}

#[tokio::test]
async fn a_session_may_not_publish_and_its_bad_frames_are_named() {
    let cluster = Cluster::builder().nodes(1).start().await;
    let mut client = Client::join(&cluster.ws(0), "user", &["room"]).await;
    client.send(json!({"type": "publish", "id": 3, "room_id": "room", "content": {"data": "x"}})).await;
    let error = client.frame("error").await;
    assert_eq!((&error["id"], &error["code"]), (&json!(3), &json!("FORBIDDEN")));
    client.send(json!({"type": "leave", "id": 4, "room_id": "elsewhere"})).await;
    assert_eq!(client.frame("error").await["code"], "NOT_JOINED");
    client.send(json!({"type": "dance"})).await;
    assert_eq!(client.frame("error").await["code"], "BAD_REQUEST");
    for _ in 0..10 {
        client.send(json!([1])).await;
    }
    loop {
        match client.next().await {
            Incoming::Frame(frame) => assert_eq!(frame["code"], "BAD_REQUEST"),
            Incoming::Closed(code) => break assert_eq!(code, Some(1008)),
        }
    }
    cluster.finish().await;
}

#[tokio::test]
async fn a_durable_room_remembers_how_far_each_member_has_read() {
    let cluster = Cluster::builder().nodes(2).start().await;
    let mut rooms = controller(&cluster).await;
    let request = CreateRoomRequest {
        room_id: "room".into(),
        membership: Membership::Durable.into(),
        log: Some(Log::DurableLog.into()),
        ..Default::default()
    };
    rooms.create_room(request).await.unwrap();
    let mut alice = Client::connect(&cluster.ws(0), "alice", &["room"]).await;
    alice.frame("welcome").await;
    let joined = alice.frame("joined").await;
    assert!(joined.get("read_offset").is_none(), "{joined}");
    let mut ids = Vec::new();
    for data in ["one", "two", "three"] {
        let body = json!({"content": {"data": data}, "options": {"ack": true}});
        let (status, reply) = cluster.api(0).post("/v1/push/room/room", body).await;
        assert_eq!((status, &reply["logged"]), (200, &json!(true)), "{reply}");
        ids.push(alice.frame("push").await["message_id"].clone());
    }
    alice.send(json!({"type": "ack", "message_ids": ids[..2]})).await;
    let read = async || {
        let found = rooms.clone().get_room_info(info("room")).await.unwrap().into_inner();
        found.members.into_iter().map(|member| (member.read_epoch, member.read_offset)).next()
    };
    let epoch = joined["epoch"].as_str().unwrap().to_owned();
    eventually("the controller was told", || async {
        (read().await == Some((epoch.clone(), 2))).then_some(())
    })
    .await;
    drop(alice);
    let mut again = Client::connect(&cluster.ws(1), "alice", &["room"]).await;
    again.frame("welcome").await;
    let joined = again.frame("joined").await;
    assert_eq!((&joined["read_offset"], &joined["offset"]), (&json!(2), &json!(3)), "{joined}");
    // Another life of the log: what was read of the former one says nothing.
    cluster.durable_log.flush();
    drop(again);
    let (status, _) = cluster.api(0).post("/v1/push/room/room", json!({"content": {"data": "anew"}})).await;
    assert_eq!(status, 200);
    let mut bob = Client::connect(&cluster.ws(0), "alice", &["room"]).await;
    bob.frame("welcome").await;
    let joined = bob.frame("joined").await;
    assert!(joined.get("read_offset").is_none() && joined["epoch"] != json!(epoch), "{joined}");
    cluster.finish().await;
}
