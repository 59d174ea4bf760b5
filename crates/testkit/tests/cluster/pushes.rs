//! What a business server pushes, over JSON and gRPC, and what the receipt says of it.

use roomcast_proto::pubsub::{
    Content, PushToRoomRequest, content, push_manager_service_client::PushManagerServiceClient,
};
use roomcast_testkit::{Client, Cluster, outcome};
use serde_json::json;
use tonic::transport::Endpoint;

#[tokio::test]
async fn three_users_on_three_nodes_get_what_is_theirs() {
    let cluster = Cluster::builder().nodes(3).start().await;
    let api = cluster.api(0);
    let mut alice = Client::join(&cluster.ws(0), "user-001", &["room-001"]).await;
    let mut bob = Client::join(&cluster.ws(1), "user-002", &["room-001"]).await;
    let mut charlie = Client::join(&cluster.ws(2), "user-003", &["room-001"]).await;
    let mut stranger = Client::join(&cluster.ws(0), "user-004", &["room-002"]).await;

    let reply = api.push_room("room-001", "Hello Room!").await;
    assert_eq!(outcome(&reply, "WRITTEN"), 3, "{reply}");
    assert_eq!(reply["receipt"]["nodes"], json!({"addressed": 3, "unreachable": 0, "blind": 0}));
    assert_eq!(reply["receipt"]["complete"], true);
    for client in [&mut alice, &mut bob, &mut charlie] {
        assert_eq!(client.push().await, "Hello Room!");
    }

    let reply = api.push_user("user-001", "Hi Alice!").await;
    assert_eq!(reply["receipt"]["nodes"]["addressed"], 1);
    assert_eq!(reply["receipt"]["users"][0]["outcome"], "WRITTEN", "{reply}");
    assert_eq!(alice.push().await, "Hi Alice!");

    let reply = api.broadcast("System announcement").await;
    assert_eq!(outcome(&reply, "WRITTEN"), 4, "{reply}");
    for client in [&mut alice, &mut bob, &mut charlie, &mut stranger] {
        // The stranger's first push: nothing of the room or of Alice came before it.
        assert_eq!(client.push().await, "System announcement");
    }
    cluster.finish().await;
}

#[tokio::test]
async fn a_receipt_counts_excluded_offline_and_several_sessions() {
    let cluster = Cluster::builder().nodes(2).start().await;
    let api = cluster.api(0);
    let mut phone = Client::join(&cluster.ws(0), "alice", &["room"]).await;
    let mut laptop = Client::join(&cluster.ws(1), "alice", &["room"]).await;
    let mut bob = Client::join(&cluster.ws(1), "bob", &["room"]).await;

    let body = json!({"content": {"data": "not for bob"}, "options": {"exclude_user_ids": ["bob"]}});
    let (status, reply) = api.post("/v1/push/room/room", body).await;
    assert_eq!(status, 200, "{reply}");
    assert_eq!((outcome(&reply, "WRITTEN"), outcome(&reply, "FILTERED")), (2, 1), "{reply}");
    assert_eq!(phone.push().await, "not for bob");
    assert_eq!(laptop.push().await, "not for bob");

    let body = json!({"user_ids": ["alice", "bob", "nobody", "bob"], "content": {"data": "to three"}});
    let (status, reply) = api.post("/v1/push/users", body).await;
    assert_eq!(status, 200, "{reply}");
    assert_eq!((outcome(&reply, "WRITTEN"), outcome(&reply, "OFFLINE")), (3, 1), "{reply}");
    let users = reply["receipt"]["users"].as_array().unwrap();
    assert_eq!(users.len(), 3, "{reply}");
    let alice = users.iter().find(|user| user["user_id"] == "alice").unwrap();
    assert_eq!(alice["sessions"].as_array().unwrap().len(), 2, "{reply}");
    for client in [&mut phone, &mut laptop, &mut bob] {
        assert_eq!(client.push().await, "to three");
    }
    cluster.finish().await;
}

