//! The JSON API: pushes, what controllers know, and every mistake as code and message.

use reqwest::{Client, Method, Response, StatusCode};
use roomcast_proto::pubsub::content::Type;
use serde_json::{Value, json};

use crate::{node::FakeNode, stage::Stage};

fn url(stage: &Stage, path: &str) -> String {
    format!("http://{}{path}", stage.running.http_address())
}

async fn send(
    stage: &Stage,
    method: Method,
    path: &str,
    body: impl Into<reqwest::Body>,
) -> (StatusCode, Value) {
    let reply = Client::new().request(method, url(stage, path)).body(body).send().await.unwrap();
    answer(reply).await
}

async fn answer(reply: Response) -> (StatusCode, Value) {
    assert_eq!(reply.headers()["content-type"], "application/json");
    (reply.status(), serde_json::from_slice(&reply.bytes().await.unwrap()).unwrap())
}

async fn post(stage: &Stage, path: &str, body: Value) -> (StatusCode, Value) {
    send(stage, Method::POST, path, body.to_string()).await
}

async fn get(stage: &Stage, path: &str) -> (StatusCode, Value) {
    send(stage, Method::GET, path, "").await
}

/// Status, code and message of an error.
fn fault(answer: (StatusCode, Value)) -> (u16, String, String) {
    let error = &answer.1["error"];
    let text = |key: &str| error[key].as_str().unwrap_or_default().to_owned();
    (answer.0.as_u16(), text("code"), text("message"))
}

fn hello() -> Value {
    json!({"content": {"data": "hello"}})
}

