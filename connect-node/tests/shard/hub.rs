//! A hub that answers everything at once, and remembers what it was told.

use std::{sync::Mutex, time::Duration};

use connect_node::{
    log::returning::{Since, Standing},
    ports::{Arrival, Hub, LeftReason, OpenedSession, SessionKey, ToShard},
};
use roomcast_types::{Code, Fault, MessageId, Position, RoomId};
use tokio::sync::{Notify, mpsc};

use crate::fixture::within;

/// What the hub was told.
#[derive(Debug, Default)]
pub struct Told {
    pub opened: Vec<OpenedSession>,
    pub closed: Vec<SessionKey>,
    pub arrivals: Vec<Arrival>,
    pub acknowledged: Vec<(SessionKey, MessageId)>,
    pub read: Vec<(SessionKey, RoomId, Position)>,
    pub joins: Vec<(SessionKey, Option<u64>, RoomId)>,
    pub leaves: Vec<(SessionKey, Option<u64>, RoomId)>,
}

/// Answers at once and in order. Rooms with these names differ: `full` is refused, `silent` is not answered, `panic`
/// panics, `block` holds the shard until [`FakeHub::unblock`].
pub struct FakeHub {
    told: Mutex<Told>,
    changed: Notify,
    answers: mpsc::Sender<(u16, ToShard)>,
    pub holds_welcome: bool,
    blocked: (Mutex<std::sync::mpsc::SyncSender<()>>, Mutex<std::sync::mpsc::Receiver<()>>),
}

impl FakeHub {
    /// Gives its answers to `answers`.
    pub fn new(answers: mpsc::Sender<(u16, ToShard)>, holds_welcome: bool) -> Self {
        let (unblock, blocked) = std::sync::mpsc::sync_channel(1);
        let blocked = (Mutex::new(unblock), Mutex::new(blocked));
        Self { told: Mutex::default(), changed: Notify::new(), answers, holds_welcome, blocked }
    }

    fn tell(&self, tell: impl FnOnce(&mut Told)) {
        tell(&mut self.told.lock().unwrap());
        self.changed.notify_waiters();
    }

    fn answer(&self, shard: u16, command: ToShard) {
        self.answers.try_send((shard, command)).unwrap();
    }

    pub fn unblock(&self) {
        self.blocked.0.lock().unwrap().send(()).unwrap();
    }

    /// Waits until what was told satisfies the condition, and gives what it found.
    pub async fn until<T>(&self, what: &str, found: impl Fn(&Told) -> Option<T>) -> T {
        within(what, async {
            loop {
                let changed = self.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                let result = found(&self.told.lock().unwrap());
                match result {
                    Some(result) => return result,
                    None => changed.await,
                }
            }
        })
        .await
    }

    pub fn times_closed(&self, key: SessionKey) -> usize {
        self.told.lock().unwrap().closed.iter().filter(|closed| **closed == key).count()
    }

    pub async fn until_closed(&self, key: SessionKey) {
        self.until("hub.closed", |told| told.closed.contains(&key).then_some(())).await;
    }

    /// The newest session of a user.
    pub async fn session(&self, user: &str) -> OpenedSession {
        let of_user =
            |told: &Told| told.opened.iter().rfind(|opened| opened.user_id.as_str() == user).cloned();
        self.until("hub.opened", of_user).await
    }
}

impl Hub for FakeHub {
    fn opened(&self, session: OpenedSession) {
        let key = session.key;
        self.tell(|told| told.opened.push(session));
        if !self.holds_welcome {
            self.answer(key.shard, ToShard::Welcome { session: key, standing: Standing::default() });
        }
    }

    fn join(&self, session: SessionKey, request: Option<u64>, room: RoomId, since: Option<Since>) {
        self.tell(|told| told.joins.push((session, request, room.clone())));
        let command = match room.as_str() {
            "full" => {
                let fault = Fault {
                    retry_after: Some(Duration::from_millis(500)),
                    ..Fault::new(Code::RoomFull, "full")
                };
                ToShard::JoinRefused { session, request, room, fault }
            }
            "silent" => return,
            "panic" => panic!("as the test asked"),
            "block" => return self.blocked.1.lock().unwrap().recv().unwrap(),
            _ => {
                let standing = Standing { recovered: since.map(|_| false), ..Standing::default() };
                ToShard::Joined { session, request, room, members: 7, standing }
            }
        };
        self.answer(session.shard, command);
    }

    fn leave(&self, session: SessionKey, request: Option<u64>, room: RoomId) {
        self.tell(|told| told.leaves.push((session, request, room.clone())));
        self.answer(session.shard, ToShard::Left { session, request, room, reason: LeftReason::Left });
    }

    fn received(&self, arrival: Arrival) {
        self.tell(|told| told.arrivals.push(arrival));
    }

    fn has_read(&self, session: SessionKey, room: RoomId, position: Position) {
        self.tell(|told| told.read.push((session, room, position)));
    }

    fn acknowledged(&self, session: SessionKey, messages: Vec<MessageId>) {
        self.tell(|told| told.acknowledged.extend(messages.into_iter().map(|message| (session, message))));
    }

    fn closed(&self, session: SessionKey) {
        self.tell(|told| told.closed.push(session));
    }
}