#[tokio::test]
async fn grpc_pushes_keep_content_as_given() {
    let cluster = Cluster::builder().nodes(1).start().await;
    let mut client = Client::join(&cluster.ws(0), "user", &["room"]).await;
    let address = format!("http://{}", cluster.push_manager(0).grpc_address());
    let channel = Endpoint::from_shared(address).unwrap().connect().await.unwrap();
    let mut grpc = PushManagerServiceClient::new(channel);
    let mut push = async |kind: content::Type, data: &[u8], binary: bool| {
        let content =
            Content { r#type: kind.into(), data: data.to_vec().into(), timestamp: 1_234_567_890, binary };
        let request = PushToRoomRequest { room_id: "room".into(), content: Some(content), options: None };
        let reply = grpc.push_to_room(request).await.unwrap().into_inner();
        let frame = client.frame("push").await;
        assert_eq!(frame["message_id"], reply.message_id);
        assert_eq!((&frame["target"], &frame["room_id"]), (&json!("room"), &json!("room")));
        let position = (frame["epoch"].as_str().unwrap_or(""), frame["offset"].as_u64().unwrap_or(0));
        assert_eq!(position, (reply.epoch.as_str(), reply.offset), "the place in the log, or none: {frame}");
        frame["content"].clone()
    };
    let text =
        push(content::Type::Translation, "\u{4f60}\u{597d} \"q\" \\ \n </script>".as_bytes(), false).await;
    assert_eq!(
        text,
        json!({"type": "TRANSLATION", "data": "\u{4f60}\u{597d} \"q\" \\ \n </script>", "timestamp": 1_234_567_890})
    );
    let audio = push(content::Type::Audio, b"abc", true).await;
    assert_eq!(audio, json!({"type": "AUDIO", "data_base64": "YWJj", "timestamp": 1_234_567_890}));
    let raw = push(content::Type::System, &[0xff, 0x00], false).await;
    assert_eq!(raw["data_base64"], "/wA=", "bytes that are not text");
    cluster.finish().await;
}

#[tokio::test]
async fn bad_pushes_are_refused_by_name_and_reach_nobody() {
    let cluster = Cluster::builder().nodes(1).start().await;
    let api = cluster.api(0);
    let mut client = Client::join(&cluster.ws(0), "user", &["room"]).await;
    let content = json!({"data": "x"});
    let cases = [
        ("/v1/push/room/nowhere", json!({"content": content}), 404, "NOT_FOUND", "nowhere"),
        ("/v1/push/room/%0a", json!({"content": content}), 400, "BAD_REQUEST", "room_id"),
        ("/v1/push/room/room", json!({}), 400, "BAD_REQUEST", "content"),
        ("/v1/push/room/room", json!({"content": content, "colour": 1}), 400, "BAD_REQUEST", "colour"),
        (
            "/v1/push/room/room",
            json!({"content": {"type": "VIDEO", "data": "x"}}),
            400,
            "BAD_REQUEST",
            "type",
        ),
        (
            "/v1/push/room/room",
            json!({"content": content, "options": {"ttl_ms": 1}}),
            400,
            "BAD_REQUEST",
            "ttl_ms",
        ),
        ("/v1/push/room/room", json!({"content": {"data": "x".repeat(65_537)}}), 413, "TOO_LARGE", "65536"),
        ("/v1/push/users", json!({"user_ids": [], "content": content}), 400, "BAD_REQUEST", "user_ids"),
        ("/v1/push/nobody/x", json!({"content": content}), 404, "NOT_FOUND", "/v1/push/nobody/x"),
    ];
    for (path, body, status, code, named) in cases {
        let (found, reply) = api.post(path, body).await;
        assert_eq!((found, &reply["error"]["code"]), (status, &json!(code)), "{path}: {reply}");
        let message = reply["error"]["message"].as_str().unwrap();
        assert!(message.contains(named), "{path}: {message:?} does not name {named}");
    }
    api.push_room("room", "the first that counts").await;
    assert_eq!(client.push().await, "the first that counts");
    cluster.finish().await;
}

#[tokio::test]
async fn pushes_of_one_sender_keep_their_order() {
    let cluster = Cluster::builder().nodes(1).start().await;
    let api = cluster.api(0);
    let mut clients = Vec::new();
    for user in 0..5 {
        clients.push(Client::join(&cluster.ws(0), &format!("user-{user}"), &["room"]).await);
    }
    for number in 0..200 {
        api.push_room("room", &number.to_string()).await;
    }
    for client in &mut clients {
        for number in 0..200 {
            assert_eq!(client.push().await, number.to_string());
        }
    }
    cluster.finish().await;
}