#[tokio::test]
async fn a_push_to_a_room_answers_with_the_receipt() {
    let node = FakeNode::start("one").await;
    let stage = Stage::with(&[&node]).await;
    node.room("blue", 2).await;
    let body = json!({
        "content": {"type": "STATE", "data": "hällo", "timestamp": 7},
        "options": {"exclude_user_ids": ["eve"]}
    });
    let (status, reply) = post(&stage, "/v1/push/room/blue", body).await;
    assert_eq!(status, 200);
    assert_eq!(reply["message_id"].as_str().unwrap().len(), 26);
    assert_eq!((&reply["logged"], &reply["degraded"]), (&json!(false), &json!([])));
    let expected = json!({
        "level": "WRITTEN", "complete": true, "targets": 2, "pending": 0, "outcomes": {"WRITTEN": 2},
        "nodes": {"addressed": 1, "unreachable": 0, "blind": 0}, "users": []
    });
    assert_eq!(reply["receipt"], expected);
    let content = node.last().content.unwrap();
    assert_eq!((content.r#type(), content.timestamp, content.binary), (Type::State, 7, false));
    assert_eq!(node.delivered(), ["hällo"]);
    assert_eq!(node.last().exclude_user_ids, ["eve"]);
}

#[tokio::test]
async fn bytes_and_users_and_everybody_work_as_well() {
    let node = FakeNode::start("one").await;
    let stage = Stage::with(&[&node]).await;
    node.user("ann", 1).await;
    let body = json!({"content": {"type": "AUDIO", "data_base64": "AP8="}});
    let (_, reply) = post(&stage, "/v1/push/user/ann", body).await;
    assert_eq!(reply["receipt"]["users"][0]["sessions"][0]["outcome"], "WRITTEN");
    let content = node.last().content.unwrap();
    assert_eq!((&content.data[..], content.binary), (&[0, 255][..], true));

    let body = json!({"user_ids": ["ann", "bob"], "content": {"data": "x"}});
    let (_, reply) = post(&stage, "/v1/push/users", body).await;
    assert_eq!(reply["receipt"]["outcomes"], json!({"OFFLINE": 1, "WRITTEN": 1}));
    let (_, reply) = post(&stage, "/v1/push/broadcast", hello()).await;
    assert_eq!(reply["receipt"]["targets"], 1);
}

#[tokio::test]
async fn ids_of_the_path_are_percent_decoded() {
    let node = FakeNode::start("one").await;
    let stage = Stage::with(&[&node]).await;
    node.room("a/b ü+1", 1).await;
    let (status, _) = post(&stage, "/v1/push/room/a%2Fb%20%C3%BC+1", hello()).await;
    assert_eq!((status, node.delivered().len()), (StatusCode::OK, 1));
    let (status, code, message) = fault(post(&stage, "/v1/push/room/%FF", hello()).await);
    assert_eq!((status, code.as_str()), (400, "BAD_REQUEST"));
    assert!(message.contains("room_id"), "{message}");
    let (status, _, message) = fault(post(&stage, "/v1/push/user/a%0Ab", hello()).await);
    assert_eq!(status, 400);
    assert!(message.contains("user_id has '\\n' at byte 1"), "{message}");
}

#[tokio::test]
async fn every_mistake_is_an_error_that_names_it() {
    let stage = Stage::with(&[]).await;
    let room = "/v1/push/room/blue";
    for (path, body, part) in [
        (room, "{", "EOF while parsing"),
        (room, "", "EOF while parsing"),
        (room, "[1]", "expected an object"),
        (room, r#"{"content":{"data":"x"},"room":"r"}"#, "unknown field `room`"),
        (room, r#"{"content":{"data":"x"},"options":{"wait":"LATER"}}"#, "options.wait \"LATER\" is unknown"),
        (
            room,
            r#"{"content":{"data":"x"},"options":{"wait_ms":30001}}"#,
            "options.wait_ms is 30001; it takes 1 to",
        ),
        (
            room,
            r#"{"content":{"data":"x"},"options":{"ttl_ms":5}}"#,
            "options.ttl_ms goes with class EXPIRING",
        ),
        (
            room,
            r#"{"content":{"data":"x"},"options":{"class":"NEWEST"}}"#,
            "options.class \"NEWEST\" is unknown",
        ),
        (
            room,
            r#"{"content":{"data":"x"},"options":{"class":"ORDERED","key":"k"}}"#,
            "options.key goes with class LATEST; this push is ORDERED",
        ),
        (room, r#"{"content":{"data":"x"},"options":{"logs":true}}"#, "unknown field `logs`"),
        (room, r#"{"content":{"data":"x","timestamp":1.5}}"#, "content.timestamp"),
        (room, r#"{"content":{"type":"text","data":"x"}}"#, "content.type"),
        (room, r#"{"content":{"type":"TEXT"}}"#, "exactly one of data"),
        ("/v1/push/users", r#"{"content":{"data":"x"}}"#, "user_ids"),
        ("/v1/push/users", r#"{"user_ids":[],"content":{"data":"x"}}"#, "user_ids has 0 entries"),
        (
            "/v1/push/broadcast",
            r#"{"content":{"data":"x"},"options":{"exclude_user_ids":[""]}}"#,
            "exclude_user_ids[0]",
        ),
    ] {
        let (status, code, message) = fault(send(&stage, Method::POST, path, body).await);
        assert_eq!((status, code.as_str()), (400, "BAD_REQUEST"), "{body}: {message}");
        assert!(message.contains(part), "{body}: {message}");
    }
}

#[tokio::test]
async fn limits_and_missing_rooms_have_their_own_status() {
    let stage = Stage::configured(&[], &["limits.body_bytes_max=1KiB", "limits.push_bytes_max=100B"]).await;
    let content = json!({"content": {"data": "x".repeat(101)}});
    let (status, code, _) = fault(post(&stage, "/v1/push/room/blue", content).await);
    assert_eq!((status, code.as_str()), (413, "TOO_LARGE"));
    let (status, code, message) =
        fault(send(&stage, Method::POST, "/v1/push/room/blue", "x".repeat(1025)).await);
    assert_eq!((status, code.as_str()), (413, "TOO_LARGE"));
    assert!(message.contains("limits.body_bytes_max"), "{message}");
    let (status, code, _) = fault(post(&stage, "/v1/push/room/blue", hello()).await);
    assert_eq!((status, code.as_str()), (404, "NOT_FOUND"));
    stage
        .room_changed(crate::controller::card("red", 1, roomcast_proto::pubsub::room_card::State::Deleted))
        .await;
    let (status, code, _) = fault(post(&stage, "/v1/push/room/red", hello()).await);
    assert_eq!((status, code.as_str()), (410, "ROOM_DELETED"));
    stage.controller.mute();
    let (status, code, _) = fault(post(&stage, "/v1/push/room/blue", hello()).await);
    assert_eq!((status, code.as_str()), (503, "UNAVAILABLE"));
}

#[tokio::test]
async fn a_wrong_path_or_method_is_an_error_in_the_same_form() {
    let stage = Stage::with(&[]).await;
    let (status, code, message) = fault(get(&stage, "/v2/rooms").await);
    assert_eq!((status, code.as_str()), (404, "NOT_FOUND"));
    assert!(message.contains("/v2/rooms"), "{message}");
    let (status, code, message) = fault(get(&stage, "/v1/push/broadcast").await);
    assert_eq!((status, code.as_str()), (405, "BAD_REQUEST"));
    assert!(message.contains("takes POST, not GET"), "{message}");
    let (status, _, message) = fault(post(&stage, "/v1/nodes", hello()).await);
    assert_eq!(status, 405);
    assert!(message.contains("takes GET, not POST"), "{message}");
}

#[tokio::test]
async fn a_receipt_can_be_asked_for_after_its_push() {
    let node = FakeNode::start("one").await;
    let stage = Stage::with(&[&node]).await;
    node.user("ann", 2).await;
    let (_, pushed) = post(&stage, "/v1/push/user/ann", hello()).await;
    let path = format!("/v1/push/{}", pushed["message_id"].as_str().unwrap());
    let (status, now) = get(&stage, &path).await;
    assert_eq!(
        (status, &now["message_id"], &now["degraded"]),
        (StatusCode::OK, &pushed["message_id"], &json!([]))
    );
    assert_eq!(now["receipt"]["outcomes"], json!({"WRITTEN": 2}));
    assert_eq!(now["receipt"]["users"], pushed["receipt"]["users"]);
    assert!(now["age_ms"].is_u64());
    for (path, status, says) in [
        ("/v1/push/never", 400, "message_id is none of ours"),
        ("/v1/push/01J0000000000000000000000A", 404, "is gone"),
    ] {
        let (code, _, message) = fault(get(&stage, path).await);
        assert!(code == status && message.contains(says), "{path}: {code} {message}");
    }
    let (status, _, message) = fault(post(&stage, &path, hello()).await);
    assert!(status == 405 && message.contains("takes GET, not POST"), "{message}");
}

#[tokio::test]
async fn options_of_logs_and_histories_are_json_as_well() {
    let node = FakeNode::start("one").await;
    let stage = Stage::with(&[&node]).await;
    node.room("blue", 1).await;
    let body = r#"{"content":{"data":"a"},"options":{"idempotency_key":"k"}}"#;
    let (status, first) = send(&stage, Method::POST, "/v1/push/room/blue", body).await;
    assert_eq!(
        (status.as_u16(), &first["logged"], &first["offset"], &first["duplicate"]),
        (200, &json!(true), &json!(1), &json!(false))
    );
    let (_, second) = send(&stage, Method::POST, "/v1/push/room/blue", body).await;
    assert_eq!((&second["duplicate"], &second["message_id"]), (&json!(true), &first["message_id"]));
    let body = r#"{"content":{"data":"b"},"options":{"idempotency_key":"k"}}"#;
    let (status, code, _) = fault(send(&stage, Method::POST, "/v1/push/room/blue", body).await);
    assert_eq!((status, code.as_str()), (409, "ALREADY_EXISTS"));
    let bytes = r#"{"content":{"data_base64":"AP8="},"options":{"exclude_user_ids":["eve"]}}"#;
    send(&stage, Method::POST, "/v1/push/room/blue", bytes).await;

    let (status, page) = get(&stage, "/v1/rooms/blue/messages?after=0&limit=1").await;
    assert_eq!(
        (status.as_u16(), &page["epoch"], &page["offset"], &page["first"]),
        (200, &first["epoch"], &json!(2), &json!(1))
    );
    let message = &page["messages"][0];
    assert_eq!((&message["message_id"], &message["offset"]), (&first["message_id"], &json!(1)));
    assert_eq!(message["content"], json!({"type": "TEXT", "data": "a", "timestamp": 0}));
    assert_eq!((&page["has_more"], &message["expires_at_ms"]), (&json!(true), &json!(0)));
    let (_, page) = get(&stage, "/v1/rooms/blue/messages?before=3").await;
    let message = &page["messages"][1];
    assert_eq!(message["content"]["data_base64"], "AP8=");
    assert_eq!(message["exclude_user_ids"], json!(["eve"]));

    let stored = r#"{"content":{"data":"c"},"options":{"offline":"STORE","ttl_ms":1000}}"#;
    let (_, reply) = send(&stage, Method::POST, "/v1/push/user/ann", stored).await;
    assert_eq!(reply["receipt"]["outcomes"], json!({"QUEUED_OFFLINE": 1}));
    let (_, page) = get(&stage, "/v1/users/ann/messages").await;
    assert_eq!(page["messages"][0]["content"]["data"], "c");
    for (path, says) in [
        ("/v1/rooms/blue/messages?after=1&before=2", "after or before, not both"),
        ("/v1/rooms/blue/messages?limit=1001", "limit is 1001"),
        ("/v1/rooms/blue/messages?from=1", "from"),
    ] {
        let (status, code, message) = fault(get(&stage, path).await);
        assert!((status, code.as_str()) == (400, "BAD_REQUEST") && message.contains(says), "{message}");
    }
}

#[tokio::test]
async fn what_controllers_know_is_shown_as_it_is() {
    let stage = Stage::with(&[]).await;
    stage.controller.add_room("blue");
    let card = json!({"room_id": "blue", "version": 1, "state": "ACTIVE", "membership": "FOLLOW", "max_users": 100,
        "log": "RECENT", "on_log_failure": "DEGRADE"});
    let (status, rooms) = get(&stage, "/v1/rooms?page_size=5&page_token=t").await;
    assert_eq!(status, 200);
    let expected = json!({"rooms": [{"card": card, "member_count": 2}], "next_page_token": "after-t-5"});
    assert_eq!(rooms, expected);

    let (_, room) = get(&stage, "/v1/rooms/blue").await;
    assert_eq!(room["card"], card);
    assert_eq!(room["members"][0]["user_id"], "ann");
    assert_eq!(room["online_count"], 0, "defaults are written out");

    let (_, user) = get(&stage, "/v1/users/ann").await;
    let expected = json!({"user_id": "ann", "online": false, "node_id": "", "node_address": "", "sessions": [], "degraded": []});
    assert_eq!(user, expected);

    let (_, sessions) = get(&stage, "/v1/users?node_id=node-1&page_token=t").await;
    assert_eq!(sessions["sessions"][0]["node_id"], "node-1");
    assert_eq!(
        (&sessions["sessions"][0]["stamp_ms"], &sessions["next_page_token"]),
        (&json!(7), &json!("t"))
    );

    let (_, nodes) = get(&stage, "/v1/nodes").await;
    assert_eq!(
        (&nodes["nodes"][0]["node_id"], &nodes["nodes"][0]["sessions"]),
        (&json!("node-1"), &json!(3))
    );
}

#[tokio::test]
async fn mistakes_of_a_question_are_named_and_answers_of_controllers_passed_on() {
    let stage = Stage::with(&[]).await;
    for (path, status, part) in [
        ("/v1/rooms/never", 404, "never created"),
        ("/v1/rooms?page_size=many", 400, "page_size"),
        ("/v1/rooms?limit=5", 400, "limit"),
        ("/v1/users", 400, "node_id is empty"),
        ("/v1/users/%FF", 400, "user_id in the path"),
    ] {
        let (found, _, message) = fault(get(&stage, path).await);
        assert_eq!(found, status, "{path}: {message}");
        assert!(message.contains(part), "{path}: {message}");
    }
}

#[tokio::test]
async fn a_trace_of_the_caller_goes_on_to_the_node() {
    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let node = FakeNode::start("one").await;
    let stage = Stage::with(&[&node]).await;
    node.room("blue", 1).await;
    let request = Client::new().post(url(&stage, "/v1/push/room/blue")).header("traceparent", PARENT);
    request.body(hello().to_string()).send().await.unwrap();
    assert_eq!(node.last().traceparent, PARENT);
}
