//! What is answered before a session begins.

use std::time::Duration;

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::fixture::{Node, until, within};

const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// Status, head (lower case) and body of one answer.
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn message(&self) -> String {
        let body: Value = serde_json::from_str(&self.body).unwrap();
        body["error"]["message"].as_str().unwrap().to_owned()
    }

    fn code(&self) -> String {
        let body: Value = serde_json::from_str(&self.body).unwrap();
        body["error"]["code"].as_str().unwrap().to_owned()
    }
}

async fn read(socket: &mut TcpStream) -> Answer {
    let mut bytes = Vec::new();
    within("an answer", async {
        loop {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let head = head.to_lowercase();
                let length =
                    head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()?.parse().ok());
                if body.len() >= length.unwrap_or(0) {
                    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
                    return Answer { status, head, body: body.to_owned() };
                }
            }
            assert_ne!(socket.read_buf(&mut bytes).await.unwrap(), 0, "closed in the middle of {text:?}");
        }
    })
    .await
}

async fn request(node: &Node, line: &str, headers: &str) -> Answer {
    let mut socket = TcpStream::connect(node.address).await.unwrap();
    socket.write_all(format!("{line} HTTP/1.1\r\nHost: x\r\n{headers}\r\n").as_bytes()).await.unwrap();
    read(&mut socket).await
}

async fn upgrade(node: &Node, query: &str) -> Answer {
    request(node, &format!("GET /ws?{query}"), UPGRADE).await
}

#[tokio::test]
async fn every_other_path_is_a_page() {
    let node = Node::start().await;
    let page = request(&node, "GET /", "").await;
    assert_eq!((page.status, page.body.as_str()), (200, "page"));
    assert_eq!(request(&node, "GET /nothing", UPGRADE).await.status, 404);
    assert_eq!(request(&node, "GET /ws/", UPGRADE).await.status, 404);
}

#[tokio::test]
async fn a_bad_query_is_400_and_names_the_field() {
    let node = Node::with(|setup| setup.config.rooms_max = 1).await;
    for (query, words) in [
        ("", "user_id is missing"),
        ("user_id=a&user_id=b", "user_id is given more than once"),
        ("user_id=%ff", "user_id is not percent-encoded UTF-8"),
        ("user_id=u&client_id=%20", "client_id has ' '"),
        ("user_id=u&room_id=a&room_id=b", "more than 1 rooms"),
    ] {
        let answer = upgrade(&node, query).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "BAD_REQUEST"), "{query}");
        assert!(answer.message().contains(words), "{query}: {}", answer.message());
    }
    assert_eq!(node.load.sessions(), 0);
}

#[tokio::test]
async fn a_request_that_is_no_handshake_is_told_what_is_missing() {
    let node = Node::start().await;
    let plain = request(&node, "GET /ws?user_id=u", "").await;
    assert_eq!(plain.status, 426);
    assert!(plain.head.contains("upgrade: websocket") && plain.head.contains("sec-websocket-version: 13"));
    let old = UPGRADE.replace("13", "8");
    assert_eq!(request(&node, "GET /ws?user_id=u", &old).await.status, 426);
    let keyless = UPGRADE.replace("dGhlIHNhbXBsZSBub25jZQ==", "short");
    assert_eq!(request(&node, "GET /ws?user_id=u", &keyless).await.status, 400);
    let post = request(&node, "POST /ws?user_id=u", UPGRADE).await;
    assert_eq!(post.status, 405);
    assert!(post.head.contains("allow: get"));
}

