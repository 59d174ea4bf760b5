//! The log of one room or user on this node: its sequencer, and who reads what is missing.
//!
//! Whatever is decided on a position happens under the sequence's lock, which is held until the shards' mailboxes took
//! the message: so a mailbox has the messages, and those who join between two of them, in the order of the log.

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use roomcast_proto::pubsub::{LogAnswer, LogQuery, log_answer, log_query, room_card};
use roomcast_types::{LogPolicy, MessageId, Position, RoomId, UserId};
use tokio::{
    sync::{Mutex, MutexGuard, Notify, OnceCell},
    time::timeout,
};

use super::{
    reader::Unlinked,
    returning::Ring,
    sequencer::{Sequencer, Step},
};
use crate::{
    hub::Core,
    lane::deliver::{Arrived, hand_on},
};

/// How long a message waits for those before it until the log is read.
const HOLD: Duration = Duration::from_millis(50);
/// How long whoever comes in first waits for the log's position; without one he catches up from the first message on.
const BEGIN: Duration = Duration::from_secs(1);
/// With so many it is read earlier.
const HELD_MANY: usize = 256;
/// The most that is read to close a hole; a larger one is told as a gap.
const FILL_MESSAGES: u32 = 1_024;
const FILL_BYTES: u32 = 8 << 20;
/// Messages that are remembered for telling repeats: of a room, of a user.
const REMEMBERED: (usize, usize) = (256, 16);

/// Whose log.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Key {
    /// Of a room, with its policy as far as the node knows.
    Room(RoomId, LogPolicy),
    /// Of a user.
    User(UserId),
}

/// See the module.
pub struct Sequence {
    /// Whose.
    pub key: Key,
    inner: Mutex<Inner>,
    begun: OnceCell<()>,
    /// So much waits that it is read at once.
    hurry: Notify,
}

/// What the lock guards.
pub struct Inner {
    sequencer: Sequencer<Arrived>,
    /// Somebody reads what is missing.
    is_filling: bool,
    /// What was passed on while somebody reads what he missed.
    pub(super) ring: Ring,
}

impl Inner {
    /// Where the log stands for whoever joins now.
    pub fn position(&self) -> Option<Position> {
        self.sequencer.position()
    }
}

impl Sequence {
    /// Knows no position yet.
    pub fn new(key: Key) -> Arc<Self> {
        let remembered = if matches!(key, Key::User(_)) { REMEMBERED.1 } else { REMEMBERED.0 };
        let inner = Inner { sequencer: Sequencer::new(remembered), is_filling: false, ring: Ring::default() };
        Arc::new(Self { key, inner: Mutex::new(inner), begun: OnceCell::new(), hurry: Notify::new() })
    }

    /// Of a log that nobody asked for its position: the first message brings it.
    pub fn unplaced(key: Key) -> Arc<Self> {
        let mut sequence = Self::new(key);
        if let Some(sequence) = Arc::get_mut(&mut sequence) {
            sequence.inner.get_mut().sequencer.begin(None, &mut Vec::new());
            sequence.begun = OnceCell::new_with(Some(()));
        }
        sequence
    }

