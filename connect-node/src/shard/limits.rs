//! How often a client may speak: a token bucket for frames and a count of malformed ones per minute.

use std::time::Duration;

use super::timers::Millis;

/// Over which time malformed frames are counted.
const BAD_FRAMES_WINDOW: Millis = 60_000;
/// One frame in the bucket's unit.
const FRAME: u64 = 1_000;

/// What a client has used of its limits. Full when fresh.
#[derive(Debug, Default)]
pub(super) struct FrameMeter {
    /// Thousandths of a frame that were taken and not refilled: 0 is a full bucket.
    taken: u64,
    refilled_at: Millis,
    bad: u32,
    bad_since: Millis,
}

impl FrameMeter {
    /// Takes one frame; else says when the next one fits. Frames refused cost nothing, so a client that waits as told
    /// gets through.
    pub(super) fn take(&mut self, now: Millis, per_second: u32, burst: u32) -> Result<(), Duration> {
        let rate = u64::from(per_second);
        self.taken = self.taken.saturating_sub(now.saturating_sub(self.refilled_at).saturating_mul(rate));
        self.refilled_at = now;
        let (after, full) = (self.taken + FRAME, u64::from(burst) * FRAME);
        if after <= full {
            self.taken = after;
            return Ok(());
        }
        Err(Duration::from_millis((after - full).div_ceil(rate.max(1)).max(1)))
    }

    /// Counts a malformed frame; false when it was one too many.
    pub(super) fn tolerates_bad(&mut self, now: Millis, per_minute: u32) -> bool {
        if now.saturating_sub(self.bad_since) >= BAD_FRAMES_WINDOW {
            (self.bad, self.bad_since) = (0, now);
        }
        self.bad += 1;
        self.bad <= per_minute
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_waits_as_told_gets_through() {
        let mut meter = FrameMeter::default();
        let mut now = 5_000;
        for _ in 0..200 {
            assert_eq!(meter.take(now, 50, 200), Ok(()));
        }
        for _ in 0..1_000 {
            let wait = meter.take(now, 50, 200).unwrap_err();
            assert_eq!(wait, Duration::from_millis(20));
        }
        now += 20;
        assert_eq!(meter.take(now, 50, 200), Ok(()));
        assert!(meter.take(now, 50, 200).is_err());
        now += 3_600_000;
        assert_eq!((0..500).filter(|_| meter.take(now, 50, 200).is_ok()).count(), 200);
    }

    #[test]
    fn malformed_frames_are_forgiven_after_a_minute() {
        let mut meter = FrameMeter::default();
        assert!((0..10).all(|_| meter.tolerates_bad(1, 10)));
        assert!(!meter.tolerates_bad(59_999, 10));
        assert!((0..10).all(|_| meter.tolerates_bad(60_000, 10)));
        assert!(!meter.tolerates_bad(60_001, 10));
    }

    proptest::proptest! {
        #[test]
        fn the_long_run_never_exceeds_the_rate(gaps in proptest::collection::vec(0u64..200, 1..300)) {
            let (mut meter, mut now, mut passed) = (FrameMeter::default(), 0, 0u64);
            for gap in gaps {
                now += gap;
                passed += u64::from(meter.take(now, 10, 5).is_ok());
            }
            proptest::prop_assert!(passed <= 5 + now * 10 / 1_000 + 1);
        }
    }
}
