//! Requests as such: bad input, nodes, kicks, start and stop.

use std::{sync::Arc, time::Duration};

use roomcast_proto::pubsub::{
    CreateRoomRequest, GetRoomInfoRequest, GetUserNodeRequest, JoinRoomRequest, KickUserRequest,
    ListNodesRequest, ListRoomsRequest, ListSessionsRequest, NodeReport, SelectConnectNodeRequest,
    UpdateRoomRequest, kick_request::Reason,
};
use roomcast_registry::{Registry, Role, State};
use roomcast_store::Rooms;
use roomcast_types::{RoomId, UserId};
use tonic::{Code, transport::Endpoint};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use super::{
    node::FakeNode,
    world::{World, eventually},
};

#[tokio::test]
async fn bad_input_names_the_field_and_the_limit() {
    let world = World::new(&[]).await;
    let mut client = world.client().await;
    let long = "x".repeat(129);
    let create = |room_id: &str, max_users, membership| CreateRoomRequest {
        room_id: room_id.into(),
        max_users,
        membership,
        ..CreateRoomRequest::default()
    };
    let join = |user_id: &str, user_name: &str| JoinRoomRequest {
        room_id: "room".into(),
        user_id: user_id.into(),
        user_name: user_name.into(),
    };
    let answers = [
        (
            client.create_room(create("", None, 0)).await.unwrap_err(),
            "room_id is empty; it takes 1 to 128 bytes",
        ),
        (client.create_room(create(&long, None, 0)).await.unwrap_err(), "room_id has 129 bytes; at most 128"),
        (
            client.create_room(create("r", Some(0), 0)).await.unwrap_err(),
            "max_users is 0; it takes 1 to 1000000",
        ),
        (client.create_room(create("r", None, 9)).await.unwrap_err(), "membership 9 is unknown"),
        (client.join_room(join("", "")).await.unwrap_err(), "user_id is empty"),
        (client.join_room(join("u", &long)).await.unwrap_err(), "user_name has 129 bytes; at most 128"),
        (
            client.list_rooms(ListRoomsRequest { page_size: 1001, ..Default::default() }).await.unwrap_err(),
            "page_size is 1001; it takes 1 to 1000",
        ),
        (
            client
                .list_rooms(ListRoomsRequest { page_token: "?".into(), ..Default::default() })
                .await
                .unwrap_err(),
            "page_token is not one",
        ),
        (
            client
                .update_room(UpdateRoomRequest { room_id: "r".into(), ..Default::default() })
                .await
                .unwrap_err(),
            "nothing to change",
        ),
        (
            client
                .kick_user(KickUserRequest {
                    user_id: "u".into(),
                    session_id: "zz".into(),
                    ..Default::default()
                })
                .await
                .unwrap_err(),
            "session_id is not 32 hexadecimal digits",
        ),
    ];
    for (status, expected) in answers {
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        assert!(status.message().starts_with(&format!("BAD_REQUEST: {expected}")), "{}", status.message());
    }
}

#[tokio::test]
async fn a_report_without_a_hello_is_refused() {
    let world = World::new(&[]).await;
    let mut client = world.client().await;
    let nothing = tokio_stream::once(NodeReport::default());
    let mut replies = client.report(nothing).await.unwrap().into_inner();
    let refused = replies.message().await.unwrap_err();
    assert!(refused.message().contains("hello is missing"), "{refused}");
}

#[tokio::test]
async fn nodes_are_listed_with_their_load_and_chosen_when_ready() {
    let world = World::new(&[]).await;
    let mut client = world.client().await;
    let none = client.select_connect_node(SelectConnectNodeRequest::default()).await.unwrap_err();
    assert_eq!(none.code(), Code::Unavailable);
    assert!(none.message().contains("no connect-node is ready"), "{none}");
    let a = FakeNode::start(&world, 0, "node-a").await;
    let _b = FakeNode::start(&world, 0, "node-b").await;
    a.open("user", "c", 1).await;
    eventually("both nodes are listed with their loads", || {
        let mut client = client.clone();
        async move {
            let nodes = client.list_nodes(ListNodesRequest {}).await.unwrap().into_inner().nodes;
            let seen: Vec<_> =
                nodes.iter().map(|node| (node.node_id.as_str(), node.sessions, node.reporting)).collect();
            seen == [("node-a", 1, true), ("node-b", 0, true)]
        }
    })
    .await;
    let request = SelectConnectNodeRequest { exclude_node_ids: vec!["node-a".into()] };
    let chosen = client.select_connect_node(request).await.unwrap().into_inner();
    assert_eq!((chosen.node_id.as_str(), chosen.url.as_str()), ("node-b", "ws://node-b/ws"));
    let all = SelectConnectNodeRequest { exclude_node_ids: vec!["node-a".into(), "node-b".into()] };
    assert_eq!(client.select_connect_node(all).await.unwrap_err().code(), Code::Unavailable);
}

