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
    is_walked: Cell<bool>,
    is_listed: Cell<bool>,
    changes: RefCell<Changes>,
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
            is_walked: Cell::new(false),
            is_listed: Cell::new(false),
            changes: RefCell::default(),
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
        let mut changes = self.changes.borrow_mut();
        match self.names_sessions {
            true => changes.add_session(session, outcome),
            false => changes.add(outcome),
        }
        if !self.is_listed.replace(true) {
            news.add(self.clone());
        }
    }

    /// The walk has ended with these counts; what changed meanwhile comes on top.
    pub(super) fn walked(&self, counts: Counts, hops: Hops) {
        self.tally.report(counts, hops);
        self.is_walked.set(true);
        self.tell();
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
}

impl News {
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
