//! What became of one push on each node: filled by the lanes, awaited by the push.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use roomcast_proto::pubsub::Outcome;
use tokio::{sync::Notify, time::Instant};

/// What became of one push on one node.
#[derive(Debug, Clone)]
pub enum Verdict {
    /// The node tried every target once.
    Tried(Outcome),
    /// The node died, or its lane gave the message up.
    Lost,
}

/// One push's place for the verdicts of its nodes.
#[derive(Debug)]
pub struct Tally {
    verdicts: Mutex<Vec<Option<Verdict>>>,
    /// Verdicts that the push waits for and that have not come.
    awaited: AtomicUsize,
    all_in: Notify,
}

/// The right to give one verdict. Dropped without one, the node stays unheard.
#[derive(Debug)]
pub struct Ticket {
    tally: Arc<Tally>,
    slot: usize,
    is_awaited: bool,
}

impl Tally {
    /// A place for `nodes` verdicts, `awaited` of which are waited for.
    pub fn new(nodes: usize, awaited: usize) -> Arc<Self> {
        Arc::new(Self {
            verdicts: Mutex::new(vec![None; nodes]),
            awaited: AtomicUsize::new(awaited),
            all_in: Notify::new(),
        })
    }

    /// The right to give the verdict of one node.
    pub fn ticket(self: &Arc<Self>, slot: usize, is_awaited: bool) -> Ticket {
        Ticket { tally: self.clone(), slot, is_awaited }
    }

    /// Waits until every awaited verdict came, at most until `deadline`.
    pub async fn wait(&self, deadline: Instant) {
        if self.awaited.load(Ordering::Acquire) > 0 {
            // Running out is no error: the receipt says what is pending.
            let _ = tokio::time::timeout_at(deadline, self.all_in.notified()).await;
        }
    }

    /// The verdicts that came so far, by slot. Later ones are lost.
    pub fn take(&self) -> Vec<Option<Verdict>> {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Option<Verdict>>> {
        self.verdicts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket {
    /// Gives the verdict.
    pub fn settle(self, verdict: Verdict) {
        if let Some(slot) = self.tally.lock().get_mut(self.slot) {
            *slot = Some(verdict);
        }
        if self.is_awaited && self.tally.awaited.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.tally.all_in.notify_one();
        }
    }
}
