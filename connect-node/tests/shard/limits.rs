//! What clients are held to.

use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio_tungstenite::{
    MaybeTlsStream,
    tungstenite::{
        Message,
        protocol::frame::{
            Frame,
            coding::{Data, OpCode},
        },
    },
};

use crate::fixture::{Node, until};

#[tokio::test]
async fn malformed_frames_are_answered_until_there_are_too_many() {
    let node = Node::with(|setup| setup.config.bad_frames_per_minute = 4).await;
    let mut client = node.member("user_id=u").await;
    for frame in ["nonsense", "[1]", r#"{"type":"jump","id":3}"#] {
        client.send_raw(Message::text(frame)).await;
        let error = client.json().await;
        assert_eq!((&error["type"], &error["code"]), (&json!("error"), &json!("BAD_REQUEST")), "{frame}");
        assert_eq!(error.get("id").is_some(), frame.contains("id"));
    }
    client.send_raw(Message::binary(vec![1, 2])).await;
    assert!(client.json().await["message"].as_str().unwrap().contains("binary"));
    // A frame of the protocol with a bad field does not count.
    client.send(json!({"type": "join", "id": 1, "room_id": ""})).await;
    assert_eq!(client.json().await["message"], "room_id is empty; it takes 1 to 128 bytes");
    assert!(client.until_pong().await.is_empty());
    client.send_raw(Message::text("nonsense")).await;
    let (frames, code) = client.until_close().await;
    assert_eq!((frames[0]["code"].as_str(), code), (Some("BAD_REQUEST"), 1008));
}

#[tokio::test]
async fn an_ack_is_taken_silently_and_publishing_is_forbidden() {
    let node = Node::start().await;
    let mut client = node.member("user_id=u&room_id=r").await;
    client.send(json!({"type": "ack", "message_ids": ["01J", "01K"], "later": true})).await;
    client
        .send(json!({"type": "publish", "id": 8, "room_id": "r", "content": {"type": "TEXT", "data": "x"}}))
        .await;
    let error = client.json().await;
    assert_eq!(
        (&error["code"], &error["id"], &error["room_id"]),
        (&json!("FORBIDDEN"), &json!(8), &json!("r"))
    );
    assert!(client.until_pong().await.is_empty());
}

#[tokio::test]
async fn a_client_that_talks_too_fast_is_told_when_to_go_on() {
    let node = Node::with(|setup| {
        setup.config.frames_per_second = 10;
        setup.config.frames_burst = 5;
    })
    .await;
    let mut client = node.member("user_id=u").await;
    for id in 0..20 {
        client.send(json!({"type": "join", "id": id, "room_id": format!("r{id}")})).await;
    }
    let (mut joined, mut limited) = (0, 0);
    for _ in 0..20 {
        let frame = client.json().await;
        if frame["type"] == "joined" {
            joined += 1;
        } else {
            limited += 1;
            assert_eq!(frame["code"], "RATE_LIMITED", "{frame}");
            assert!((1..=100).contains(&frame["retry_after_ms"].as_u64().unwrap()) && frame["id"].is_u64());
        }
    }
    assert!(joined >= 5 && limited >= 5, "{joined} joined, {limited} limited");
    // What was refused was not acted on.
    let asked = node.hub.until("the joins", |told| Some(told.joins.len())).await;
    assert_eq!(asked, joined);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_never_stops_talking_is_hardly_read() {
    let node = Node::with(|setup| setup.config.frames_per_second = 1).await;
    let (mut sink, mut stream) = node.member("user_id=loud").await.socket.split();
    let frame = json!({"type": "ping", "id": 1, "x": "x".repeat(1_000)}).to_string();
    let loud = tokio::spawn(async move { while sink.feed(Message::text(frame.clone())).await.is_ok() {} });
    // It reads its errors, so that it is not slow.
    let listening = tokio::spawn(async move { while let Some(Ok(_)) = stream.next().await {} });
    let limited = || node.metric("pubsub_node_frames_in_total", "limited");
    until("a refusal", || limited() > 0.0).await;
    let began = std::time::Instant::now();
    // The shard has time for thousands of frames, if it read them.
    let mut quiet = node.member("user_id=quiet").await;
    for _ in 0..190 {
        assert!(quiet.until_pong().await.is_empty());
    }
    // One read every 250 ms at most, of 64 KiB.
    let reads = 2.0 + began.elapsed().as_secs_f64() / 0.25;
    assert!(limited() <= reads * 65.0, "{} in {:?}", limited(), began.elapsed());
    assert!(!loud.is_finished() && !listening.is_finished());
    loud.abort();
    listening.abort();
}

#[tokio::test]
async fn a_frame_over_the_limit_closes_with_1009() {
    let node = Node::with(|setup| setup.config.frame_bytes_max = 1024).await;
    let mut client = node.member("user_id=u").await;
    let frame = |padding: usize| json!({"type": "ping", "id": 1, "x": "x".repeat(padding)}).to_string();
    let envelope = frame(0).len();
    client.send_raw(Message::text(frame(1024 - envelope))).await;
    assert_eq!(client.json().await["type"], "pong");
    // Much more than socket buffers hold; the close frame still arrives, because the rest is read and thrown away.
    let large = Message::text(frame(3_000_000));
    let (sent, (_, code)) = {
        let (mut sink, mut stream) = client.socket.split();
        let reading = async {
            loop {
                match stream.next().await {
                    Some(Ok(Message::Close(Some(close)))) => return ((), u16::from(close.code)),
                    Some(Ok(_)) => {}
                    other => panic!("no close frame: {other:?}"),
                }
            }
        };
        crate::fixture::within("the close", async { tokio::join!(sink.send(large), reading) }).await
    };
    drop(sent);
    assert_eq!(code, 1009);
}

#[tokio::test]
async fn fragments_make_one_frame_and_count_together() {
    let node = Node::with(|setup| setup.config.frame_bytes_max = 64).await;
    let mut client = node.member("user_id=u").await;
    let part = |data: &'static str, op, last| Message::Frame(Frame::message(data, OpCode::Data(op), last));
    client.send_raw(part(r#"{"type":"pi"#, Data::Text, false)).await;
    client.send_raw(Message::Ping("between".into())).await;
    client.send_raw(part(r#"ng","id":1}"#, Data::Continue, true)).await;
    assert_eq!(client.json().await, json!({"type": "pong", "id": 1}));
    let forty = "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx";
    client.send_raw(part(forty, Data::Text, false)).await;
    client.send_raw(part(forty, Data::Continue, true)).await;
    assert_eq!(client.close_code().await, 1009);
}

#[tokio::test]
async fn a_client_that_breaks_the_websocket_protocol_is_closed_with_its_code() {
    let node = Node::start().await;
    // Text that is no UTF-8, masked with zeros; a frame without a mask; a reserved opcode.
    for (bytes, expected) in [
        (&[0x81, 0x82, 0, 0, 0, 0, 0xff, 0xfe][..], 1007),
        (&[0x81, 0x01, b'x'], 1002),
        (&[0x83, 0x80, 0, 0, 0, 0], 1002),
    ] {
        let mut client = node.member("user_id=u").await;
        let MaybeTlsStream::Plain(socket) = client.socket.get_mut() else { unreachable!("no TLS here") };
        socket.write_all(bytes).await.unwrap();
        assert_eq!(client.close_code().await, expected);
    }
}
