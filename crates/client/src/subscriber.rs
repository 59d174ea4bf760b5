//! A session with the cluster over WebSocket, over as many connections as it takes.

mod ack;
mod address;
mod closing;
mod directory;
mod driver;
mod event;
mod frame;
mod jitter;
mod liveness;
mod nodes;
mod position;
mod rooms;
mod socket;

use std::time::Duration;

use roomcast_types::{ClientId, RoomId, UserId, id::check_user_name};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
};

pub use self::{
    ack::Acknowledge,
    event::{Event, GapCause, Joined, Payload, Push, Target, Welcome},
    position::{Continuity, Position},
    socket::Protocol,
};
use self::{
    ack::Acks,
    address::NodeUrl,
    directory::Directory,
    driver::{Command, Driver, Identity},
    position::{Log, Positions},
    rooms::RoomSet,
};
use crate::error::Error;

/// An answer to a join or leave takes about a second at most; this allows for a reconnect in between.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Events that wait for the application before reading stops.
const EVENTS_MAX: usize = 256;
/// Joins and leaves that wait for the subscriber's task.
const COMMANDS_MAX: usize = 64;
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Describes a subscriber before it starts.
#[derive(Debug, Clone)]
pub struct Builder {
    urls: Vec<String>,
    user_id: Option<String>,
    user_name: Option<String>,
    client_id: Option<String>,
    token: Option<String>,
    rooms: Vec<String>,
    since: Vec<(Log, Position)>,
    request_timeout: Duration,
    events_max: usize,
    acknowledge: Acknowledge,
    protocol: Protocol,
}

impl Builder {
    /// One more node to start from, `ws://host:port/ws`. Others are learned from the node that answers.
    pub fn url(mut self, url: impl Into<String>) -> Self {
        self.urls.push(url.into());
        self
    }

    /// The user. Needed unless the token names one.
    pub fn user_id(mut self, user_id: impl Into<String>) -> Self {
        self.user_id = Some(user_id.into());
        self
    }

    /// A name for display, at most 128 bytes.
    pub fn user_name(mut self, user_name: impl Into<String>) -> Self {
        self.user_name = Some(user_name.into());
        self
    }

    /// Names this client among those of the user, 1 to 64 of `A-Za-z0-9._-`; random unless given. A later session with
    /// the same one takes the place of the earlier.
    pub fn client_id(mut self, client_id: impl Into<String>) -> Self {
        self.client_id = Some(client_id.into());
        self
    }

    /// A token that proves who the user is.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// One more room to be in from the start.
    pub fn room(mut self, room_id: impl Into<String>) -> Self {
        self.rooms.push(room_id.into());
        self
    }

    /// As [`Builder::room`], from where an earlier life of the application stood: what it missed comes, or [`Event::Gap`].
    pub fn room_since(mut self, room_id: impl Into<String>, position: Position) -> Self {
        let room_id = room_id.into();
        self.since.push((Log::Room(room_id.clone()), position));
        self.room(room_id)
    }

    /// From where an earlier life of the application stood in the user's own log.
    pub fn since(mut self, position: Position) -> Self {
        self.since.push((Log::Own, position));
        self
    }

    /// How long a join or leave waits for its answer, reconnects included (10 s).
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout;
        self
    }

    /// Events that wait for the application before the socket is read no more (256).
    pub fn events_max(mut self, events: usize) -> Self {
        self.events_max = events.max(1);
        self
    }

    /// When pushes that want it are acknowledged (on receipt). They leave together: after 50 ms, or when 256 wait.
    pub fn acknowledge(mut self, acknowledge: Acknowledge) -> Self {
        self.acknowledge = acknowledge;
        self
    }

    /// How frames are written on the wire (JSON).
    pub fn protocol(mut self, protocol: Protocol) -> Self {
        self.protocol = protocol;
        self
    }

    /// Checks everything and starts connecting, in a task of the current tokio runtime.
    pub fn start(self) -> Result<Subscriber, Error> {
        let urls = self.urls.iter().map(|url| NodeUrl::parse(url)).collect::<Result<Vec<_>, _>>()?;
        let directory = Directory::new(urls)
            .ok_or_else(|| Error::InvalidOption("no url was given; it takes ws://host:port/ws".into()))?;
        if self.user_id.is_none() && self.token.is_none() {
            return Err(Error::InvalidOption("user_id is needed unless a token names the user".into()));
        }
        let user_id = self.user_id.map(UserId::new).transpose()?.map(String::from);
        check_user_name(self.user_name.as_deref().unwrap_or_default())?;
        let client_id = match self.client_id {
            Some(client_id) => ClientId::new(client_id)?,
            None => ClientId::new(format!("{:032x}", rand::random::<u128>()))?,
        };
        let rooms = self.rooms.iter().map(|room_id| RoomId::new(room_id).map(String::from));
        let rooms = RoomSet::new(rooms.collect::<Result<Vec<_>, _>>()?, self.request_timeout);
        let identity = Identity {
            user_id,
            user_name: self.user_name,
            client_id: client_id.clone(),
            token: self.token,
            protocol: self.protocol,
        };
        let mut positions = Positions::default();
        for (log, position) in self.since {
            positions.restore(log, position);
        }
        let acks = Acks::new(self.acknowledge);
        let (commands, to_do) = mpsc::channel(COMMANDS_MAX);
        let (told, events) = mpsc::channel(self.events_max);
        let driver = Driver::new(identity, directory, rooms, positions, acks, (to_do, told));
        let task = tokio::spawn(driver.run());
        Ok(Subscriber { client_id, events, rooms: Rooms { commands }, task })
    }
}

