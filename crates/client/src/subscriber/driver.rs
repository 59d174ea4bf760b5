//! The task behind a subscriber: connects, keeps one session alive, moves to another node, and hands over events.
//!
//! | state | opened | connection lost | time | DRAINING |
//! |---|---|---|---|---|
//! | opening (no `current`) | connected | waits | - | - |
//! | connected | moves: the old one retires | waits | - | opens beside it after the delay |
//! | waiting (`retry_at`) | - | - | opening | - |

mod connections;
mod frames;

use std::{collections::VecDeque, future::Future, pin::Pin};

use roomcast_types::ClientId;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use super::{
    ack::Acks,
    address::NodeUrl,
    directory::{Directory, NodeList},
    event::Event,
    frame::ClientFrame,
    liveness::Verdict,
    position::Positions,
    rooms::{JoinReply, LeaveReply, RoomSet, Step},
    socket::{Ended, Incoming, Protocol, Session},
};

type Pending<T> = Option<Pin<Box<dyn Future<Output = T> + Send>>>;

/// Who connects, and how he speaks.
pub struct Identity {
    pub user_id: Option<String>,
    pub user_name: Option<String>,
    pub client_id: ClientId,
    pub token: Option<String>,
    pub protocol: Protocol,
}

/// What the application asks for.
pub enum Command {
    Join(String, JoinReply),
    Leave(String, LeaveReply),
    /// Answered when the goodbye was said.
    Close(oneshot::Sender<()>),
}

/// Something to react to.
enum Input {
    Command(Option<Command>),
    /// The application took an event, or will never take one again.
    Room(bool),
    Current(Incoming),
    Retiring(Incoming),
    /// The application acknowledged something.
    Acks,
    Opened(Result<Session, (NodeUrl, Ended)>),
    Nodes(Option<NodeList>),
    Time,
}

/// All state of a subscriber.
pub struct Driver {
    identity: Identity,
    commands: mpsc::Receiver<Command>,
    /// Read by the application; when it is full, `outbox` fills, and nothing is read from the sockets.
    events: mpsc::Sender<Event>,
    /// The few events of one input; the sockets are read only while it is empty.
    outbox: VecDeque<Event>,
    rooms: RoomSet,
    positions: Positions,
    acks: Acks,
    directory: Directory,
    last_id: u64,
    last_session: u64,
    attempt: u32,
    was_connected: bool,
    /// A connection was tried beside the current one, which may be told so with 4500.
    is_moving: bool,
    current: Option<Session>,
    retiring: Option<Session>,
    opening: Pending<Result<Session, (NodeUrl, Ended)>>,
    asking: Pending<Option<NodeList>>,
    retry_at: Option<Instant>,
    stable_at: Option<Instant>,
    release_at: Option<Instant>,
    refresh_at: Option<Instant>,
}

impl Driver {
    pub fn new(
        identity: Identity,
        directory: Directory,
        rooms: RoomSet,
        positions: Positions,
        acks: Acks,
        (commands, events): (mpsc::Receiver<Command>, mpsc::Sender<Event>),
    ) -> Self {
        Self {
            identity,
            commands,
            events,
            outbox: VecDeque::new(),
            rooms,
            positions,
            acks,
            directory,
            last_id: 0,
            last_session: 0,
            attempt: 0,
            was_connected: false,
            is_moving: false,
            current: None,
            retiring: None,
            opening: None,
            asking: None,
            retry_at: None,
            stable_at: None,
            release_at: None,
            refresh_at: None,
        }
    }

    /// Runs until the application closes it or the node says that there is no coming back.
    pub async fn run(mut self) {
        self.open();
        loop {
            let input = self.next_input().await;
            let end = match input {
                Input::Command(None) | Input::Room(false) => return,
                Input::Command(Some(Command::Close(said))) => {
                    self.goodbye().await;
                    let _ = said.send(());
                    return;
                }
                Input::Command(Some(command)) => self.on_command(command).await,
                Input::Room(true) => None,
                Input::Current(incoming) => self.on_current(incoming).await,
                Input::Retiring(incoming) => self.on_retiring(incoming).await,
                Input::Acks => {
                    self.take_acks();
                    None
                }
                Input::Opened(Ok(session)) => self.on_opened(session).await,
                Input::Opened(Err((url, ended))) => self.on_not_opened(&url, ended),
                Input::Nodes(list) => {
                    if let Some(list) = list {
                        self.directory.update(list);
                    }
                    None
                }
                Input::Time => self.on_time().await,
            };
            if let Some(end) = end {
                self.outbox.push_back(end);
                return self.end().await;
            }
            self.hand_over();
        }
    }

    async fn next_input(&mut self) -> Input {
        let is_read = self.outbox.is_empty();
        let due = self.due(is_read);
        tokio::select! {
            command = self.commands.recv() => Input::Command(command),
            permit = self.events.reserve(), if !is_read => match permit {
                Ok(permit) => {
                    if let Some(event) = self.outbox.pop_front() {
                        permit.send(event);
                    }
                    let now = Instant::now();
                    // Not having read is no silence of the node.
                    self.current.iter_mut().for_each(|session| session.liveness.heard(now));
                    Input::Room(true)
                }
                Err(_) => Input::Room(false),
            },
            incoming = next_of(&mut self.current), if is_read && self.current.is_some() => Input::Current(incoming),
            incoming = next_of(&mut self.retiring), if is_read && self.retiring.is_some() => Input::Retiring(incoming),
            () = self.acks.given() => Input::Acks,
            opened = result_of(&mut self.opening), if self.opening.is_some() => {
                self.opening = None;
                Input::Opened(opened)
            }
            list = result_of(&mut self.asking), if self.asking.is_some() => {
                self.asking = None;
                Input::Nodes(list)
            }
            () = sleep_until(due), if due.is_some() => Input::Time,
        }
    }

