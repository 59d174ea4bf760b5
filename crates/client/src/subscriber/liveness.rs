//! Whether a silent node is still there.

use std::time::Duration;

use tokio::time::Instant;

/// Silence allowed after a ping.
const PONG_TIMEOUT: Duration = Duration::from_secs(10);
/// Used when `welcome` names no interval.
const PING_INTERVAL: Duration = Duration::from_secs(25);

/// | state | anything heard | time is up |
/// |---|---|---|
/// | quiet for less than the interval | starts over | sends a ping, asked |
/// | asked | starts over | dead |
#[derive(Debug)]
pub struct Liveness {
    interval: Duration,
    heard_at: Instant,
    asked_at: Option<Instant>,
}

/// What to do when the time of [`Liveness::due`] came.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Ask for a sign of life.
    Ping,
    /// Give the connection up.
    Dead,
}

impl Liveness {
    /// Starts with a node that was just heard.
    pub fn new(ping_interval_ms: u64, now: Instant) -> Self {
        let interval = match ping_interval_ms {
            0 => PING_INTERVAL,
            millis => Duration::from_millis(millis),
        };
        Self { interval, heard_at: now, asked_at: None }
    }

    /// Anything came; also called when reading starts again after it had stopped for our own reasons.
    pub fn heard(&mut self, now: Instant) {
        self.heard_at = now;
        self.asked_at = None;
    }

    /// When to ask for a verdict.
    pub fn due(&self) -> Instant {
        match self.asked_at {
            Some(asked_at) => asked_at + PONG_TIMEOUT,
            None => self.heard_at + self.interval,
        }
    }

    /// `None` before the time of [`Liveness::due`].
    pub fn verdict(&mut self, now: Instant) -> Option<Verdict> {
        if now < self.due() {
            return None;
        }
        if self.asked_at.is_some() {
            return Some(Verdict::Dead);
        }
        self.asked_at = Some(now);
        Some(Verdict::Ping)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_asked_about_once_and_then_ends_the_connection() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut liveness = Liveness::new(25_000, start);
        assert_eq!(liveness.verdict(after(24)), None);
        liveness.heard(after(24));
        assert_eq!(liveness.verdict(after(48)), None);
        assert_eq!(liveness.verdict(after(49)), Some(Verdict::Ping));
        assert_eq!(liveness.verdict(after(58)), None);
        assert_eq!(liveness.verdict(after(59)), Some(Verdict::Dead));
        liveness.heard(after(58));
        assert_eq!(liveness.due(), after(83));
    }
}
