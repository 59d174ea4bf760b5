//! Has the messages of one log go out in the order of their offsets, where one push-manager can see to it.
//!
//! Two pushes append at once; their answers may come back, or be looked at, in either order. A message whose place follows
//! the one that went last goes at once. Another one waits until every append that was under way when its own ended has
//! ended: those alone can have an earlier place. It does not wait for long: nodes put messages in order, too.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use foldhash::fast::RandomState;
use metrics::Counter;
use roomcast_store::log::LogKey;
use roomcast_types::Position;
use smallvec::SmallVec;
use tokio::{sync::oneshot, time::timeout};

/// How long a message waits for earlier ones: less than a node does.
const WAIT_MAX: Duration = Duration::from_millis(20);

/// The logs with pushes under way.
pub struct Order {
    logs: Mutex<Logs>,
    disordered: Counter,
}

type Logs = HashMap<LogKey, Under, RandomState>;

/// The pushes of one log that are under way.
#[derive(Debug, Default)]
struct Under {
    /// In the order in which their appends began; seldom more than one.
    turns: SmallVec<[(u64, State); 1]>,
    next: u64,
    /// The last one that went.
    gone: Option<Position>,
}

#[derive(Debug)]
enum State {
    Appending,
    /// Appended, and waiting for those that began before `until`.
    Waiting {
        position: Position,
        until: u64,
        go: oneshot::Sender<()>,
    },
    /// On its way to the lanes.
    Going(Position),
}

/// One push under way; it ends when this is dropped.
pub struct Turn<'a> {
    order: &'a Order,
    key: LogKey,
    number: u64,
}

impl Order {
    /// No pushes yet.
    pub fn new(disordered: Counter) -> Self {
        Self { logs: Mutex::default(), disordered }
    }

    /// An append begins.
    pub fn begin(&self, key: LogKey) -> Turn<'_> {
        let mut logs = self.lock();
        let under = logs.entry(key.clone()).or_default();
        let number = under.next;
        under.next += 1;
        under.turns.push((number, State::Appending));
        Turn { order: self, key, number }
    }

    fn lock(&self) -> MutexGuard<'_, Logs> {
        self.logs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn<'_> {
    /// The append ended: returns when it is this message's turn, or after a short while. It goes to the lanes before the
    /// turn is dropped.
    pub async fn come(&self, position: Position) {
        if let Some(going) = self.end(position) {
            Box::pin(self.wait(position, going)).await;
        }
    }

    async fn wait(&self, position: Position, going: oneshot::Receiver<()>) {
        if timeout(WAIT_MAX, going).await.is_err() {
            self.order.disordered.increment(1);
            if let Some(under) = self.order.lock().get_mut(&self.key) {
                under.set(self.number, State::Going(position));
            }
        }
    }

    /// The append ended; what to wait for, unless it is this message's turn.
    fn end(&self, position: Position) -> Option<oneshot::Receiver<()>> {
        let mut logs = self.order.lock();
        let under = logs.get_mut(&self.key)?;
        let until = under.next;
        let (state, going) = if under.may_go(self.number, position, until) {
            (State::Going(position), None)
        } else {
            let (go, going) = oneshot::channel();
            (State::Waiting { position, until, go }, Some(going))
        };
        under.set(self.number, state);
        // Others may have waited for this end, too.
        under.release();
        going
    }
}

impl Under {
    /// Where a push under way is now; what was there before.
    fn set(&mut self, number: u64, state: State) -> Option<State> {
        let place = self.place(number)?;
        Some(std::mem::replace(&mut self.turns[place].1, state))
    }

    fn take(&mut self, number: u64) -> Option<State> {
        let place = self.place(number)?;
        Some(self.turns.remove(place).1)
    }

    fn place(&self, number: u64) -> Option<usize> {
        self.turns.binary_search_by_key(&number, |(other, _)| *other).ok()
    }

    /// Whether nothing that is under way, and began before `until`, can have an earlier place.
    fn may_go(&self, number: u64, position: Position, until: u64) -> bool {
        let is_before = |other: &Position| other.epoch == position.epoch && other.offset < position.offset;
        let follows = |gone: Position| gone.epoch == position.epoch && gone.offset + 1 == position.offset;
        if self.gone.is_some_and(follows) {
            return true;
        }
        self.turns.iter().filter(|(other, _)| *other != number).all(|(other, state)| match state {
            State::Appending => *other >= until,
            State::Waiting { position: other, .. } | State::Going(other) => !is_before(other),
        })
    }

    /// Lets those go whose turn has come.
    fn release(&mut self) {
        let come = self.turns.iter().filter_map(|(number, state)| match state {
            State::Waiting { position, until, .. } => {
                self.may_go(*number, *position, *until).then_some((*number, *position))
            }
            State::Appending | State::Going(_) => None,
        });
        for (number, position) in come.collect::<SmallVec<[_; 4]>>() {
            if let Some(State::Waiting { go, .. }) = self.set(number, State::Going(position)) {
                // Whoever waited may have just given up: then it goes, too.
                let _ = go.send(());
            }
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut logs = self.order.lock();
        let Some(under) = logs.get_mut(&self.key) else { return };
        if let Some(State::Going(position) | State::Waiting { position, .. }) = under.take(self.number) {
            let is_later = |gone: Position| gone.epoch != position.epoch || gone.offset < position.offset;
            if under.gone.is_none_or(is_later) {
                under.gone = Some(position);
            }
        }
        if under.turns.is_empty() {
            logs.remove(&self.key);
        } else {
            under.release();
        }
    }
}

#[cfg(test)]
mod tests;
