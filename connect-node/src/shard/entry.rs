//! One message on one shard: how it is treated, and what became of the targets that had to wait for it.

use std::{
    cell::{Cell, RefCell},
    collections::HashSet,
    rc::Rc,
    sync::Arc,
};

use roomcast_types::{MessageId, SessionId, UserId};
use tokio::sync::Notify;

use super::timers::Millis;
use crate::{
    failpoint::Failpoints,
    ports::Traits,
    tally::{Changes, Counts, Hops, Tally, TargetOutcome},
};

pub(super) type Exclude = Option<Arc<HashSet<UserId>>>;

/// Shared by the walk, the queues that hold the message, and the sessions that have not acknowledged it.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) traits: Traits,
    /// On the shard's clock; `NEVER` without a time to live.
    pub(super) expires_at: Millis,
    pub(super) exclude: Exclude,
    /// Each session's outcome is told by name.
    names_sessions: bool,
    tally: Arc<Tally>,
    /// That bring it, in one encoding each.
    frames: Cell<u32>,
    is_walked: Cell<bool>,
    is_listed: Cell<bool>,
    /// Targets found pending in the walk, less those that were since; below 0 while the walk has not ended.
    unsettled: Cell<i64>,
    changes: RefCell<Changes>,
    exceptions: RefCell<Exceptions>,
}

/// Targets that a message did not get to, where outcomes are not told by name: so that each can be asked about.
#[derive(Debug, Default)]
struct Exceptions {
    sessions: Vec<(SessionId, TargetOutcome)>,
    /// There were more than are kept.
    has_more: bool,
}

/// Exceptions kept with one message.
const EXCEPTIONS_MAX: usize = 64;

/// What became of a message for one session, as far as the message knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// This.
    Is(TargetOutcome),
    /// It was written, or waits to be, if the session was a target.
    Usual,
    /// The session was none of its targets.
    NoTarget,
    /// More went wrong than is kept.
    Unknown,
}

impl Entry {
    pub(super) fn new(
        traits: Traits,
        expires_at: Millis,
        exclude: Exclude,
        names_sessions: bool,
        tally: Arc<Tally>,
    ) -> Rc<Self> {
        Rc::new(Self {
            traits,
            expires_at,
            exclude,
            names_sessions,
            tally,
            frames: Cell::new(0),
            is_walked: Cell::new(false),
            is_listed: Cell::new(false),
            unsettled: Cell::new(0),
            changes: RefCell::default(),
            exceptions: RefCell::default(),
        })
    }

    pub(super) fn message_id(&self) -> MessageId {
        self.traits.message_id
    }

    /// Whether its time to live is over.
    pub(super) fn is_expired(&self, now: Millis) -> bool {
        self.expires_at <= now
    }

    /// A target that was pending has a final outcome, or one that was written is acknowledged.
    pub(super) fn settle(self: &Rc<Self>, outcome: TargetOutcome, session: SessionId, news: &mut News) {
        if news.failpoints.loses_outcome() {
            return;
        }
        if outcome != TargetOutcome::Acked {
            self.unsettled.set(self.unsettled.get() - 1);
            news.dropped.add(outcome);
        }
        self.except(outcome, session);
        let mut changes = self.changes.borrow_mut();
        match self.names_sessions {
            true => changes.add_session(session, outcome),
            false => changes.add(outcome),
        }
        if !self.is_listed.replace(true) {
            news.add(self.clone());
        }
    }

    /// A target does not get it. Called where others than WRITTEN are counted, which is off the fast path.
    pub(super) fn except(&self, outcome: TargetOutcome, session: SessionId) {
        use TargetOutcome::{Acked, Filtered, Pending, Written};
        // The excluded are known by the exclusion, the others by the session's queue.
        if self.names_sessions || matches!(outcome, Written | Pending | Acked | Filtered) {
            return;
        }
        let mut exceptions = self.exceptions.borrow_mut();
        if exceptions.sessions.len() < EXCEPTIONS_MAX {
            exceptions.sessions.push((session, outcome));
        } else {
            exceptions.has_more = true;
        }
    }

