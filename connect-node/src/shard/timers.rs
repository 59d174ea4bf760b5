//! One coarse timer wheel for all sessions of a shard: each has one entry, the moment it must be looked at next.

use std::time::Duration;

use tokio::time::Instant;

/// Milliseconds since the shard started.
pub(super) type Millis = u64;
/// No moment.
pub(super) const NEVER: Millis = Millis::MAX;

/// Turns of the wheel; what lies further ahead is looked at early and put back.
const BUCKETS: usize = 512;

/// A session by slot and generation.
pub(super) type Place = (u32, u32);

/// Milliseconds since a moment; the shard's clock.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    start: Instant,
}

impl Clock {
    pub(super) fn start() -> Self {
        Self { start: Instant::now() }
    }

    pub(super) fn now(&self) -> Millis {
        millis(self.start.elapsed())
    }

    /// A moment on this clock; one before its start is its start.
    pub(super) fn at(&self, moment: Instant) -> Millis {
        millis(moment.saturating_duration_since(self.start))
    }
}

/// Whole milliseconds.
pub(super) fn millis(duration: Duration) -> Millis {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The wheel. Nothing is ever removed from it: whoever is woken checks whether it still wanted to be.
#[derive(Debug)]
pub(super) struct Wheel {
    buckets: Vec<Vec<Place>>,
    tick: Millis,
    /// The next tick to fire.
    next: u64,
}

impl Wheel {
    /// A wheel that is exact to a tenth of the shortest time it serves, and no finer than 10 ms.
    pub(super) fn new(shortest: Duration) -> Self {
        let tick = (millis(shortest) / 10).clamp(10, 250);
        Self { buckets: vec![Vec::new(); BUCKETS], tick, next: 0 }
    }

    /// How often to call [`Self::expire`].
    pub(super) fn tick(&self) -> Duration {
        Duration::from_millis(self.tick)
    }

    /// Has the session looked at when `at` has come, or earlier when that is far ahead. Gives the moment at which it
    /// will be: the entry is stale if the session by then waits for another one.
    pub(super) fn insert(&mut self, place: Place, at: Millis) -> Millis {
        let turn = at.div_ceil(self.tick).clamp(self.next, self.next + BUCKETS as u64 - 1);
        self.buckets[(turn % BUCKETS as u64) as usize].push(place);
        turn * self.tick
    }

    /// Takes out what is due, with the moment it was put in for.
    pub(super) fn expire(&mut self, now: Millis) -> Vec<(Millis, Vec<Place>)> {
        let mut due = Vec::new();
        while self.next * self.tick <= now {
            let bucket = std::mem::take(&mut self.buckets[(self.next % BUCKETS as u64) as usize]);
            if !bucket.is_empty() {
                due.push((self.next * self.tick, bucket));
            }
            self.next += 1;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_out_once_and_not_before_their_time() {
        let mut wheel = Wheel::new(Duration::from_secs(10));
        assert_eq!(wheel.tick(), Duration::from_millis(250));
        assert_eq!(wheel.insert((1, 1), 1_000), 1_000);
        assert_eq!(wheel.insert((2, 1), 1_001), 1_250);
        assert!(wheel.expire(999).is_empty());
        assert_eq!(wheel.expire(1_249), vec![(1_000, vec![(1, 1)])]);
        assert_eq!(wheel.expire(5_000), vec![(1_250, vec![(2, 1)])]);
        assert!(wheel.expire(1_000_000).is_empty());
    }

    #[test]
    fn what_is_past_or_far_ahead_is_looked_at_within_the_wheel() {
        let mut wheel = Wheel::new(Duration::from_millis(100));
        assert!(wheel.expire(1_000).is_empty());
        assert_eq!(wheel.insert((1, 1), 5), 1_010);
        let early = wheel.insert((2, 1), 1_000_000);
        assert!(early < 1_010 + 10 * BUCKETS as u64);
        let due = wheel.expire(early);
        assert_eq!(due, vec![(1_010, vec![(1, 1)]), (early, vec![(2, 1)])]);
    }
}
