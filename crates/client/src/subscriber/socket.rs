//! One connection to one node: opened, welcomed, read and written.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use http::{HeaderValue, header::SEC_WEBSOCKET_PROTOCOL};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout},
};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{
        self, Message,
        client::IntoClientRequest,
        protocol::{CloseFrame, WebSocketConfig, frame::coding::CloseCode},
    },
};

use super::{
    ack::Batch,
    address::NodeUrl,
    closing,
    frame::{ClientFrame, ErrorFrame, ServerFrame, WelcomeFrame, proto},
    liveness::Liveness,
    position::Position,
};

/// A socket without `welcome` after this time is given up. A node needs about two seconds at most.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// Our frames are small: a node that does not take one in this time is gone.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// The largest push a node may be configured for, as JSON.
const FRAME_BYTES_MAX: usize = 16 << 20;
/// A node that asks for more patience gets this much.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);

/// How frames are written on the wire. What they say is the same.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Protocol {
    /// `pubsub.json.v1`: every node speaks it.
    #[default]
    Json,
    /// `pubsub.proto.v1`: smaller, and bytes travel as they are. A node that does not speak it refuses the session.
    Proto,
}

/// A session that got its `welcome`.
pub struct Session {
    /// Counts the sessions of one subscriber.
    pub number: u64,
    pub url: NodeUrl,
    pub welcome: WelcomeFrame,
    /// The position in the user's own log that was asked for.
    pub since: Option<Position>,
    pub liveness: Liveness,
    pub acks: Batch,
    protocol: Protocol,
    socket: WebSocketStream<TcpStream>,
}

/// Why there is no session, or none any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// The close code, as if it had been one where there is none.
    pub code: u16,
    pub reason: String,
    /// When the node wants to see us again.
    pub retry_after: Option<Duration>,
    /// The node refused the request itself: asking again does not help.
    pub is_refused: bool,
}

impl Ended {
    fn lost(reason: impl Into<String>) -> Self {
        Self { code: closing::LOST, reason: reason.into(), retry_after: None, is_refused: false }
    }

    /// Given up by us: nothing was heard.
    pub fn silent() -> Self {
        Self { code: closing::NO_PONG, ..Self::lost("nothing was heard after a ping") }
    }
}

/// Connects to this address, in this form, and waits for `welcome`, at most 10 s in all.
pub async fn open(
    number: u64,
    url: NodeUrl,
    (address, protocol): (String, Protocol),
    since: Option<Position>,
) -> Result<Session, (NodeUrl, Ended)> {
    match timeout(OPEN_TIMEOUT, connect(&url, &address, protocol)).await {
        Ok(Ok((socket, welcome))) => {
            let liveness = Liveness::new(welcome.ping_interval_ms, Instant::now());
            Ok(Session { number, url, welcome, since, liveness, acks: Batch::default(), protocol, socket })
        }
        Ok(Err(ended)) => Err((url, ended)),
        Err(_) => Err((url, Ended::lost("no welcome in time"))),
    }
}

async fn connect(
    url: &NodeUrl,
    address: &str,
    protocol: Protocol,
) -> Result<(WebSocketStream<TcpStream>, WelcomeFrame), Ended> {
    let stream = TcpStream::connect(url.authority()).await.map_err(|error| Ended::lost(in_words(&error)))?;
    stream.set_nodelay(true).map_err(|error| Ended::lost(error.to_string()))?;
    let config = WebSocketConfig::default()
        .read_buffer_size(16 << 10)
        .write_buffer_size(0)
        .max_message_size(Some(FRAME_BYTES_MAX))
        .max_frame_size(Some(FRAME_BYTES_MAX));
    let mut request = address.into_client_request().map_err(|error| Ended::lost(error.to_string()))?;
    if protocol == Protocol::Proto {
        request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("pubsub.proto.v1"));
    }
    let (mut socket, _) = client_async_with_config(request, stream, Some(config)).await.map_err(refusal)?;
    let mut refused: Option<ErrorFrame> = None;
    loop {
        match read(protocol, socket.next().await) {
            Incoming::Frame(ServerFrame::Welcome(welcome)) => return Ok((socket, welcome)),
            Incoming::Frame(ServerFrame::Error(error)) => refused = Some(error),
            Incoming::Frame(_) | Incoming::Sign => {}
            Incoming::Ended(mut ended) => {
                // The error frame before a close says more than the close does.
                if let Some(error) = refused {
                    ended.reason = format!("{}: {}", error.code, error.message);
                }
                return Err(ended);
            }
        }
    }
}

