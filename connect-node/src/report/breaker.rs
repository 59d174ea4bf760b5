//! Whether a controller can be asked at all: while none answers, nobody waits for one.
//!
//! | state | who asks | why |
//! |---|---|---|
//! | a stream is on, and something came within a second | waits for the answer | |
//! | a stream is on, and nothing came for longer | is refused at once | a controller says something every 500 ms: this one is frozen |
//! | no stream since less than 500 ms | waits | another controller takes over meanwhile |
//! | no stream for longer | is refused at once | |
//!
//! It closes by itself: with the next thing that a controller says.

use std::time::Duration;

use tokio::time::Instant;

/// Twice what a controller may be silent.
const SILENCE: Duration = Duration::from_secs(1);
/// A stream to another controller is there within a few milliseconds, if there is one.
const HANDOVER: Duration = Duration::from_millis(500);

/// See the module.
#[derive(Debug, Clone, Copy)]
pub enum Breaker {
    /// No stream.
    Down {
        /// Since when.
        since: Instant,
    },
    /// A stream is on.
    Up {
        /// When something came last.
        heard_at: Instant,
    },
}

impl Breaker {
    /// A node that has not yet found a controller.
    pub fn new(now: Instant) -> Self {
        Self::Down { since: now }
    }

    /// A controller said something.
    pub fn heard(&mut self, now: Instant) {
        *self = Self::Up { heard_at: now };
    }

    /// The stream ended.
    pub fn lost(&mut self, now: Instant) {
        if let Self::Up { .. } = self {
            *self = Self::Down { since: now };
        }
    }

    /// Whether it makes no sense to wait for an answer.
    pub fn is_open(&self, now: Instant) -> bool {
        match self {
            Self::Down { since } => now.duration_since(*since) >= HANDOVER,
            Self::Up { heard_at } => now.duration_since(*heard_at) >= SILENCE,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_waits_only_while_somebody_may_answer() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut breaker = Breaker::new(start);
        assert!(!breaker.is_open(at(499)) && breaker.is_open(at(500)), "no controller was found");
        breaker.heard(at(700));
        assert!(!breaker.is_open(at(1_699)) && breaker.is_open(at(1_700)), "the controller is frozen");
        breaker.heard(at(1_800));
        assert!(!breaker.is_open(at(1_800)), "it goes on");
        breaker.lost(at(2_000));
        assert!(!breaker.is_open(at(2_400)), "another one may take over");
        breaker.lost(at(2_400));
        assert!(breaker.is_open(at(2_500)), "a further attempt that failed starts nothing anew");
    }
}
