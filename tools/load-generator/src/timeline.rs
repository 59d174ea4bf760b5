//! Which seconds of a run were not as they should be: for runs during which something is taken away.

use std::time::Duration;

use serde::Serialize;

use crate::tally::{Fate, Mark};

/// The pushes that were due in one second; only seconds with trouble are kept.
#[derive(Debug, Default, Serialize)]
pub struct Second {
    /// Counted from the first push, from 0.
    pub second: u32,
    pub pushes: u32,
    pub failed: u32,
    pub incomplete: u32,
    pub degraded: u32,
    /// Deliveries of accepted pushes that never came.
    pub lost: u64,
    /// Pushes whose last receiver got them too late.
    pub late: u32,
    /// The latest of the last receivers.
    pub last_ms: f64,
}

impl Second {
    fn add(&mut self, fate: Fate, receivers: u32, late: Duration) {
        self.pushes += 1;
        self.failed += u32::from(fate.is(Mark::Failed));
        self.incomplete += u32::from(fate.is(Mark::Incomplete));
        self.degraded += u32::from(fate.is(Mark::Degraded));
        if fate.is(Mark::Accepted) {
            self.lost += u64::from(receivers.saturating_sub(fate.received));
        }
        self.late += u32::from(fate.last > late);
        self.last_ms = self.last_ms.max(fate.last.as_secs_f64() * 1_000.0);
    }

    fn is_trouble(&self) -> bool {
        self.failed + self.incomplete + self.degraded + self.late > 0 || self.lost > 0
    }
}

/// The seconds in which anything failed, was incomplete, degraded, lost or late.
pub fn troubles(fates: impl Iterator<Item = Fate>, rate: u32, receivers: u32, late: Duration) -> Vec<Second> {
    let mut seconds: Vec<Second> = Vec::new();
    for (number, fate) in (0u32..).zip(fates) {
        let second = number / rate;
        if seconds.last().is_none_or(|last| last.second != second) {
            seconds.push(Second { second, ..Second::default() });
        }
        if let Some(last) = seconds.last_mut() {
            last.add(fate, receivers, late);
        }
    }
    seconds.retain(Second::is_trouble);
    seconds
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::tally::Tally;

    #[test]
    fn only_seconds_with_trouble_are_kept() {
        let tally = Tally::new(7, 6);
        for number in 0..6 {
            tally.mark(number, if number == 2 { Mark::Failed } else { Mark::Accepted });
        }
        let now = Instant::now();
        for number in [0, 1, 3, 4] {
            let content = tally.content(number, now, 64);
            let late = if number == 3 { 2 } else { 0 };
            tally.arrived(tally.stamp(content.as_bytes()).unwrap(), now + Duration::from_secs(late));
        }
        let found = troubles(tally.fates(), 2, 1, Duration::from_secs(1));
        let counts: Vec<_> = found.iter().map(|at| (at.second, at.failed, at.late, at.lost)).collect();
        assert_eq!(counts, [(1, 1, 1, 0), (2, 0, 0, 1)]);
        assert!(found[0].last_ms >= 2_000.0);
    }
}
