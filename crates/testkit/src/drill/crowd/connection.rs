//! One connection of a lean session: from its socket to the answer of its join.

use std::{
    net::{Ipv4Addr, SocketAddr},
    rc::Rc,
    time::Duration,
};

use futures_util::{SinkExt, StreamExt};
use tokio::{
    net::{TcpSocket, TcpStream},
    time::{sleep, timeout},
};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{Error, Message, protocol::WebSocketConfig},
};

use super::frame::{Frame, join};
use crate::drill::history::At;

/// What a socket and a handshake may take.
const OPEN_WITHIN: Duration = Duration::from_secs(5);
/// What `welcome` and each answer to a join may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Thousands of sockets share this process's memory.
const READ_BUFFER_BYTES: usize = 4 << 10;
/// A refused join that does not say when to ask again.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// Who connects, and what it wants.
#[derive(Debug, Clone)]
pub struct Profile {
    pub user: String,
    pub client_id: String,
    pub room_id: String,
    pub room: u32,
    pub source: Ipv4Addr,
    /// Nodes, and the proxies that are dialed instead.
    pub doors: Vec<(SocketAddr, SocketAddr)>,
}

impl Profile {
    fn door(&self, node: SocketAddr) -> SocketAddr {
        self.doors.iter().find(|(own, _)| *own == node).map_or(node, |(_, proxied)| *proxied)
    }
}

/// A connection whose room is joined.
pub struct Connection {
    socket: WebSocketStream<TcpStream>,
    pub node_id: String,
    pub session_id: String,
    pub ping_interval: Duration,
    /// The answer of the join.
    pub joined: Frame,
}

/// What came.
pub enum Incoming {
    Frame(Box<Frame>),
    /// A ping or pong: the node is alive.
    Sign,
    /// The end, with its close code.
    End(u16),
}

/// Why there is no connection.
#[derive(Debug)]
pub enum Failure {
    /// Worth another attempt.
    Passing(String),
    /// Not to be tried again: the close code, or the status of the answer.
    Final(u16),
}

impl Connection {
    /// Connects, and joins after `since`.
    pub async fn open(profile: Rc<Profile>, node: SocketAddr, since: Option<At>) -> Result<Self, Failure> {
        let opening = timeout(OPEN_WITHIN, socket(&profile, node)).await;
        let mut socket = opening.map_err(|_| Failure::Passing("no handshake in time".to_owned()))??;
        let welcome = answer(&mut socket, |frame| frame.kind == "welcome").await?;
        loop {
            let asking = Message::text(join(&profile.room_id, since));
            socket.send(asking).await.map_err(|error| Failure::Passing(error.to_string()))?;
            let is_answer =
                |frame: &Frame| frame.id == Some(1) && (frame.kind == "joined" || frame.kind == "error");
            let joined = answer(&mut socket, is_answer).await?;
            if joined.kind == "joined" {
                let ping_interval = Duration::from_millis(welcome.ping_interval_ms.max(1_000));
                let (node_id, session_id) = (welcome.node_id, welcome.session_id);
                return Ok(Self { socket, node_id, session_id, ping_interval, joined });
            }
            if !["UNAVAILABLE", "RATE_LIMITED", "INTERNAL"].contains(&joined.code.as_str()) {
                return Err(Failure::Final(0));
            }
            sleep(joined.retry_after_ms.map_or(ASK_AGAIN, Duration::from_millis)).await;
        }
    }

    /// What comes next.
    pub async fn next(&mut self) -> Incoming {
        match self.socket.next().await {
            Some(Ok(Message::Text(text))) => match serde_json::from_str(&text) {
                Ok(frame) => Incoming::Frame(Box::new(frame)),
                Err(_) => Incoming::End(1007),
            },
            Some(Ok(Message::Close(close))) => Incoming::End(close.map_or(1005, |close| close.code.into())),
            Some(Ok(_)) => Incoming::Sign,
            Some(Err(_)) | None => Incoming::End(1006),
        }
    }

    /// Asks whether the node is there. An error shows when it is read.
    pub async fn ping(&mut self) {
        let _ = self.socket.send(Message::text(r#"{"type":"ping","id":2}"#)).await;
    }

    /// Says goodbye and waits for no answer.
    pub async fn close(mut self) {
        let _ = timeout(Duration::from_secs(1), self.socket.close(None)).await;
    }
}

async fn socket(profile: &Profile, node: SocketAddr) -> Result<WebSocketStream<TcpStream>, Failure> {
    let node = profile.door(node);
    let passing = |error: std::io::Error| Failure::Passing(error.to_string());
    let socket = TcpSocket::new_v4().map_err(passing)?;
    // Ports that wait for a minute after their connection would be missed by the next thousand.
    socket.set_zero_linger().map_err(passing)?;
    socket.bind((profile.source, 0).into()).map_err(passing)?;
    let stream = socket.connect(node).await.map_err(passing)?;
    stream.set_nodelay(true).map_err(passing)?;
    let address = format!("ws://{node}/ws?user_id={}&client_id={}", profile.user, profile.client_id);
    let config = WebSocketConfig::default().read_buffer_size(READ_BUFFER_BYTES);
    match client_async_with_config(address, stream, Some(config)).await {
        Ok((socket, _)) => Ok(socket),
        Err(Error::Http(answer)) if answer.status().is_client_error() && answer.status() != 429 => {
            Err(Failure::Final(answer.status().as_u16()))
        }
        Err(error) => Err(Failure::Passing(error.to_string())),
    }
}

async fn answer(
    socket: &mut WebSocketStream<TcpStream>,
    is_wanted: impl Fn(&Frame) -> bool,
) -> Result<Frame, Failure> {
    let reading = async {
        loop {
            match socket.next().await {
                Some(Ok(Message::Text(text))) => match serde_json::from_str::<Frame>(&text) {
                    Ok(frame) if is_wanted(&frame) => return Ok(frame),
                    Ok(_) => {}
                    Err(error) => return Err(Failure::Passing(error.to_string())),
                },
                Some(Ok(Message::Close(Some(close)))) if is_final(close.code.into()) => {
                    return Err(Failure::Final(close.code.into()));
                }
                Some(Ok(Message::Close(close))) => {
                    return Err(Failure::Passing(format!("closed: {close:?}")));
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(Failure::Passing(error.to_string())),
                None => return Err(Failure::Passing("the connection ended".to_owned())),
            }
        }
    };
    let answered = timeout(ANSWER_WITHIN, reading).await;
    answered.unwrap_or_else(|_| Err(Failure::Passing("no answer in time".to_owned())))
}

/// Whether a close code forbids another connection.
pub fn is_final(code: u16) -> bool {
    !matches!(code, 1001 | 1005 | 1006 | 1011 | 1012 | 1013 | 4000..=4499)
}