#[tokio::test]
async fn the_sub_protocol_is_chosen_when_offered_and_foreign_ones_are_refused() {
    let node = Node::start().await;
    let offer = |names: &str| format!("{UPGRADE}Sec-WebSocket-Protocol: {names}\r\n");
    let chosen = request(&node, "GET /ws?user_id=u", &offer("chat, pubsub.json.v1")).await;
    assert_eq!(chosen.status, 101);
    assert!(chosen.head.contains("sec-websocket-protocol: pubsub.json.v1"));
    for (offers, chosen) in [
        ("pubsub.proto.v1", "pubsub.proto.v1"),
        ("chat, pubsub.proto.v1,pubsub.json.v1", "pubsub.proto.v1"),
        ("pubsub.json.v1 , pubsub.proto.v1", "pubsub.json.v1"),
        ("chat\r\nSec-WebSocket-Protocol: pubsub.proto.v1", "pubsub.proto.v1"),
    ] {
        let answer = request(&node, "GET /ws?user_id=u", &offer(offers)).await;
        assert_eq!(answer.status, 101, "{offers}");
        assert!(answer.head.contains(&format!("sec-websocket-protocol: {chosen}\r\n")), "{}", answer.head);
    }
    let none = upgrade(&node, "user_id=u").await;
    assert!(none.status == 101 && !none.head.contains("sec-websocket-protocol"));
    let foreign = request(&node, "GET /ws?user_id=u", &offer("chat")).await;
    assert_eq!(foreign.status, 400);
    assert!(foreign.message().contains("pubsub.json.v1 or pubsub.proto.v1"), "{}", foreign.message());
}

#[tokio::test]
async fn a_node_that_is_not_open_says_when_to_come_back() {
    let node = Node::start().await;
    node.load.set_open(false);
    let answer = upgrade(&node, "user_id=u").await;
    assert_eq!((answer.status, answer.code().as_str()), (503, "UNAVAILABLE"));
    assert!(answer.head.contains("retry-after: 1"));
    assert_eq!(request(&node, "GET /", "").await.status, 200);
    node.load.set_open(true);
    assert_eq!(upgrade(&node, "user_id=u").await.status, 101);
}

#[tokio::test]
async fn a_full_node_refuses_sessions_until_one_ends() {
    let node = Node::with(|setup| setup.config.sessions_max = 2).await;
    let first = node.member("user_id=a").await;
    let _second = node.member("user_id=b").await;
    let answer = upgrade(&node, "user_id=c").await;
    assert_eq!(answer.status, 503);
    assert!(answer.head.contains("retry-after: "));
    assert_eq!(node.metric("pubsub_node_refused_total", "sessions_max"), 1.0);
    let key = node.hub.session("a").await.key;
    drop(first);
    node.hub.until_closed(key).await;
    until("a free place", || node.load.sessions() < 2).await;
    assert_eq!(upgrade(&node, "user_id=c").await.status, 101);
}

#[tokio::test]
async fn more_handshakes_than_allowed_are_refused_unread() {
    let node = Node::with(|setup| setup.config.handshakes_max = 2).await;
    let mut idle = vec![];
    for _ in 0..2 {
        idle.push(TcpStream::connect(node.address).await.unwrap());
    }
    until("both handshakes", || node.load.handshakes() == 2).await;
    let mut third = TcpStream::connect(node.address).await.unwrap();
    let answer = read(&mut third).await;
    assert_eq!((answer.status, answer.code().as_str()), (503, "UNAVAILABLE"));
    assert!(answer.head.contains("retry-after: 1"));
    drop(idle);
    until("free handshakes", || node.load.handshakes() == 0).await;
    // Sessions and finished requests are no handshakes.
    let _sessions =
        (node.member("user_id=a").await, node.member("user_id=b").await, node.member("user_id=c").await);
}

#[tokio::test]
async fn a_handshake_that_takes_too_long_is_dropped() {
    let node = Node::with(|setup| setup.config.handshake_timeout = Duration::from_millis(200)).await;
    let mut socket = TcpStream::connect(node.address).await.unwrap();
    socket.write_all(b"GET /ws?user_id=u HTTP/1.1\r\nHost:").await.unwrap();
    let mut rest = Vec::new();
    within("the end", socket.read_to_end(&mut rest)).await.unwrap();
    until("no handshake", || node.load.handshakes() == 0).await;
}
