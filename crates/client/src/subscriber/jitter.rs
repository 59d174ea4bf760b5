//! How long to wait before connecting again: full jitter under a doubling ceiling.

use std::time::Duration;

use rand::RngExt;

/// Anything between nothing and a ceiling that starts at `first` and doubles with each attempt up to `max`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Jitter {
    pub first: Duration,
    pub max: Duration,
}

impl Default for Jitter {
    fn default() -> Self {
        Self { first: Duration::from_millis(500), max: Duration::from_secs(20) }
    }
}

impl Jitter {
    /// The wait before attempt number `attempt`, counted from 0.
    pub fn wait(&self, attempt: u32) -> Duration {
        self.ceiling(attempt).mul_f64(rand::rng().random())
    }

    fn ceiling(&self, attempt: u32) -> Duration {
        self.first.saturating_mul(2u32.saturating_pow(attempt)).min(self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_up_to_the_limit_and_differ() {
        let jitter = Jitter::default();
        let ceilings: Vec<_> = [0, 1, 5, 6, 40].map(|attempt| jitter.ceiling(attempt).as_millis()).into();
        assert_eq!(ceilings, [500, 1_000, 16_000, 20_000, 20_000]);
        let waits: Vec<_> = (0..100).map(|_| jitter.wait(0)).collect();
        assert!(waits.iter().all(|wait| *wait <= jitter.first));
        assert!(waits.windows(2).any(|pair| pair[0] != pair[1]));
    }
}
