//! The store's clock in process memory: starts at the wall clock, then follows the monotonic one.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use roomcast_types::{StoreTime, unix_millis};
use tokio::time::Instant;

/// Never goes backward, whatever the wall clock does after the start. Tokio's instant, so that it stands still and
/// jumps with a paused clock.
#[derive(Debug)]
pub(super) struct Clock {
    base: StoreTime,
    started: Instant,
    advanced_ms: AtomicU64,
}

impl Clock {
    pub(super) fn new() -> Self {
        Self {
            base: StoreTime::from_millis(unix_millis()),
            started: Instant::now(),
            advanced_ms: AtomicU64::new(0),
        }
    }

    pub(super) fn now(&self) -> StoreTime {
        let advanced = Duration::from_millis(self.advanced_ms.load(Ordering::SeqCst));
        self.base.plus(self.started.elapsed() + advanced)
    }

    pub(super) fn advance(&self, by: Duration) {
        self.advanced_ms.fetch_add(by.as_millis() as u64, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_never_goes_backward_and_moves_when_told() {
        let clock = Clock::new();
        let mut last = clock.now();
        for _ in 0..1_000 {
            let now = clock.now();
            assert!(now >= last);
            last = now;
        }
        clock.advance(Duration::from_secs(90));
        assert!(clock.now() >= last.plus(Duration::from_secs(90)));
    }

    #[tokio::test(start_paused = true)]
    async fn it_follows_a_paused_clock() {
        let clock = Clock::new();
        let before = clock.now();
        tokio::time::advance(Duration::from_secs(30)).await;
        assert_eq!(clock.now(), before.plus(Duration::from_secs(30)));
    }
}