#[tokio::test]
async fn sessions_of_a_node_come_in_pages_in_order() {
    let world = World::new(&[]).await;
    let node = FakeNode::start(&world, 0, "node").await;
    let mut expected: Vec<String> = node
        .open_all((0..300).map(|number| format!("user-{number}")))
        .await
        .iter()
        .map(ToString::to_string)
        .collect();
    expected.sort();
    let mut client = world.client().await;
    let (mut token, mut found) = (String::new(), Vec::new());
    loop {
        let request = ListSessionsRequest { node_id: "node".into(), page_size: 70, page_token: token };
        let page = client.list_sessions(request).await.unwrap().into_inner();
        assert!(page.sessions.iter().all(|session| session.node_address == node.address));
        found.extend(page.sessions.into_iter().map(|session| session.session_id));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(found, expected);
    // A slice of the index, 64 a node, is read once; beside that the list of nodes, and what goes on in the background.
    let before = world.slow_presence.calls();
    let all = ListSessionsRequest { node_id: "node".into(), page_size: 1_000, ..Default::default() };
    assert_eq!(client.list_sessions(all).await.unwrap().into_inner().sessions.len(), 300);
    let calls = world.slow_presence.calls() - before;
    assert!(calls < 128, "{calls} calls of presence");
    let unknown = ListSessionsRequest { node_id: "nobody".into(), ..Default::default() };
    assert_eq!(client.list_sessions(unknown).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn a_user_who_is_nowhere_is_an_answer() {
    let world = World::new(&[]).await;
    let mut client = world.client().await;
    let place =
        client.get_user_node(GetUserNodeRequest { user_id: "nobody".into() }).await.unwrap().into_inner();
    assert!(!place.online && place.sessions.is_empty() && place.node_id.is_empty());
}

#[tokio::test]
async fn a_kick_closes_sessions_and_names_nodes_that_do_not_answer() {
    let world = World::new(&[]).await;
    let near = FakeNode::start(&world, 0, "near").await;
    let mut far = FakeNode::start(&world, 0, "far").await;
    let (on_near, _) = near.open("user", "c1", 1).await;
    far.open("user", "c2", 2).await;
    far.unregister().await;
    eventually("the node is off the list", || {
        let world = &world;
        async move { world.registry.list(Role::ConnectNode).await.unwrap().len() == 1 }
    })
    .await;
    let mut client = world.client().await;
    let kick = KickUserRequest { user_id: "user".into(), ..Default::default() };
    let kicked = client.kick_user(kick).await.unwrap().into_inner();
    assert_eq!((kicked.sessions, kicked.unreachable_node_ids), (1, vec!["far".to_owned()]));
    let order = near.kicks().remove(0);
    assert_eq!((order.reason(), order.session_ids), (Reason::Kicked, vec![on_near.as_bytes().to_vec()]));
}

#[tokio::test]
async fn a_kick_from_one_room_takes_the_seat() {
    let world = World::new(&[]).await;
    let node = FakeNode::start(&world, 0, "node").await;
    let (session, _) = node.open("user", "c", 1).await;
    node.join(session, "room").await.unwrap();
    node.join(session, "other").await.unwrap();
    let mut client = world.client().await;
    let kick = KickUserRequest { user_id: "user".into(), room_id: "room".into(), ..Default::default() };
    assert_eq!(client.kick_user(kick).await.unwrap().into_inner().sessions, 1);
    assert_eq!(node.kicks()[0].room_id, "room");
    let user = UserId::new("user").unwrap();
    for (room, holds) in [("room", false), ("other", true)] {
        let seat = world.rooms.seat(&RoomId::new(room).unwrap(), &user).await.unwrap();
        assert_eq!(seat.is_some(), holds, "{room}");
    }
}

#[tokio::test]
async fn a_controller_is_registered_as_ready_and_gives_its_key_back() {
    let mut world = World::new(&[]).await;
    let registry: Arc<dyn Registry> = world.registry.clone();
    eventually("it is ready", || {
        let registry = registry.clone();
        async move {
            let found = registry.list(Role::ControllerManager).await.unwrap();
            found.iter().any(|found| found.state == State::Ready)
        }
    })
    .await;
    let node = FakeNode::start(&world, 0, "node").await;
    node.open("user", "c", 1).await;
    let running = world.take_controller(0);
    tokio::time::timeout(Duration::from_secs(5), running.stop())
        .await
        .expect("it stops although a node reports");
    assert!(registry.list(Role::ControllerManager).await.unwrap().is_empty());
}

#[tokio::test]
async fn what_happens_is_counted() {
    let world = World::new(&["room.default_max_users=1"]).await;
    let node = FakeNode::start(&world, 0, "node").await;
    for user in ["first", "second"] {
        let (session, _) = node.open(user, "c", 1).await;
        let _ = node.join(session, "room").await;
    }
    let mut client = world.client().await;
    client.get_room_info(GetRoomInfoRequest { room_id: "room".into(), ..Default::default() }).await.unwrap();
    let metrics = world.metrics();
    for line in [
        "pubsub_controller_joins_total{outcome=\"admitted\"} 1",
        "pubsub_controller_joins_total{outcome=\"room_full\"} 1",
        "pubsub_controller_report_changes_total{change=\"opened\",outcome=\"applied\"} 2",
        "pubsub_controller_rpc_seconds_count{method=\"GetRoomInfo\"} 1",
    ] {
        assert!(metrics.contains(line), "{line} missing in\n{metrics}");
    }
}

#[tokio::test]
async fn health_is_served_beside_the_service() {
    let world = World::new(&[]).await;
    let channel =
        Endpoint::from_shared(format!("http://{}", world.address(0))).unwrap().connect().await.unwrap();
    let mut health = HealthClient::new(channel.clone());
    let service = "pubsub.ControllerService".to_owned();
    let answer = health.check(HealthCheckRequest { service }).await.unwrap().into_inner();
    assert_eq!(answer.status(), ServingStatus::Serving);
}
