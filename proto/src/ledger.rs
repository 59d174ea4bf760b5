//! The ledger as nodes and push-managers keep it alike: counts of targets by minute, bounded, and their arithmetic.

use std::collections::BTreeMap;

use crate::pubsub::{LedgerCounts, Outcome};

const MINUTE_MS: i64 = 60_000;
/// Minutes that are kept: those of a day, and some for clocks that differ.
const KEPT_MINUTES: i64 = 24 * 60 + 10;
/// Entries at most: eleven peers for a day. Past that the oldest go first.
const ENTRIES_MAX: usize = 16_384;

impl LedgerCounts {
    /// Targets with an outcome.
    pub fn settled(&self) -> u64 {
        self.written
            + self.acked
            + self.filtered
            + self.expired
            + self.superseded
            + self.dropped_slow
            + self.closed
    }

    /// By how much `targets = pending + outcomes` is missed.
    pub fn excess(&self) -> u64 {
        self.targets.abs_diff(self.pending + self.settled())
    }

    /// The counts that differ, each by its name, here and there. WRITTEN and ACKED are one: which of them it is may
    /// change long after a receipt is forgotten.
    pub fn differences(&self, other: &Self) -> Vec<(&'static str, u64, u64)> {
        let all = [
            ("messages", self.messages, other.messages),
            ("targets", self.targets, other.targets),
            ("PENDING", self.pending, other.pending),
            ("WRITTEN or ACKED", self.written + self.acked, other.written + other.acked),
            ("FILTERED", self.filtered, other.filtered),
            ("EXPIRED", self.expired, other.expired),
            ("SUPERSEDED", self.superseded, other.superseded),
            ("DROPPED_SLOW", self.dropped_slow, other.dropped_slow),
            ("CLOSED", self.closed, other.closed),
        ];
        all.into_iter().filter(|(_, own, other)| own != other).collect()
    }

    /// Has these counts hold `new` where they held `old`.
    pub fn replace(&mut self, old: &Self, new: &Self) {
        for (count, old, new) in [
            (&mut self.messages, old.messages, new.messages),
            (&mut self.targets, old.targets, new.targets),
            (&mut self.pending, old.pending, new.pending),
            (&mut self.written, old.written, new.written),
            (&mut self.acked, old.acked, new.acked),
            (&mut self.filtered, old.filtered, new.filtered),
            (&mut self.expired, old.expired, new.expired),
            (&mut self.superseded, old.superseded, new.superseded),
            (&mut self.dropped_slow, old.dropped_slow, new.dropped_slow),
            (&mut self.closed, old.closed, new.closed),
            (&mut self.unaccounted, old.unaccounted, new.unaccounted),
        ] {
            *count = (*count + new).saturating_sub(old);
        }
    }
}

impl From<&Outcome> for LedgerCounts {
    fn from(outcome: &Outcome) -> Self {
        Self {
            messages: 1,
            targets: outcome.targets,
            pending: outcome.pending,
            written: outcome.written,
            acked: outcome.acked,
            filtered: outcome.filtered,
            expired: outcome.expired,
            superseded: outcome.superseded,
            dropped_slow: outcome.dropped_slow,
            closed: outcome.closed,
            unaccounted: 0,
        }
    }
}

/// Something kept per minute and peer, for a day, in a bounded number of entries.
#[derive(Debug)]
pub struct Minutes<K, V> {
    entries: BTreeMap<(i64, K), V>,
    /// Minutes before this one may have been dropped.
    complete_from: i64,
}

impl<K: Ord + Clone, V: Default> Minutes<K, V> {
    /// Empty.
    pub fn new() -> Self {
        Self { entries: BTreeMap::new(), complete_from: 0 }
    }

    /// The minute of a moment, both in milliseconds since 1970.
    pub fn minute_ms(moment_ms: i64) -> i64 {
        moment_ms.div_euclid(MINUTE_MS) * MINUTE_MS
    }

