//! What became of one message on this node: each shard counts its own targets, the sum goes up the lane.
//!
//! A target is fixed in a shard's walk and has one outcome at every moment. PENDING may become any final one, WRITTEN
//! may become ACKED, nothing else changes: so `targets` stays, and is the sum of all the others.

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use roomcast_types::{MessageId, SessionId};
use smallvec::SmallVec;

/// What became of a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetOutcome {
    /// The kernel took the last byte.
    Written,
    /// Was written, and the client confirmed it.
    Acked,
    /// Behind unread bytes.
    Pending,
    /// Excluded by the push.
    Filtered,
    /// Its time to live ended first.
    Expired,
    /// A later one of its key took its place.
    Superseded,
    /// There was no room for it in front of a slow reader.
    DroppedSlow,
    /// The session was closing or gone, or ended first.
    Closed,
}

impl TargetOutcome {
    /// Every one.
    pub const ALL: [Self; 8] = [
        Self::Written,
        Self::Acked,
        Self::Pending,
        Self::Filtered,
        Self::Expired,
        Self::Superseded,
        Self::DroppedSlow,
        Self::Closed,
    ];

    /// The word of receipts.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Written => "WRITTEN",
            Self::Acked => "ACKED",
            Self::Pending => "PENDING",
            Self::Filtered => "FILTERED",
            Self::Expired => "EXPIRED",
            Self::Superseded => "SUPERSEDED",
            Self::DroppedSlow => "DROPPED_SLOW",
            Self::Closed => "CLOSED",
        }
    }
}

/// Counts of one walk, or their sum over shards.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the count of the outcome of its name")]
pub struct Counts {
    pub written: u64,
    pub acked: u64,
    pub pending: u64,
    pub filtered: u64,
    pub expired: u64,
    pub superseded: u64,
    pub dropped_slow: u64,
    pub closed: u64,
    /// Of those pending: in no queue any more.
    pub unaccounted: u64,
    /// For messages to users only: one entry a session, in no order. The user is its index in the push.
    pub sessions: Vec<(u32, SessionId, TargetOutcome)>,
}

impl Counts {
    /// Targets of the walk.
    pub fn targets(&self) -> u64 {
        self.pending + self.settled()
    }

    /// Targets with a final outcome.
    pub fn settled(&self) -> u64 {
        self.written
            + self.acked
            + self.filtered
            + self.expired
            + self.superseded
            + self.dropped_slow
            + self.closed
    }

    /// The one outcome that all targets have, if they have the same.
    pub fn only(&self) -> Option<TargetOutcome> {
        let targets = self.targets();
        TargetOutcome::ALL.into_iter().find(|outcome| targets > 0 && self.count(*outcome) == targets)
    }

    /// Counts one target.
    pub fn add(&mut self, outcome: TargetOutcome) {
        *self.of(outcome) += 1;
    }

    /// How many targets have this outcome.
    pub fn count(&self, outcome: TargetOutcome) -> u64 {
        match outcome {
            TargetOutcome::Written => self.written,
            TargetOutcome::Acked => self.acked,
            TargetOutcome::Pending => self.pending,
            TargetOutcome::Filtered => self.filtered,
            TargetOutcome::Expired => self.expired,
            TargetOutcome::Superseded => self.superseded,
            TargetOutcome::DroppedSlow => self.dropped_slow,
            TargetOutcome::Closed => self.closed,
        }
    }

    fn of(&mut self, outcome: TargetOutcome) -> &mut u64 {
        match outcome {
            TargetOutcome::Written => &mut self.written,
            TargetOutcome::Acked => &mut self.acked,
            TargetOutcome::Pending => &mut self.pending,
            TargetOutcome::Filtered => &mut self.filtered,
            TargetOutcome::Expired => &mut self.expired,
            TargetOutcome::Superseded => &mut self.superseded,
            TargetOutcome::DroppedSlow => &mut self.dropped_slow,
            TargetOutcome::Closed => &mut self.closed,
        }
    }

    fn merge(&mut self, other: Counts) {
        self.written += other.written;
        self.acked += other.acked;
        self.pending += other.pending;
        self.filtered += other.filtered;
        self.expired += other.expired;
        self.superseded += other.superseded;
        self.dropped_slow += other.dropped_slow;
        self.closed += other.closed;
        self.unaccounted += other.unaccounted;
        match self.sessions.is_empty() {
            true => self.sessions = other.sessions,
            false => self.sessions.extend(other.sessions),
        }
    }

