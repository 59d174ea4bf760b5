//! Logs of messages, and inboxes: what those who were away catch up from. Behind two traits; process memory, Redis and SQL.
//!
//! A log belongs to a room or a user. Its messages have offsets that grow by one; its epoch changes when the log was
//! lost or went back in time, so that a position never means two things. A backend is used either for logs of the last
//! minutes or for durable ones; the rules are the same.

use std::{collections::HashSet, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use roomcast_types::{Epoch, LogPolicy, MessageId, Position, RoomId, StoreTime, UserId};

use crate::{
    counters::Counters,
    error::Result,
    memory::{inbox::MemoryInbox, log::MemoryLog},
};

/// Longer than anything is kept: for reads that take everything that still lies there.
pub const ANY_AGE: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// Whose log.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum LogKey {
    /// Of a room.
    Room(RoomId),
    /// Of a user.
    User(UserId),
    /// Of no one: pushes to several users, or to all. Nothing but idempotency keys is kept, each on its own until it
    /// expires: a payload is not, and there never is a position.
    Unaddressed,
}

/// How much a log keeps. What is over any of these goes with a later append, or a sweep. A backend that trims in steps
/// keeps up to an eighth more messages, and their bytes; of fewer than 16 messages none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Messages, at least 1.
    pub messages: u32,
    /// Bytes of payloads; the newest message stays whatever its size.
    pub bytes: u64,
    /// Since the append.
    pub age: Duration,
    /// For how long an idempotency key is remembered.
    pub idempotency: Duration,
}

/// Makes an append happen once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idempotency {
    /// As the publisher chose it, 1 to 128 bytes; within its log.
    pub key: String,
    /// Of what the publisher sent: another digest under the same key is another message.
    pub digest: u64,
}

/// A message for a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Append {
    /// Whose log.
    pub key: LogKey,
    /// Which message.
    pub message_id: MessageId,
    /// Kept as it is. `None`: no message is kept and no offset given, only the idempotency key.
    pub payload: Option<Bytes>,
    /// `None`: every append is a new one.
    pub idempotency: Option<Idempotency>,
}

/// What became of an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    /// It is the newest message of the log; no position when it had no payload.
    New(Option<Position>),
    /// Its key was used for the same message before: that one's id and position.
    Repeat {
        /// Of the first.
        message_id: MessageId,
        /// Of the first; `None` when that had no payload, or when the epoch is another one now.
        position: Option<Position>,
    },
    /// Its key was used for another message; nothing was changed.
    KeyTaken {
        /// Of the other.
        message_id: MessageId,
    },
}

/// Which part of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Only its position. A log without one gets one: a fresh epoch, offset 0.
    Position,
    /// Messages after an offset up to another one (`u64::MAX`: to the end), oldest first.
    After {
        /// The one before the first.
        offset: u64,
        /// The last.
        up_to: u64,
    },
    /// The nearest messages before an offset (`u64::MAX`: the newest ones), oldest first.
    Before {
        /// The one behind the last.
        offset: u64,
    },
}

/// A question to a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// Whose log.
    pub key: LogKey,
    /// Which part.
    pub part: Part,
    /// Messages at most.
    pub limit: u32,
    /// Bytes of payloads at most; one message comes whatever its size.
    pub bytes_max: u64,
    /// Messages appended longer ago count as gone, even where they still lie.
    pub age: Duration,
}

/// A message of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its place.
    pub offset: u64,
    /// Which message.
    pub message_id: MessageId,
    /// As it was given.
    pub payload: Bytes,
}

/// What a log answers: read in one step, so that its fields fit each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Of the newest message; `None` when nothing was ever appended or asked for.
    pub position: Option<Position>,
    /// Offset of the oldest message that is kept, one above the position's when none is.
    pub first: u64,
    /// Oldest first.
    pub entries: Vec<Entry>,
    /// Whether the limits cut entries off: behind the last one, or for [`Part::Before`] before the first.
    pub is_cut: bool,
}