    /// The entry of a peer in the minute of `moment_ms`. A moment more than a day from `now_ms` counts as one a day
    /// away, so that a wrong clock cannot push out what is recent.
    pub fn entry(&mut self, moment_ms: i64, peer: &K, now_ms: i64) -> &mut V {
        let kept = KEPT_MINUTES * MINUTE_MS;
        let minute = Self::minute_ms(moment_ms.clamp(now_ms - kept, now_ms + kept));
        let key = (minute, peer.clone());
        if !self.entries.contains_key(&key) {
            self.forget(now_ms - kept);
        }
        self.entries.entry(key).or_default()
    }

    fn forget(&mut self, before_ms: i64) {
        while let Some(oldest) = self.entries.first_entry() {
            let minute = oldest.key().0;
            if minute >= before_ms && self.entries.len() < ENTRIES_MAX {
                return;
            }
            self.entries.pop_first();
            self.complete_from = self.complete_from.max(minute + MINUTE_MS);
        }
    }

    /// The entries from the minute of `since_ms` on.
    pub fn since(&self, since_ms: i64) -> impl Iterator<Item = (i64, &K, &V)> {
        let from = Self::minute_ms(since_ms);
        self.entries
            .iter()
            .filter(move |((minute, _), _)| *minute >= from)
            .map(|((minute, key), value)| (*minute, key, value))
    }

    /// The first minute of which no entry was dropped; 0 when none ever was.
    pub fn complete_from_ms(&self) -> i64 {
        self.complete_from
    }
}

impl<K: Ord + Clone, V: Default> Default for Minutes<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_has_one_entry_a_peer_and_old_ones_go() {
        let mut minutes = Minutes::<u8, u64>::new();
        let now = 1_000_000 * MINUTE_MS + 7;
        *minutes.entry(now, &1, now) += 1;
        *minutes.entry(now + 59_000, &1, now) += 1;
        *minutes.entry(now, &2, now) += 5;
        let all = |minutes: &Minutes<u8, u64>, since| {
            minutes.since(since).map(|(at, peer, count)| (at, *peer, *count)).collect::<Vec<_>>()
        };
        assert_eq!(all(&minutes, 0), [(now - 7, 1, 2), (now - 7, 2, 5)]);
        assert_eq!(minutes.complete_from_ms(), 0);
        let later = now + (KEPT_MINUTES + 1) * MINUTE_MS;
        *minutes.entry(later, &1, later) += 3;
        assert_eq!(all(&minutes, 0), [(Minutes::<u8, u64>::minute_ms(later), 1, 3)]);
        assert_eq!(minutes.complete_from_ms(), now - 7 + MINUTE_MS);
    }

    #[test]
    fn the_number_of_entries_is_bounded_whatever_the_clocks_say() {
        let mut minutes = Minutes::<u64, u64>::new();
        let now = 1_000_000 * MINUTE_MS;
        for peer in 0..2 * ENTRIES_MAX as u64 {
            *minutes.entry(i64::MAX - peer as i64, &peer, now) += 1;
        }
        assert_eq!(minutes.since(0).count(), ENTRIES_MAX);
        *minutes.entry(i64::MIN, &0, now) += 1;
        assert!(minutes.since(0).count() <= ENTRIES_MAX);
    }

    #[test]
    fn counts_that_miss_one_target_say_so() {
        let told = LedgerCounts { messages: 1, targets: 5, pending: 2, written: 3, ..Default::default() };
        let later = LedgerCounts { pending: 0, written: 4, acked: 1, ..told };
        let mut sum = LedgerCounts::default();
        sum.replace(&LedgerCounts::default(), &told);
        sum.replace(&told, &later);
        assert_eq!(sum, later);
        assert_eq!(
            (sum.excess(), sum.differences(&LedgerCounts { written: 5, acked: 0, ..later })),
            (0, vec![])
        );
        let lost = LedgerCounts { pending: 1, ..told };
        assert_eq!((lost.excess(), lost.differences(&told)), (1, vec![("PENDING", 1, 2)]));
    }
}