fn in_words(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        _ => error.to_string(),
    }
}

fn refusal(error: tungstenite::Error) -> Ended {
    let tungstenite::Error::Http(response) = error else { return Ended::lost(error.to_string()) };
    let status = response.status();
    let body = response.body().as_deref().and_then(|body| std::str::from_utf8(body).ok()).unwrap_or_default();
    let said: String = body.lines().next().unwrap_or_default().chars().take(200).collect();
    let retry_after = response.headers().get(http::header::RETRY_AFTER);
    let retry_after = retry_after.and_then(|value| value.to_str().ok()?.parse().ok());
    Ended {
        retry_after: retry_after.map(|seconds| Duration::from_secs(seconds).min(RETRY_AFTER_MAX)),
        is_refused: status.is_client_error() && status != http::StatusCode::TOO_MANY_REQUESTS,
        ..Ended::lost(format!("{status} {said}").trim().to_owned())
    }
}

/// What was read from a socket.
pub enum Incoming {
    /// A frame of the protocol.
    Frame(ServerFrame),
    /// Something that only shows that the node is there.
    Sign,
    /// No more comes.
    Ended(Ended),
}

fn read(protocol: Protocol, message: Option<Result<Message, tungstenite::Error>>) -> Incoming {
    let frame = match message {
        Some(Ok(Message::Text(text))) if protocol == Protocol::Json => {
            serde_json::from_str(&text).map_err(|error| error.to_string())
        }
        Some(Ok(Message::Binary(bytes))) if protocol == Protocol::Proto => proto::decode(bytes),
        Some(Ok(Message::Close(frame))) => {
            let (code, reason) = match frame {
                Some(frame) => (frame.code.into(), frame.reason.to_string()),
                None => (1005, String::new()),
            };
            return Incoming::Ended(Ended { code, ..Ended::lost(reason) });
        }
        Some(Ok(_)) => return Incoming::Sign,
        Some(Err(error)) => return Incoming::Ended(Ended::lost(error.to_string())),
        None => return Incoming::Ended(Ended::lost("the connection ended")),
    };
    match frame {
        Ok(frame) => Incoming::Frame(frame),
        Err(error) => {
            tracing::warn!(%error, "a frame that breaks the protocol is ignored");
            Incoming::Sign
        }
    }
}

impl Session {
    /// The next thing from the node. Safe to drop before it is done.
    pub async fn next(&mut self) -> Incoming {
        let incoming = read(self.protocol, self.socket.next().await);
        self.liveness.heard(Instant::now());
        incoming
    }

    /// Sends a frame; an error means that the session is lost.
    pub async fn send(&mut self, frame: &ClientFrame) -> Result<(), Ended> {
        let message = match self.protocol {
            Protocol::Json => serde_json::to_string(frame).map(Message::text),
            Protocol::Proto => Ok(Message::binary(proto::encode(frame))),
        };
        let message = message.map_err(|error| Ended::lost(error.to_string()))?;
        match timeout(SEND_TIMEOUT, self.socket.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Ended::lost(error.to_string())),
            Err(_) => Err(Ended::lost("the node takes no more bytes")),
        }
    }

    /// Sends every acknowledgement that waits.
    pub async fn send_acks(&mut self) -> Result<(), Ended> {
        while let Some(frame) = self.acks.take_all() {
            self.send(&frame).await?;
        }
        Ok(())
    }

    /// Acknowledges what is left, says goodbye with 1000 and lets the connection go.
    pub async fn close(mut self) {
        let goodbye = async {
            if self.send_acks().await.is_ok() {
                let frame = CloseFrame { code: CloseCode::Normal, reason: "".into() };
                let _ = self.socket.close(Some(frame)).await;
            }
        };
        let _ = timeout(CLOSE_TIMEOUT, goodbye).await;
    }
}