    /// The order stands still while this is held.
    pub async fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().await
    }

    /// Waits until the position is known, or known not to be had. The interest was announced before: what is appended
    /// after this position comes to this node.
    pub async fn begin(self: &Arc<Self>, hub: &Arc<Core>) {
        let begin = async || {
            let answer = timeout(BEGIN, hub.reader.ask(self.query(), Unlinked::Fails)).await.ok().flatten();
            let position = answer.and_then(|answer| Position::from_wire(answer.epoch, answer.offset));
            if position.is_none() {
                hub.metrics.positions_unknown.increment(1);
            }
            let mut inner = self.lock().await;
            let mut steps = Vec::new();
            inner.sequencer.begin(position, &mut steps);
            self.carry_out(hub, &mut inner, steps).await;
        };
        self.begun.get_or_init(begin).await;
    }

    /// A message with a place came on a lane.
    pub async fn arrive(self: &Arc<Self>, hub: &Arc<Core>, arrived: Arrived) {
        let Some(position) = Position::from_wire(arrived.message.epoch, arrived.message.offset) else {
            return hand_on(hub, arrived).await;
        };
        let mut inner = self.lock().await;
        let mut steps = Vec::new();
        inner.sequencer.arrive(position, arrived.message_id, arrived, &mut steps);
        self.carry_out(hub, &mut inner, steps).await;
    }

    /// Everything up to here was passed on.
    pub async fn position(&self) -> Option<Position> {
        self.lock().await.position()
    }

    /// The store says that the log stands here; when it was asked, we stood there.
    pub async fn compare(self: &Arc<Self>, hub: &Arc<Core>, asked: Option<Position>, log: Position) {
        let mut inner = self.lock().await;
        let mut steps = Vec::new();
        inner.sequencer.compare(asked, log, &mut steps);
        self.carry_out(hub, &mut inner, steps).await;
    }

    /// Does what the sequencer says, in its order.
    async fn carry_out(self: &Arc<Self>, hub: &Arc<Core>, inner: &mut Inner, steps: Vec<Step<Arrived>>) {
        for step in steps {
            match step {
                Step::Pass(position, mut arrived) => {
                    (arrived.message.epoch, arrived.message.offset) = Position::to_wire(position);
                    inner.ring.passed(&arrived.message);
                    hand_on(hub, arrived).await;
                }
                Step::Gap(position) => {
                    inner.ring.broke();
                    hub.metrics.gaps.increment(1);
                    hub.tell_gap(&self.key, position).await;
                }
                Step::Repeat(arrived) => {
                    // Forgotten by its id, known by its offset: what became of it nobody can say any more.
                    hub.metrics.repeats.increment(1);
                    drop(arrived);
                }
                Step::Conflict(epoch) => hub.tell_conflict(&self.key, epoch),
            }
        }
        if inner.sequencer.missing().is_some() {
            if inner.sequencer.held() >= HELD_MANY {
                self.hurry.notify_one();
            }
            if !std::mem::replace(&mut inner.is_filling, true) {
                hub.tasks.spawn(self.clone().fill(hub.clone()));
            }
        }
    }

    /// Reads what is missing, until nothing is.
    fn fill(self: Arc<Self>, hub: Arc<Core>) -> BoxFuture<'static, ()> {
        // Boxed: what it passes on may find something missing again.
        Box::pin(self.filling(hub))
    }

    async fn filling(self: Arc<Self>, hub: Arc<Core>) {
        // An error says that the time is over.
        let _ = timeout(HOLD, self.hurry.notified()).await;
        loop {
            let missing = {
                let mut inner = self.lock().await;
                let missing = inner.sequencer.missing();
                inner.is_filling = missing.is_some();
                missing
            };
            let Some((after, up_to)) = missing else { return };
            let query = self.range(after, up_to, FILL_MESSAGES, FILL_BYTES);
            let answer = hub.reader.ask(query, Unlinked::Waits).await;
            let mut inner = self.lock().await;
            let mut steps = Vec::new();
            self.take(&hub, &mut inner, answer, (after, up_to), &mut steps);
            // It goes on here, not with another task.
            inner.is_filling = true;
            self.carry_out(&hub, &mut inner, steps).await;
        }
    }

    fn take(
        &self,
        hub: &Core,
        inner: &mut Inner,
        answer: Option<LogAnswer>,
        (after, up_to): (Position, u64),
        steps: &mut Vec<Step<Arrived>>,
    ) {
        let log = answer.as_ref().and_then(|answer| Position::from_wire(answer.epoch, answer.offset));
        match answer {
            Some(answer) if answer.state() == log_answer::State::Complete => {
                hub.metrics.filled.increment(answer.messages.len() as u64);
                let message = |message| {
                    let arrived = Arrived::logged(hub, message)?;
                    Some((arrived.message.offset, arrived.message_id, arrived))
                };
                let messages: Vec<(u64, MessageId, Arrived)> =
                    answer.messages.into_iter().filter_map(message).collect();
                inner.sequencer.fill(after, up_to, messages, steps);
            }
            _ => {
                if let Some(log) = log.filter(|log| log.epoch != after.epoch) {
                    inner.sequencer.compare(Some(after), log, steps);
                }
                // No other epoch, or one that is over: what is missing stays so.
                if inner.sequencer.missing() == Some((after, up_to)) {
                    inner.sequencer.give_up(steps);
                }
            }
        }
    }

    /// Asks for the position alone.
    pub fn query(&self) -> LogQuery {
        let (log, policy) = match &self.key {
            Key::Room(room, policy) => (log_query::Log::RoomId(room.to_string()), *policy),
            Key::User(user) => (log_query::Log::UserId(user.to_string()), LogPolicy::Recent),
        };
        let policy = room_card::Log::from(policy).into();
        LogQuery { log: Some(log), policy, ..LogQuery::default() }
    }

    /// Asks for what lies between.
    pub fn range(&self, after: Position, up_to: u64, limit: u32, bytes_max: u32) -> LogQuery {
        let (epoch, after) = (after.epoch.as_u64(), after.offset);
        LogQuery { epoch, after, up_to, limit, bytes_max, ..self.query() }
    }
}

impl Key {
    /// The room, if it is one's.
    pub fn room(&self) -> Option<&RoomId> {
        match self {
            Self::Room(room, _) => Some(room),
            Self::User(_) => None,
        }
    }
}
