//! Ways to break the accounting on purpose, so that tests can see the ledger notice. Without the feature of this name
//! nothing is ever broken, and nothing is asked.

#[cfg(feature = "failpoints")]
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// The failpoints of one node.
#[derive(Debug, Clone, Default)]
pub struct Failpoints {
    #[cfg(feature = "failpoints")]
    outcomes: Arc<AtomicU64>,
    #[cfg(feature = "failpoints")]
    words: Arc<AtomicU64>,
}

#[cfg(feature = "failpoints")]
impl Failpoints {
    /// The next outcomes of targets that waited are not counted.
    pub fn lose_outcomes(&self, count: u64) {
        self.outcomes.store(count, Ordering::Relaxed);
    }

    /// The next messages of which something is to be told are not spoken of.
    pub fn lose_words(&self, count: u64) {
        self.words.store(count, Ordering::Relaxed);
    }

    /// Whether everything that was to be lost is.
    pub fn is_done(&self) -> bool {
        self.outcomes.load(Ordering::Relaxed) + self.words.load(Ordering::Relaxed) == 0
    }

    pub(crate) fn loses_outcome(&self) -> bool {
        take(&self.outcomes)
    }

    pub(crate) fn loses_word(&self) -> bool {
        take(&self.words)
    }
}

#[cfg(not(feature = "failpoints"))]
#[allow(clippy::unused_self, reason = "as with the feature")]
impl Failpoints {
    pub(crate) fn loses_outcome(&self) -> bool {
        false
    }

    pub(crate) fn loses_word(&self) -> bool {
        false
    }
}

#[cfg(feature = "failpoints")]
fn take(count: &AtomicU64) -> bool {
    count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
}