    /// Moves targets to the outcomes that `changes` counts: acknowledged ones from WRITTEN, all others from PENDING.
    fn change(&mut self, changes: &Changes) {
        let counts = &changes.counts;
        self.pending = self.pending.saturating_sub(counts.settled() - counts.acked);
        self.written = (self.written + counts.written).saturating_sub(counts.acked);
        self.acked += counts.acked;
        self.expired += counts.expired;
        self.superseded += counts.superseded;
        self.dropped_slow += counts.dropped_slow;
        self.closed += counts.closed;
        for (session, outcome) in &changes.sessions {
            if let Some(entry) = self.sessions.iter_mut().find(|(_, own, _)| own == session) {
                entry.2 = *outcome;
            }
        }
    }
}

/// Outcomes that came after the walk.
#[derive(Debug, Default)]
pub struct Changes {
    counts: Counts,
    /// For messages to users only.
    sessions: Vec<(SessionId, TargetOutcome)>,
}

impl Changes {
    /// A target has this outcome now: ACKED after WRITTEN, any other final one after PENDING.
    pub fn add(&mut self, outcome: TargetOutcome) {
        self.counts.add(outcome);
    }

    /// As [`Self::add`], naming the session.
    pub fn add_session(&mut self, session: SessionId, outcome: TargetOutcome) {
        self.add(outcome);
        self.sessions.push((session, outcome));
    }

    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.counts.settled() == 0
    }
}

/// How long a message took on this node, the longest of its shards.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Hops {
    /// From its arrival to the begin of the walk.
    pub wait: Duration,
    /// From there to the end of the walk.
    pub walk: Duration,
}

/// Sums the counts of the shards that one message goes to.
pub struct Tally {
    message_id: MessageId,
    inner: Mutex<Inner>,
}

struct Inner {
    /// Shards whose walk has not ended; `None` before it is known how many there are.
    walking: Option<u32>,
    sum: Counts,
    hops: Hops,
    /// Seldom more than one: each lane that brought the message, and its trace.
    listeners: SmallVec<[Listener; 1]>,
}

type Listener = Box<dyn FnMut(&Counts, Hops) + Send>;

impl Tally {
    /// Of a message that is not on its walk yet.
    pub fn new(message_id: MessageId) -> Arc<Self> {
        let inner = Inner {
            walking: None,
            sum: Counts::default(),
            hops: Hops::default(),
            listeners: SmallVec::new(),
        };
        Arc::new(Self { message_id, inner: Mutex::new(inner) })
    }

    /// Has somebody told: the sum when the last walk has ended, at once if it has, and again whenever something
    /// changed, one call after the other, on the thread of a shard: it must not block.
    pub fn listen(&self, mut listener: impl FnMut(&Counts, Hops) + Send + 'static) {
        let mut inner = self.lock();
        if inner.walking == Some(0) {
            listener(&inner.sum, inner.hops);
        }
        inner.listeners.push(Box::new(listener));
    }

    /// The message goes on its walk on so many shards; with 0 it is over. Called once.
    pub fn begin(&self, shards: u32) {
        let mut inner = self.lock();
        inner.walking = Some(shards);
        inner.tell();
    }

    /// Which message.
    pub fn message_id(&self) -> MessageId {
        self.message_id
    }

    /// Takes the counts of one shard's walk; each shard reports once.
    pub fn report(&self, counts: Counts, hops: Hops) {
        let mut inner = self.lock();
        inner.sum.merge(counts);
        inner.hops.wait = inner.hops.wait.max(hops.wait);
        inner.hops.walk = inner.hops.walk.max(hops.walk);
        inner.walking = inner.walking.map(|walking| walking - 1);
        inner.tell();
    }

    /// Takes what changed on a shard that has reported.
    pub fn change(&self, changes: &Changes) {
        let mut inner = self.lock();
        inner.sum.change(changes);
        inner.tell();
    }

    /// Shows the sum as of now.
    pub fn see<R>(&self, see: impl FnOnce(&Counts, Hops) -> R) -> R {
        let inner = self.lock();
        see(&inner.sum, inner.hops)
    }

    /// So many targets of a shard that has reported have no outcome, and never will.
    pub fn lost(&self, targets: u64) {
        let mut inner = self.lock();
        inner.sum.unaccounted += targets;
        inner.tell();
    }

    /// Tells the sum once more, if every walk has ended.
    pub fn tell_again(&self) {
        self.lock().tell();
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no holder of this lock panics")
    }
}

impl Inner {
    /// Once every walk has ended.
    fn tell(&mut self) {
        if self.walking == Some(0) {
            for listener in &mut self.listeners {
                listener(&self.sum, self.hops);
            }
        }
    }
}

impl std::fmt::Debug for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tally").field("message_id", &self.message_id).finish_non_exhaustive()
    }
}
