//! A plain WebSocket client that shows frames as they are, for tests of the protocol itself.

use std::{net::SocketAddr, time::Duration};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{
    net::{TcpSocket, TcpStream},
    time::timeout,
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream,
    tungstenite::{Error, Message, protocol::CloseFrame},
};

use crate::wait::DEADLINE;

/// One connection.
pub struct Client {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

/// What came.
#[derive(Debug)]
pub enum Incoming {
    /// A frame of the protocol.
    Frame(Value),
    /// The end, with the close code if there was one.
    Closed(Option<u16>),
}

impl Client {
    /// Connects and waits for `welcome` and for the answer about each room.
    pub async fn join(url: &str, user: &str, rooms: &[&str]) -> Self {
        let mut client = Self::connect(url, user, rooms).await;
        client.frame("welcome").await;
        for _ in rooms {
            client.frame("joined").await;
        }
        client
    }

    /// Connects and reads nothing yet. Ids must not need percent-encoding.
    pub async fn connect(url: &str, user: &str, rooms: &[&str]) -> Self {
        let rooms: String = rooms.iter().map(|room| format!("&room_id={room}")).collect();
        Self::open(&format!("{url}?user_id={user}{rooms}")).await.expect("the node takes the session")
    }

    /// As [`Client::join`], with a socket that takes only some kilobytes that are not read, so that whoever stops reading
    /// is soon seen to.
    pub async fn narrow(url: &str, user: &str, rooms: &[&str]) -> Self {
        let rooms_of_url: String = rooms.iter().map(|room| format!("&room_id={room}")).collect();
        let url = format!("{url}?user_id={user}{rooms_of_url}");
        let host = url.trim_start_matches("ws://").split('/').next().expect("split gives one");
        let address: SocketAddr = host.parse().expect("an address of a test has no name");
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(4_096).expect("a small buffer");
        let stream = timeout(DEADLINE, socket.connect(address)).await.expect("the node answers");
        let stream = MaybeTlsStream::Plain(stream.expect("the node listens"));
        let upgrading = tokio_tungstenite::client_async(url, stream);
        let (socket, _) =
            timeout(DEADLINE, upgrading).await.expect("the node answers").expect("it takes the session");
        let mut client = Self { socket };
        client.frame("welcome").await;
        for _ in rooms {
            client.frame("joined").await;
        }
        client
    }

    /// Connects to an address as it is.
    pub async fn open(address: &str) -> Result<Self, Error> {
        let connecting = tokio_tungstenite::connect_async(address);
        let (socket, _) = timeout(DEADLINE, connecting).await.expect("the node answers")?;
        Ok(Self { socket })
    }

    /// The next frame or the end; pings are answered on the way.
    pub async fn next(&mut self) -> Incoming {
        self.next_within(DEADLINE).await.expect("something comes before the deadline")
    }

    /// As [`Client::next`]; `None` when nothing came in time.
    pub async fn next_within(&mut self, time: Duration) -> Option<Incoming> {
        let reading = async {
            loop {
                match self.socket.next().await {
                    Some(Ok(Message::Text(text))) => {
                        return Incoming::Frame(serde_json::from_str(&text).expect("frames are JSON"));
                    }
                    Some(Ok(Message::Close(frame))) => {
                        return Incoming::Closed(frame.map(|CloseFrame { code, .. }| code.into()));
                    }
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return Incoming::Closed(None),
                }
            }
        };
        timeout(time, reading).await.ok()
    }

    /// The next frame, which must be of this type.
    pub async fn frame(&mut self, kind: &str) -> Value {
        match self.next().await {
            Incoming::Frame(frame) => {
                assert_eq!(frame["type"], kind, "{frame}");
                frame
            }
            Incoming::Closed(code) => panic!("closed with {code:?} instead of {kind}"),
        }
    }

    /// The next frame, whatever it is.
    pub async fn frame_of_any_kind(&mut self) -> Value {
        match self.next().await {
            Incoming::Frame(frame) => frame,
            Incoming::Closed(code) => panic!("closed with {code:?}"),
        }
    }

    /// The data of the next frame, which must be a push of text.
    pub async fn push(&mut self) -> String {
        let frame = self.frame("push").await;
        frame["content"]["data"].as_str().unwrap_or_else(|| panic!("no text: {frame}")).to_owned()
    }

    /// Reads frames away until the end; its close code.
    pub async fn closed(&mut self) -> Option<u16> {
        loop {
            if let Incoming::Closed(code) = self.next().await {
                return code;
            }
        }
    }

    /// Sends a frame.
    pub async fn send(&mut self, frame: Value) {
        self.socket.send(Message::text(frame.to_string())).await.expect("the connection is open");
    }

    /// Joins a room and waits for the answer, which must be the next frame.
    pub async fn join_room(&mut self, room: &str) -> Value {
        self.send(json!({"type": "join", "id": 1, "room_id": room})).await;
        self.frame("joined").await
    }

    /// Ends with a close frame and waits for the server's.
    pub async fn close(mut self) {
        let _ = self.socket.close(None).await;
        let _ = timeout(DEADLINE, async { while let Some(Ok(_)) = self.socket.next().await {} }).await;
    }
}
