//! Joining and leaving.

use connect_node::{
    log::returning::Standing,
    ports::{LeftReason, ToShard},
};
use roomcast_types::{Code, RoomId};
use serde_json::json;

use crate::fixture::{Node, counts};

#[tokio::test]
async fn a_client_joins_leaves_and_joins_again() {
    let node = Node::start().await;
    let mut client = node.member("user_id=u").await;
    for id in [1, 2] {
        client.send(json!({"type": "join", "id": id, "room_id": "r"})).await;
        assert_eq!(client.json().await, json!({"type": "joined", "id": id, "room_id": "r", "members": 7}));
    }
    let since = json!({"epoch": "e", "offset": 7});
    client.send(json!({"type": "join", "room_id": "r", "since": since})).await;
    assert_eq!(
        client.json().await,
        json!({"type": "joined", "room_id": "r", "members": 7, "recovered": false})
    );
    assert_eq!(counts(node.push("r", "once").await).await.written, 1);
    assert_eq!(client.pushed().await, "once");
    client.send(json!({"type": "leave", "id": 4, "room_id": "r"})).await;
    assert_eq!(client.json().await, json!({"type": "left", "id": 4, "room_id": "r", "reason": "LEFT"}));
    assert_eq!(counts(node.push("r", "nobody").await).await.targets(), 0);
    client.send(json!({"type": "leave", "id": 5, "room_id": "r"})).await;
    let error = client.json().await;
    assert_eq!((&error["type"], &error["code"]), (&json!("error"), &json!(Code::NotJoined.as_str())));
    assert_eq!((&error["id"], &error["room_id"]), (&json!(5), &json!("r")));
    client.send(json!({"type": "join", "id": 6, "room_id": "r"})).await;
    assert_eq!(client.json().await["id"], 6);
    counts(node.push("r", "again").await).await;
    assert_eq!(client.pushed().await, "again");
}

#[tokio::test]
async fn a_refused_join_is_an_error_and_the_session_stays() {
    let node = Node::start().await;
    let mut client = node.connect("user_id=u&room_id=full&room_id=r").await;
    client.json().await;
    let error = json!({"type": "error", "room_id": "full", "code": "ROOM_FULL", "message": "full",
                       "retry_after_ms": 500});
    assert_eq!(client.json().await, error);
    assert_eq!(client.json().await["room_id"], "r");
    client.send(json!({"type": "join", "id": 1, "room_id": "full"})).await;
    assert_eq!(client.json().await["id"], 1);
    client.send(json!({"type": "leave", "id": 2, "room_id": "full"})).await;
    assert_eq!(client.json().await["code"], "NOT_JOINED");
}

#[tokio::test]
async fn a_session_is_in_so_many_rooms_and_no_more() {
    let node = Node::with(|setup| setup.config.rooms_max = 3).await;
    let mut client = node.member("user_id=u&room_id=a").await;
    // A join that is under way has its room already; one that was refused gave it back.
    for room in ["full", "silent", "b", "c", "a"] {
        client.send(json!({"type": "join", "room_id": room})).await;
    }
    let frames = client.until_pong().await;
    let seen: Vec<_> = frames.iter().map(|f| (f["room_id"].as_str().unwrap(), f["code"].as_str())).collect();
    assert!(
        seen.contains(&("full", Some("ROOM_FULL"))) && seen.contains(&("c", Some("TOO_MANY_ROOMS"))),
        "{seen:?}"
    );
    client.send(json!({"type": "leave", "room_id": "a"})).await;
    client.send(json!({"type": "join", "id": 9, "room_id": "c"})).await;
    let frames = client.until_pong().await;
    assert!(!frames.iter().any(|frame| frame["type"] == "error"), "{frames:?}");
}

#[tokio::test]
async fn a_leave_overtakes_a_join_under_way() {
    let node = Node::start().await;
    let mut client = node.member("user_id=u").await;
    client.send(json!({"type": "join", "id": 1, "room_id": "silent"})).await;
    client.send(json!({"type": "leave", "id": 2, "room_id": "silent"})).await;
    assert_eq!(client.json().await["type"], "left");
    // The late answer of the join is passed on, and makes no member.
    let session = node.hub.session("u").await.key;
    let room = RoomId::new("silent").unwrap();
    node.send(
        0,
        ToShard::Joined { session, request: Some(1), room, members: 1, standing: Standing::default() },
    )
    .await;
    assert_eq!(counts(node.push("silent", "x").await).await.targets(), 0);
}

#[tokio::test]
async fn no_push_comes_before_joined_and_none_after_left() {
    let node = Node::start().await;
    let mut client = node.member("user_id=u&room_id=other").await;
    let session = node.hub.session("u").await.key;
    client.send(json!({"type": "join", "id": 1, "room_id": "silent"})).await;
    node.hub.until("the join", |told| (told.joins.len() == 2).then_some(())).await;
    let room = || RoomId::new("silent").unwrap();
    let joined = || ToShard::Joined {
        session,
        request: Some(1),
        room: room(),
        members: 1,
        standing: Standing::default(),
    };
    let left = || ToShard::Left { session, request: None, room: room(), reason: LeftReason::Kicked };
    let mut targets = Vec::new();
    targets.push(node.push("silent", "before").await);
    node.send(0, joined()).await;
    targets.push(node.push("silent", "one").await);
    targets.push(node.push("silent", "two").await);
    node.send(0, left()).await;
    targets.push(node.push("silent", "after").await);
    let frames = client.until_pong().await;
    let kinds: Vec<_> = frames.iter().map(|frame| frame["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["joined", "push", "push", "left"]);
    assert_eq!(frames[1]["content"]["data"], "one");
    assert_eq!(frames[3], json!({"type": "left", "room_id": "silent", "reason": "KICKED"}));
    let mut sums = Vec::new();
    for target in targets {
        sums.push(counts(target).await.targets());
    }
    assert_eq!(sums, [0, 1, 1, 0]);
}

#[tokio::test]
async fn a_deleted_room_sends_its_members_out() {
    let node = Node::start().await;
    let mut clients = vec![];
    for user in ["a", "b", "c"] {
        clients.push(node.member(&format!("user_id={user}&room_id=r")).await);
    }
    node.send(0, ToShard::RoomDeleted(RoomId::new("r").unwrap())).await;
    for client in &mut clients {
        assert_eq!(client.json().await, json!({"type": "left", "room_id": "r", "reason": "ROOM_DELETED"}));
    }
    assert_eq!(counts(node.push("r", "x").await).await.targets(), 0);
    clients[0].send(json!({"type": "leave", "id": 1, "room_id": "r"})).await;
    assert_eq!(clients[0].json().await["code"], "NOT_JOINED");
    clients[0].send(json!({"type": "join", "id": 2, "room_id": "r"})).await;
    assert_eq!(clients[0].json().await["type"], "joined");
}