    /// What became of it for a session that was there at its walk.
    pub(super) fn fate(&self, session: SessionId, user: &UserId) -> Fate {
        if self.names_sessions {
            let found = |counts: &Counts| {
                counts.sessions.iter().find(|(_, own, _)| *own == session).map(|(_, _, outcome)| *outcome)
            };
            return self.tally.see(|counts, _| found(counts)).map_or(Fate::NoTarget, Fate::Is);
        }
        if self.exclude.as_ref().is_some_and(|users| users.contains(user)) {
            return Fate::Is(TargetOutcome::Filtered);
        }
        let exceptions = self.exceptions.borrow();
        if let Some((_, outcome)) = exceptions.sessions.iter().find(|(own, _)| *own == session) {
            return Fate::Is(*outcome);
        }
        if !exceptions.has_more {
            return Fate::Usual;
        }
        self.tally.see(|counts, _| counts.only()).map_or(Fate::Unknown, Fate::Is)
    }

    /// Whether one of these sessions was named as a target.
    pub(super) fn names_any(&self, asked: &HashSet<SessionId>) -> bool {
        let is_asked = |counts: &Counts| counts.sessions.iter().any(|(_, own, _)| asked.contains(own));
        self.names_sessions && self.tally.see(|counts, _| is_asked(counts))
    }

    /// Shows what became of it on the whole node.
    pub(super) fn see<R>(&self, see: impl FnOnce(&Counts, Hops) -> R) -> R {
        self.tally.see(see)
    }

    /// Users that it excludes.
    pub(super) fn excluded(&self) -> usize {
        self.exclude.as_ref().map_or(0, |users| users.len())
    }

    /// The walk has ended with these counts; what changed meanwhile comes on top.
    pub(super) fn walked(&self, counts: Counts, hops: Hops) {
        self.unsettled.set(self.unsettled.get() + counts.pending as i64);
        self.tally.report(counts, hops);
        self.is_walked.set(true);
        self.tell();
    }

    /// There is one more frame that brings it.
    pub(super) fn hold(&self) {
        self.frames.set(self.frames.get() + 1);
    }

    /// The walk and every queue let go of a frame: a target that is unsettled when the last one goes stays so. This is the
    /// ledger's own look at the matter: it asks who holds the message, and not what was counted.
    pub(super) fn let_go(&self) {
        self.frames.set(self.frames.get() - 1);
        if self.frames.get() > 0 {
            return;
        }
        let unsettled = self.unsettled.take();
        // What a thread that was ended leaves behind is no loss: its node is gone.
        if unsettled != 0 && self.is_walked.get() {
            self.tell();
            self.tally.lost(unsettled.unsigned_abs());
        }
    }

    /// Hands on what changed, once the walk has ended.
    fn tell(&self) {
        if self.is_walked.get() {
            let changes = self.changes.take();
            if !changes.is_empty() {
                self.tally.change(&changes);
            }
        }
    }
}

/// The messages with outcomes to tell. They are told together, a few milliseconds after the first.
#[derive(Debug, Default)]
pub(super) struct News {
    entries: Vec<Rc<Entry>>,
    first: Rc<Notify>,
    pub(super) failpoints: Failpoints,
    /// Since the last report to the metrics.
    pub(super) dropped: Dropped,
}

/// Targets that did not get their message, by why.
#[derive(Debug, Default)]
pub(super) struct Dropped {
    pub(super) expired: u64,
    pub(super) superseded: u64,
    pub(super) slow: u64,
    pub(super) closed: u64,
}

impl Dropped {
    fn add(&mut self, outcome: TargetOutcome) {
        match outcome {
            TargetOutcome::Expired => self.expired += 1,
            TargetOutcome::Superseded => self.superseded += 1,
            TargetOutcome::DroppedSlow => self.slow += 1,
            TargetOutcome::Closed => self.closed += 1,
            TargetOutcome::Written
            | TargetOutcome::Acked
            | TargetOutcome::Pending
            | TargetOutcome::Filtered => {}
        }
    }

    /// Those of a walk.
    pub(super) fn add_counts(&mut self, counts: &Counts) {
        self.expired += counts.expired;
        self.superseded += counts.superseded;
        self.slow += counts.dropped_slow;
        self.closed += counts.closed;
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.expired + self.superseded + self.slow + self.closed == 0
    }
}

impl News {
    pub(super) fn new(failpoints: Failpoints) -> Self {
        Self { failpoints, ..Self::default() }
    }

    fn add(&mut self, entry: Rc<Entry>) {
        if self.entries.is_empty() {
            self.first.notify_one();
        }
        self.entries.push(entry);
    }

    /// Wakes who waits for the first entry since the last [`Self::tell`].
    pub(super) fn first(&self) -> Rc<Notify> {
        self.first.clone()
    }

    /// Tells them all.
    pub(super) fn tell(&mut self) {
        for entry in self.entries.drain(..) {
            entry.is_listed.set(false);
            entry.tell();
        }
    }
}
