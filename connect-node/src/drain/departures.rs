//! Who left a node while it was drained, and how: counted by the shards, read at the end.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

/// Counts of one drain. A session counts from the moment it is told to go, or is closed because the node stops; each
/// counts once.
#[derive(Debug, Default)]
pub struct Departures {
    told: AtomicUsize,
    moved: AtomicUsize,
    closed: AtomicUsize,
    lost: AtomicUsize,
    /// Of those that moved, in milliseconds: one entry each, so as many as sessions were told at most.
    gaps: Mutex<Vec<u32>>,
}

/// What a drain came to; as long as it lasts, what it came to until now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Drained {
    /// Sessions that ended since they were told to go, or because the node stopped: `moved + closed`.
    pub sessions: usize,
    /// Sessions that went when they were told: a later session took their slot over, the client closed, or its
    /// connection ended. What waited for them was written first unless the client itself ended the connection.
    pub moved: usize,
    /// Sessions that the node closed: with 4001 because they stayed, or for another reason of its own.
    pub closed: usize,
    /// Messages that still waited for a reader when the node cut its socket, which it does when `flush_wait` is over.
    /// Not those of a client that ended the connection itself, nor those given up because a reader was too slow.
    pub lost: usize,
    /// 99 % of the sessions that moved took no longer than this from being told to go until they were taken over or
    /// ended; the delay that each was given before it reconnects, up to half a second, is part of it. Zero when none
    /// moved. A client that opens its new session first is without one for none of this time.
    pub gap_p99: Duration,
}

impl Departures {
    /// A session was told to go.
    pub fn told(&self) {
        self.told.fetch_add(1, Relaxed);
    }

    /// Sessions that were told to go until now.
    pub fn told_until_now(&self) -> usize {
        self.told.load(Relaxed)
    }

    /// A session went, this long after it was told.
    pub fn moved(&self, after: Duration) {
        self.moved.fetch_add(1, Relaxed);
        let gap = u32::try_from(after.as_millis()).unwrap_or(u32::MAX);
        self.gaps.lock().unwrap_or_else(PoisonError::into_inner).push(gap);
    }

    /// A session was closed by the node.
    pub fn closed(&self) {
        self.closed.fetch_add(1, Relaxed);
    }

    /// A socket was cut with so many messages behind it.
    pub fn lost(&self, messages: usize) {
        self.lost.fetch_add(messages, Relaxed);
    }

    /// The sums.
    pub fn sum(&self) -> Drained {
        let (moved, closed) = (self.moved.load(Relaxed), self.closed.load(Relaxed));
        let mut gaps = self.gaps.lock().unwrap_or_else(PoisonError::into_inner).clone();
        gaps.sort_unstable();
        // The smallest gap that at least 99 % do not exceed.
        let rank = (gaps.len() * 99).div_ceil(100).saturating_sub(1);
        let gap_p99 = Duration::from_millis(gaps.get(rank).copied().unwrap_or_default().into());
        Drained { sessions: moved + closed, moved, closed, lost: self.lost.load(Relaxed), gap_p99 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gap_is_one_that_99_of_100_do_not_exceed() {
        let departures = Departures::default();
        assert_eq!(departures.sum(), Drained::default());
        for gap in (1..=100).rev() {
            departures.moved(Duration::from_millis(gap));
        }
        departures.closed();
        let Drained { sessions, moved, closed, gap_p99, .. } = departures.sum();
        assert_eq!((sessions, moved, closed, gap_p99), (101, 100, 1, Duration::from_millis(99)));
    }
}
