//! Which message reached how many sessions, and how late: shared by all readers, one writer per counter at a time.

use std::{
    sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use anyhow::Result;
use hdrhistogram::Histogram;

/// Latencies above this count as this: nothing waits longer.
const LATENCY_MAX: Duration = Duration::from_secs(600);
/// Digits that count in a latency.
const PRECISION: u8 = 3;
const MARK: &str = "lg:";
/// Mark, run, number, time due: 3 + 9 + 9 + 17 bytes.
const STAMP_BYTES: usize = 38;

/// A histogram of nanoseconds.
pub fn histogram() -> Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, LATENCY_MAX.as_nanos() as u64, PRECISION)?)
}

/// Adds a latency; what is out of bounds counts as the bound.
pub fn record(histogram: &mut Histogram<u64>, latency: Duration) {
    histogram.saturating_record((latency.as_nanos() as u64).max(1));
}

/// The messages of one run.
pub struct Tally {
    run: u32,
    started: Instant,
    messages: Vec<Message>,
    received: AtomicU64,
    repeated: AtomicU64,
    foreign: AtomicU64,
}

#[derive(Default)]
struct Message {
    marks: AtomicU8,
    received: AtomicU32,
    /// Nanoseconds from the time due to the last arrival so far.
    last: AtomicU64,
}

/// What a push was answered.
#[derive(Debug, Clone, Copy)]
pub enum Mark {
    /// Its message has to arrive.
    Accepted = 1,
    /// Accepted, but `complete` was false.
    Incomplete = 2,
    /// Accepted, and the reply named something that is away.
    Degraded = 4,
    /// Not accepted, or no answer.
    Failed = 8,
}

/// What is known of one message.
#[derive(Debug, Clone, Copy)]
pub struct Fate {
    marks: u8,
    pub received: u32,
    /// From the time due to the last arrival.
    pub last: Duration,
}

impl Fate {
    /// Whether the push was answered so.
    pub fn is(&self, mark: Mark) -> bool {
        self.marks & mark as u8 != 0
    }
}

/// What one message says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    pub number: u32,
    due: u64,
}

/// Counts over all messages.
pub struct Counts {
    pub expected: u64,
    pub received: u64,
    pub lost: u64,
    pub repeated: u64,
}

impl Tally {
    /// For so many messages.
    pub fn new(run: u32, messages: u32) -> Self {
        Self {
            run,
            started: Instant::now(),
            messages: (0..messages).map(|_| Message::default()).collect(),
            received: AtomicU64::new(0),
            repeated: AtomicU64::new(0),
            foreign: AtomicU64::new(0),
        }
    }

    /// The content of a message that is due at this time, padded to a size.
    pub fn content(&self, number: u32, due: Instant, bytes: usize) -> String {
        let due = due.saturating_duration_since(self.started).as_nanos() as u64;
        let mut text = format!("{MARK}{:08x}:{number:08x}:{due:016x}:", self.run);
        text.extend(std::iter::repeat_n('x', bytes.saturating_sub(text.len())));
        text
    }

    /// Finds the stamp in a frame; `None` when it carries no message of this run.
    pub fn stamp(&self, frame: &[u8]) -> Option<Stamp> {
        let text = std::str::from_utf8(frame).ok()?;
        let at = text.find(MARK)?;
        let stamp = text.get(at + MARK.len()..at + STAMP_BYTES - 1)?;
        let mut parts = stamp.split(':');
        let run = u32::from_str_radix(parts.next()?, 16).ok()?;
        let number = u32::from_str_radix(parts.next()?, 16).ok()?;
        let due = u64::from_str_radix(parts.next()?, 16).ok()?;
        (run == self.run && (number as usize) < self.messages.len()).then_some(Stamp { number, due })
    }

    /// Counts an arrival; gives its latency.
    pub fn arrived(&self, stamp: Stamp, now: Instant) -> Duration {
        let since = now.saturating_duration_since(self.started).as_nanos() as u64;
        let latency = since.saturating_sub(stamp.due);
        let message = &self.messages[stamp.number as usize];
        message.last.fetch_max(latency, Relaxed);
        message.received.fetch_add(1, Relaxed);
        self.received.fetch_add(1, Relaxed);
        Duration::from_nanos(latency)
    }

    /// Counts a message that a session had already.
    pub fn repeated(&self) {
        self.repeated.fetch_add(1, Relaxed);
    }