    fn due(&self, is_read: bool) -> Option<Instant> {
        let liveness = self.current.as_ref().filter(|_| is_read).map(|session| session.liveness.due());
        let timers =
            [self.retry_at, self.stable_at, self.release_at, self.refresh_at, self.rooms.due(), liveness];
        let acks = [&self.current, &self.retiring].map(|session| session.as_ref()?.acks.due());
        timers.into_iter().chain(acks).flatten().min()
    }

    /// Gives the application what fits; the rest waits for room.
    fn hand_over(&mut self) {
        while let Some(event) = self.outbox.pop_front() {
            if let Err(mpsc::error::TrySendError::Full(event) | mpsc::error::TrySendError::Closed(event)) =
                self.events.try_send(event)
            {
                self.outbox.push_front(event);
                return;
            }
        }
    }

    /// Runs a step of the rooms; gives back the frames that it asks for.
    fn collect<T>(&mut self, work: impl FnOnce(&mut RoomSet, &mut Step) -> T) -> (T, Vec<ClientFrame>) {
        let mut step = Step {
            now: Instant::now(),
            session: self.current.as_ref().map(|session| session.number),
            retiring: self.retiring.as_ref().map(|session| session.number),
            retry: *self.directory.retry(),
            positions: &mut self.positions,
            last_id: &mut self.last_id,
            frames: Vec::new(),
            events: Vec::new(),
        };
        let result = work(&mut self.rooms, &mut step);
        self.outbox.extend(step.events);
        (result, step.frames)
    }

    /// Runs a step of the rooms and sends what it asks for; the event is the last one, if this was the end.
    async fn step<T>(&mut self, work: impl FnOnce(&mut RoomSet, &mut Step) -> T) -> (T, Option<Event>) {
        let (result, frames) = self.collect(work);
        (result, self.send(frames).await)
    }

    async fn send(&mut self, frames: Vec<ClientFrame>) -> Option<Event> {
        for frame in &frames {
            let Some(session) = &mut self.current else { break };
            if let Err(ended) = session.send(frame).await {
                return self.on_lost(ended);
            }
        }
        None
    }

    async fn on_command(&mut self, command: Command) -> Option<Event> {
        match command {
            Command::Join(room_id, reply) => {
                self.step(|rooms, step| rooms.join(step, room_id, reply)).await.1
            }
            Command::Leave(room_id, reply) => {
                self.take_acks();
                if let Some(session) = &mut self.current
                    && let Err(ended) = session.send_acks().await
                    && let Some(end) = self.on_lost(ended)
                {
                    return Some(end);
                }
                self.step(|rooms, step| rooms.leave(step, room_id, reply)).await.1
            }
            Command::Close(_) => None,
        }
    }

    async fn on_time(&mut self) -> Option<Event> {
        let now = Instant::now();
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if is_due(self.stable_at) {
            (self.stable_at, self.attempt) = (None, 0);
            self.directory.forgive();
        }
        if is_due(self.release_at) {
            self.release().await;
        }
        if is_due(self.refresh_at) {
            let url = self.current.as_ref().map(|session| session.url.clone());
            self.refresh_nodes(url.as_ref());
        }
        if is_due(self.retry_at) {
            self.open();
        }
        if is_due(self.rooms.due())
            && let (_, Some(end)) = self.step(|rooms, step| rooms.on_time(step)).await
        {
            return Some(end);
        }
        if let Some(end) = self.send_due_acks(now).await {
            return Some(end);
        }
        let is_read = self.outbox.is_empty();
        match self.current.as_mut().filter(|_| is_read).and_then(|session| session.liveness.verdict(now)) {
            Some(Verdict::Ping) => {
                self.last_id += 1;
                let id = self.last_id;
                self.send(vec![ClientFrame::Ping { id }]).await
            }
            Some(Verdict::Dead) => self.on_lost(Ended::silent()),
            None => None,
        }
    }
}

impl Driver {
    /// Hands on what the application acknowledged.
    fn take_acks(&mut self) {
        for (number, message_id) in self.acks.take_given() {
            self.acknowledge(number, message_id);
        }
    }

    /// Acknowledges a message of that session, if it is still there: no other session was asked for it.
    fn acknowledge(&mut self, number: u64, message_id: String) {
        let sessions = [&mut self.current, &mut self.retiring].into_iter().flatten();
        if let Some(session) = sessions.into_iter().find(|session| session.number == number) {
            session.acks.add(message_id, Instant::now());
        }
    }

    async fn send_due_acks(&mut self, now: Instant) -> Option<Event> {
        if let Some(old) = &mut self.retiring
            && let Some(frame) = old.acks.take(now)
        {
            // A session that is broken is read as such.
            let _ = old.send(&frame).await;
        }
        let frame = self.current.as_mut().and_then(|session| session.acks.take(now))?;
        self.send(vec![frame]).await
    }
}

async fn next_of(session: &mut Option<Session>) -> Incoming {
    match session {
        Some(session) => session.next().await,
        None => std::future::pending().await,
    }
}

async fn result_of<T>(pending: &mut Pending<T>) -> T {
    match pending {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}
