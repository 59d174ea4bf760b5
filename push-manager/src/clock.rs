//! Time as lanes and pushes compare it: microseconds since this push-manager started, and whether it stood still.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::time::Instant;

/// How often the watch over our own standstill looks at the clock.
const TICK: Duration = Duration::from_millis(100);

/// A standstill longer than this may have cost the lease, so that nodes no longer wait for our lane before they accept
/// sessions. Well below the shortest lease of 2 s.
const STANDSTILL_US: u64 = 1_000_000;

/// Monotonic microseconds, never 0, so that 0 can mean "never".
#[derive(Debug)]
pub struct Clock {
    origin: Instant,
    ticked_us: AtomicU64,
    resumed_us: AtomicU64,
}

impl Clock {
    /// Starts at 1.
    pub fn new() -> Self {
        Self { origin: Instant::now(), ticked_us: AtomicU64::new(1), resumed_us: AtomicU64::new(0) }
    }

    /// Now. The clock goes on while the process is stopped.
    pub fn now_us(&self) -> u64 {
        self.at(Instant::now())
    }

    /// An instant on this clock; instants before the start read as 1.
    pub fn at(&self, instant: Instant) -> u64 {
        micros(instant.saturating_duration_since(self.origin)) + 1
    }

    /// When this process last came back from a standstill; 0 when it never stood still. Notices one that ended just
    /// now, before any task of ours ran.
    pub fn resumed_us(&self) -> u64 {
        let now = self.now_us();
        if now.saturating_sub(self.ticked_us.load(Ordering::Acquire)) > STANDSTILL_US {
            self.resumed_us.fetch_max(now, Ordering::AcqRel);
        }
        self.resumed_us.load(Ordering::Acquire)
    }

    /// Looks at the clock forever, so that a standstill leaves a gap.
    pub async fn watch(&self) {
        loop {
            // Before the tick is noted: the gap must not be overwritten unseen.
            self.resumed_us();
            self.ticked_us.store(self.now_us(), Ordering::Release);
            tokio::time::sleep(TICK).await;
        }
    }
}

/// A span of time in microseconds.
pub fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