    /// Counts a push that is not of this run.
    pub fn foreign(&self) {
        self.foreign.fetch_add(1, Relaxed);
    }

    /// Pushes seen that are not of this run.
    pub fn foreign_seen(&self) -> u64 {
        self.foreign.load(Relaxed)
    }

    /// Notes what a push was answered.
    pub fn mark(&self, number: u32, mark: Mark) {
        self.messages[number as usize].marks.fetch_or(mark as u8, Relaxed);
    }

    /// What became of each message, in the order of their numbers.
    pub fn fates(&self) -> impl Iterator<Item = Fate> {
        self.messages.iter().map(|message| Fate {
            marks: message.marks.load(Relaxed),
            received: message.received.load(Relaxed),
            last: Duration::from_nanos(message.last.load(Relaxed)),
        })
    }

    /// Whether every accepted message reached so many sessions.
    pub fn is_complete(&self, receivers: u32) -> bool {
        self.accepted_fates().all(|fate| fate.received >= receivers)
    }

    /// The counts, when every accepted message should have reached so many sessions.
    pub fn counts(&self, receivers: u32) -> Counts {
        let lost = |fate: Fate| u64::from(receivers.saturating_sub(fate.received));
        Counts {
            expected: self.accepted_fates().count() as u64 * u64::from(receivers),
            received: self.received.load(Relaxed),
            lost: self.accepted_fates().map(lost).sum(),
            repeated: self.repeated.load(Relaxed),
        }
    }

    /// Latencies to the last receiver of each message that arrived anywhere.
    pub fn last_latencies(&self) -> Result<Histogram<u64>> {
        let mut histogram = histogram()?;
        for fate in self.fates().filter(|fate| fate.received > 0) {
            record(&mut histogram, fate.last);
        }
        Ok(histogram)
    }

    fn accepted_fates(&self) -> impl Iterator<Item = Fate> {
        self.fates().filter(|fate| fate.is(Mark::Accepted))
    }
}

/// Remembers which of the last 128 messages one session saw: pushes in flight together may overtake each other.
#[derive(Debug, Default)]
pub struct Seen {
    next: u32,
    window: u128,
}

impl Seen {
    /// True for a message not seen before; one older than the window counts as new.
    pub fn is_new(&mut self, number: u32) -> bool {
        if number >= self.next {
            let by = number - self.next + 1;
            self.window = self.window.checked_shl(by).unwrap_or(0) | 1;
            self.next = number + 1;
            return true;
        }
        let Some(bit) = 1u128.checked_shl(self.next - 1 - number) else { return true };
        let is_new = self.window & bit == 0;
        self.window |= bit;
        is_new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_found_in_its_frame() {
        let tally = Tally::new(7, 10);
        let content = tally.content(3, tally.started + Duration::from_millis(5), 100);
        assert_eq!(content.len(), 100);
        let frame = format!(r#"{{"type":"push","content":{{"data":"{content}"}}}}"#);
        let stamp = tally.stamp(frame.as_bytes()).unwrap();
        assert_eq!(stamp.number, 3);
        let latency = tally.arrived(stamp, tally.started + Duration::from_millis(8));
        assert_eq!(latency, Duration::from_millis(3));
        assert_eq!(Tally::new(8, 10).stamp(frame.as_bytes()), None, "another run");
        assert_eq!(tally.stamp(br#"{"type":"push"}"#), None);
    }

    #[test]
    fn what_did_not_arrive_everywhere_is_lost() {
        let tally = Tally::new(1, 3);
        for (number, arrivals) in [(0, 2), (1, 1), (2, 0)] {
            for _ in 0..arrivals {
                tally.arrived(Stamp { number, due: 0 }, Instant::now());
            }
        }
        tally.mark(0, Mark::Accepted);
        tally.mark(1, Mark::Accepted);
        let counts = tally.counts(2);
        assert_eq!((counts.expected, counts.received, counts.lost), (4, 3, 1), "the third was not accepted");
        assert!(!tally.is_complete(2));
    }

    #[test]
    fn repeats_are_told_from_overtaking() {
        let mut seen = Seen::default();
        for number in [0, 2, 1, 200, 199] {
            assert!(seen.is_new(number), "{number}");
        }
        for number in [200, 199] {
            assert!(!seen.is_new(number), "{number}");
        }
    }
}