/// Holds one session with the cluster: reconnects with back-off, to another node when its own is gone or drains; joins
/// its rooms again; hands every push over once, and those of a log in its order. Only `ws://` addresses: this build has no
/// TLS.
///
/// **What was missed** while there was no session follows from the logs of the rooms and the user. Where it does not, or
/// may not, an [`Event::Gap`] stands in its place: the application then reads what it needs from elsewhere.
///
/// **Backpressure**: at most 256 events wait for [`Subscriber::next`]. An application that reads slower stops the
/// reading of the socket, and the node closes a session that falls too far behind (4002, then a reconnect).
///
/// Dropping it drops the connection without a goodbye; [`Subscriber::close`] says one.
///
/// ```no_run
/// # async fn example() -> Result<(), roomcast_client::Error> {
/// use roomcast_client::{Event, Subscriber};
///
/// let mut subscriber = Subscriber::builder("ws://localhost:8080/ws").user_id("user-001").room("room-001").start()?;
/// while let Some(event) = subscriber.next().await {
///     match event {
///         Event::Push(push) => println!("{:?}", push.payload.as_text()),
///         Event::Gap { room_id, from, to, .. } => println!("missed in {room_id:?}: after {from:?}, up to {to:?}"),
///         Event::JoinFailed { room_id, fault, .. } => eprintln!("not in {room_id}: {fault}"),
///         Event::Left { room_id, reason } => eprintln!("out of {room_id}: {reason}"),
///         Event::Refused(fault) => eprintln!("{fault}"),
///         Event::Closed { reason, .. } => eprintln!("the end: {reason}"),
///         Event::Welcome(_) | Event::Reconnected(_) | Event::Joined(_) | Event::Disconnected { .. } => {}
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Subscriber {
    client_id: ClientId,
    events: mpsc::Receiver<Event>,
    rooms: Rooms,
    task: JoinHandle<()>,
}

impl Subscriber {
    /// Starts from one node, `ws://host:port/ws`.
    pub fn builder(url: impl Into<String>) -> Builder {
        Builder {
            urls: vec![url.into()],
            user_id: None,
            user_name: None,
            client_id: None,
            token: None,
            rooms: Vec::new(),
            since: Vec::new(),
            request_timeout: REQUEST_TIMEOUT,
            events_max: EVENTS_MAX,
            acknowledge: Acknowledge::default(),
            protocol: Protocol::default(),
        }
    }

    /// The next event; `None` after [`Event::Closed`]. Safe to drop before it is done.
    pub async fn next(&mut self) -> Option<Event> {
        self.events.recv().await
    }

    /// The id that stays the same over reconnects.
    pub fn client_id(&self) -> &str {
        self.client_id.as_str()
    }

    /// Joins and leaves rooms, also from other tasks.
    pub fn rooms(&self) -> Rooms {
        self.rooms.clone()
    }

    /// As [`Rooms::join`].
    pub async fn join(&self, room_id: &str) -> Result<Joined, Error> {
        self.rooms.join(room_id).await
    }

    /// As [`Rooms::leave`].
    pub async fn leave(&self, room_id: &str) -> Result<(), Error> {
        self.rooms.leave(room_id).await
    }

    /// Closes with 1000 and ends. Events that were not read are dropped.
    pub async fn close(mut self) {
        let (said, heard) = oneshot::channel();
        let close = self.rooms.commands.send(Command::Close(said));
        let goodbye = async {
            if close.await.is_ok() {
                let _ = heard.await;
            }
        };
        // A task that is at its end waits for its events to be taken.
        let drained = async { while self.events.recv().await.is_some() {} };
        let both = async { tokio::join!(goodbye, drained) };
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, both).await;
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Joins and leaves rooms of one [`Subscriber`].
#[derive(Debug, Clone)]
pub struct Rooms {
    commands: mpsc::Sender<Command>,
}

impl Rooms {
    /// Joins a room and waits for the answer; a refusal that may pass (UNAVAILABLE, RATE_LIMITED, INTERNAL) is tried
    /// again until the timeout. After a timeout the join is withdrawn. Dropping the future withdraws nothing.
    /// The answer can only be read while events are taken or fit: a task that joins must not let 256 of them pile up.
    pub async fn join(&self, room_id: &str) -> Result<Joined, Error> {
        let room_id = RoomId::new(room_id)?.into();
        self.ask(|reply| Command::Join(room_id, reply)).await
    }

    /// Leaves a room and waits for the answer. Without a connection it is left at once.
    pub async fn leave(&self, room_id: &str) -> Result<(), Error> {
        let room_id = RoomId::new(room_id)?.into();
        self.ask(|reply| Command::Leave(room_id, reply)).await
    }

    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, Error>>) -> Command,
    ) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| Error::Closed)?;
        answer.await.map_err(|_| Error::Closed)?
    }
}
