//! How a session begins.

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::tungstenite::Message;

use crate::fixture::{Node, within};
use connect_node::{log::returning::Standing, ports::ToShard};

#[tokio::test]
async fn welcome_comes_first_and_the_rooms_of_the_url_follow_in_order() {
    let node = Node::start().await;
    let mut client =
        node.connect("user_id=%C3%BC&user_name=N%20N&client_id=c.1&room_id=b&room_id=a%26&room_id=b").await;
    let welcome = client.json().await;
    let opened = node.hub.session("ü").await;
    assert_eq!((opened.user_name.as_str(), opened.client_id.as_str()), ("N N", "c.1"));
    assert_eq!(
        welcome,
        json!({"type": "welcome", "protocol": 1, "session_id": opened.session_id.to_string(),
               "node_id": "connect-node-1", "user_id": "ü", "client_id": "c.1", "ping_interval_ms": 25_000,
               "server_time_ms": welcome["server_time_ms"], "limits": {"frame_bytes": 32_768, "rooms": 100}})
    );
    assert!(welcome["server_time_ms"].as_u64().unwrap() > 1_700_000_000_000);
    assert_eq!(client.json().await, json!({"type": "joined", "room_id": "b", "members": 7}));
    assert_eq!(client.json().await, json!({"type": "joined", "room_id": "a&", "members": 7}));
    assert!(client.until_pong().await.is_empty());
}

#[tokio::test]
async fn frames_of_a_client_wait_for_its_welcome() {
    let node = Node::with(|setup| setup.holds_welcome = true).await;
    let mut client = node.connect("user_id=u").await;
    client.send_raw(Message::text(r#"{"type":"ping","id":1}"#)).await;
    let key = node.hub.session("u").await.key;
    // A session that was not welcomed is no target of a push to all, and closed to one of its user.
    let all = crate::fixture::counts(node.push_all("early").await).await;
    assert_eq!(all.targets(), 0);
    let own = crate::fixture::counts(node.push_sessions(vec![(key, 0)], "early").await).await;
    assert_eq!((own.targets(), own.closed), (1, 1));
    node.send(0, ToShard::Welcome { session: key, standing: Standing::default() }).await;
    assert_eq!(client.json().await["type"], "welcome");
    assert_eq!(client.json().await, json!({"type": "pong", "id": 1}));
}

#[tokio::test]
async fn a_frame_right_behind_the_handshake_is_not_lost() {
    let node = Node::start().await;
    let mut socket = tokio::net::TcpStream::connect(node.address).await.unwrap();
    let request = "GET /ws?user_id=u HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    // A text frame, masked with zeros.
    let frame = br#"{"type":"ping","id":9}"#;
    let header = [0x81, 0x80 | frame.len() as u8, 0, 0, 0, 0];
    socket.write_all(&[request.as_bytes(), &header, frame].concat()).await.unwrap();
    let mut read = Vec::new();
    let pong = br#"{"type":"pong","id":9}"#;
    within("the pong", async {
        while !read.windows(pong.len()).any(|bytes| bytes == pong) {
            assert_ne!(socket.read_buf(&mut read).await.unwrap(), 0);
        }
    })
    .await;
    let text = String::from_utf8_lossy(&read).to_lowercase();
    assert!(
        text.starts_with("http/1.1 101 ")
            && text.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=")
    );
    assert!(text.find("welcome").unwrap() < text.find("pong").unwrap());
}
