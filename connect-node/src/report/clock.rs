//! The store's clock as this node sees it: store time of the replies plus own monotonic time.
//!
//! A reply is older when it arrives than when it was stamped, never younger: of several, the one with the smallest
//! delay shows the greatest difference to the own clock, and that one is believed.

use std::time::Duration;

use roomcast_types::{StoreTime, unix_millis};
use tokio::time::Instant;

/// How long a difference is believed at least; two windows overlap so that drift is followed without a jump.
const WINDOW: Duration = Duration::from_secs(60);

/// See the module.
#[derive(Debug)]
pub struct StoreClock {
    origin: Instant,
    window_began: Instant,
    /// Greatest differences, in milliseconds, of this window and the one before.
    current: Option<i64>,
    previous: Option<i64>,
}

impl StoreClock {
    /// A clock that knows nothing.
    pub fn new(now: Instant) -> Self {
        Self { origin: now, window_began: now, current: None, previous: None }
    }

    /// Takes the store time of a reply that arrived at `now`; 0 says nothing.
    pub fn observe(&mut self, store_time_ms: i64, now: Instant) {
        if store_time_ms == 0 {
            return;
        }
        if now.duration_since(self.window_began) >= WINDOW {
            self.previous = self.current.take();
            self.window_began = now;
        }
        let difference = store_time_ms - self.own(now);
        self.current = Some(self.current.map_or(difference, |current| current.max(difference)));
    }

    /// Forgets what another controller's store said.
    pub fn forget(&mut self) {
        (self.current, self.previous) = (None, None);
    }

    /// Whether a reply was seen.
    pub fn is_set(&self) -> bool {
        self.current.or(self.previous).is_some()
    }

    /// When something happened, on the store's clock; on the wall clock before the first reply.
    pub fn at(&self, when: Instant) -> StoreTime {
        let difference = self.current.max(self.previous);
        match difference {
            Some(difference) => StoreTime::from_millis(difference + self.own(when)),
            None => {
                let age = Instant::now().saturating_duration_since(when);
                StoreTime::from_millis(unix_millis()).minus(age)
            }
        }
    }

    fn own(&self, when: Instant) -> i64 {
        match when.checked_duration_since(self.origin) {
            Some(since) => since.as_millis() as i64,
            None => -(self.origin.duration_since(when).as_millis() as i64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reply_with_the_smallest_delay_is_believed() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut clock = StoreClock::new(start);
        // Stamped at own time 0, 100 and 200; on the way for 40, 2 and 30 ms.
        for (store, arrived) in [(1_000, 40), (1_100, 102), (1_200, 230)] {
            clock.observe(store, at(arrived));
        }
        assert_eq!(clock.at(at(500)).as_millis(), 1_498);
        assert_eq!(clock.at(at(50)).as_millis(), 1_048, "an earlier event gets the stamp of its own time");
    }

    #[test]
    fn an_old_difference_is_forgotten() {
        let start = Instant::now();
        let mut clock = StoreClock::new(start);
        clock.observe(10_000, start);
        for minute in 1..4 {
            let now = start + WINDOW * minute;
            // The store's clock is slower by 10 ms a minute.
            clock.observe(10_000 + 60_000 * i64::from(minute) - 10 * i64::from(minute), now);
        }
        assert_eq!(clock.at(start + WINDOW * 3).as_millis(), 10_000 + 180_000 - 20);
    }

    #[test]
    fn a_reply_without_the_stores_time_says_nothing() {
        let mut clock = StoreClock::new(Instant::now());
        clock.observe(0, Instant::now());
        assert!(!clock.is_set());
    }
}