/// Logs of one backend. Any number of push-managers use it at once; every method is atomic for one log and safe to race.
///
/// Errors: `Unavailable` when the backend does not answer; whether an append happened is unknown then.
#[async_trait]
pub trait Log: Send + Sync + 'static {
    /// Looks the idempotency key up, gives the next offset, appends and trims, in one step. A log without a position
    /// begins a fresh epoch with offset 1.
    async fn append(&self, append: &Append, retention: &Retention) -> Result<Appended>;

    /// Answers every question, in their order; in one round trip where the backend can.
    async fn read(&self, reads: &[Read]) -> Result<Vec<Page>>;

    /// The log lost messages of this epoch that others know: begins a fresh epoch with offset 0 and no messages, if this
    /// still is its epoch. The position after it; `None` when it has none.
    async fn renew(&self, key: &LogKey, epoch: Epoch) -> Result<Option<Position>>;

    /// Forgets the log and its idempotency keys: the next append begins a fresh epoch. (Keys of no one only expire.)
    async fn remove(&self, key: &LogKey) -> Result<()>;

    /// Deletes what is over its age, a bounded part of it at a time; how many messages, positions and idempotency keys,
    /// so not 0 while there may be more. Backends whose entries go by themselves answer 0.
    async fn sweep(&self, retention: &Retention) -> Result<u64>;

    /// Whether the backend answers.
    async fn ping(&self) -> Result<()>;

    /// What this handle has counted.
    fn counters(&self) -> Counters;
}

/// A message for an inbox, or in one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Which message.
    pub message_id: MessageId,
    /// Kept as it is.
    pub payload: Bytes,
    /// When it goes unread, on the clock of whoever stored it.
    pub expires_at: StoreTime,
}

impl Stored {
    /// Cuts a list that was read for a question down to its limits; whether anything went.
    pub(crate) fn cut(messages: &mut Vec<Self>, limit: u32, bytes_max: u64) -> bool {
        let mut bytes = 0;
        let fits = |(index, stored): &(usize, &Self)| {
            bytes += stored.payload.len() as u64;
            *index < limit as usize && (bytes <= bytes_max || *index == 0)
        };
        let (count, found) = (messages.iter().enumerate().take_while(fits).count(), messages.len());
        messages.truncate(count);
        count < found
    }
}

/// What became of a message for one inbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// It lies there; also when it did before.
    Stored,
    /// As many as allowed lie there already.
    Full,
}

/// Inboxes of users: messages that wait until one of the user's sessions has acknowledged them.
///
/// Errors as those of [`Log`].
#[async_trait]
pub trait Inbox: Send + Sync + 'static {
    /// Puts a message into the inbox of each user, unless `messages_max` that have not expired by `now` lie there. One
    /// answer per user, in their order.
    async fn put(
        &self,
        users: &[UserId],
        message: &Stored,
        messages_max: u32,
        now: StoreTime,
    ) -> Result<Vec<Put>>;

    /// Messages that have not expired by `now`, oldest first, those after `after`; `limit` messages and `bytes_max` bytes at
    /// most, but one whatever its size. Also whether there are more.
    async fn list(
        &self,
        user: &UserId,
        after: Option<MessageId>,
        limit: u32,
        bytes_max: u64,
        now: StoreTime,
    ) -> Result<(Vec<Stored>, bool)>;

    /// Who of these has a message that has not expired by `now`; one statement for hundreds of users.
    async fn waiting(&self, users: &[UserId], now: StoreTime) -> Result<HashSet<UserId>>;

    /// Takes messages out; how many of them were there.
    async fn take(&self, user: &UserId, messages: &[MessageId]) -> Result<u64>;

    /// Deletes what has expired by `now`, a bounded part of it at a time; how much.
    async fn sweep(&self, now: StoreTime) -> Result<u64>;
}

/// What keeps messages, by policy.
#[derive(Clone)]
pub struct Logs {
    /// The last minutes of rooms and users, and idempotency keys of everything that is not durable.
    pub recent: Arc<dyn Log>,
    /// Days.
    pub durable: Arc<dyn Log>,
    /// Inboxes.
    pub inbox: Arc<dyn Inbox>,
}

impl Logs {
    /// Fresh ones in process memory.
    pub fn memory() -> Self {
        Self {
            recent: Arc::new(MemoryLog::new()),
            durable: Arc::new(MemoryLog::new()),
            inbox: Arc::new(MemoryInbox::new()),
        }
    }

    /// The logs under a policy; those without one keep idempotency keys only, with the recent ones.
    pub fn of(&self, policy: LogPolicy) -> &Arc<dyn Log> {
        match policy {
            LogPolicy::Recent | LogPolicy::None => &self.recent,
            LogPolicy::Durable => &self.durable,
        }
    }
}
