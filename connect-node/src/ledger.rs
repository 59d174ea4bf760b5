//! The node's ledger: what became of the targets of each push-manager's messages, by the minute of their acceptance.

use std::sync::{Arc, Mutex, MutexGuard};

use metrics::Gauge;
use roomcast_proto::{
    ledger::Minutes,
    pubsub::{LedgerCounts, LedgerEntry},
};
use roomcast_types::{Incarnation, ServiceId, unix_millis};

use crate::tally::Counts;

/// See the module. Its lock is short, taken once whenever something is told of a message.
pub struct Ledger {
    minutes: Mutex<Minutes<Manager, LedgerCounts>>,
    unaccounted: Gauge,
}

/// One life of a push-manager.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Manager {
    incarnation: u64,
    id: ServiceId,
}

/// What the ledger holds of one message.
pub struct Account {
    ledger: Arc<Ledger>,
    manager: Manager,
    timestamp_ms: i64,
    held: LedgerCounts,
}

impl Ledger {
    /// Empty. The gauge shows the targets that are lost.
    pub fn new(unaccounted: Gauge) -> Arc<Self> {
        unaccounted.set(0.0);
        Arc::new(Self { minutes: Mutex::default(), unaccounted })
    }

    /// A message that a push-manager accepted at this time of its clock.
    pub fn open(self: &Arc<Self>, id: &ServiceId, incarnation: Incarnation, timestamp_ms: i64) -> Account {
        let manager = Manager { incarnation: incarnation.as_u64(), id: id.clone() };
        Account { ledger: self.clone(), manager, timestamp_ms, held: LedgerCounts::default() }
    }

    /// The entries from the minute of `since_ms` on, of one life of a push-manager or, for 0, of all; and the first
    /// minute that is whole.
    pub fn entries(&self, since_ms: i64, manager_incarnation: u64) -> (Vec<LedgerEntry>, i64) {
        let minutes = self.lock();
        let is_wanted = |own: u64| manager_incarnation == 0 || own == manager_incarnation;
        let entries = minutes.since(since_ms).filter(|(_, manager, _)| is_wanted(manager.incarnation));
        let entry = |(minute_ms, manager, counts): (i64, &Manager, &LedgerCounts)| LedgerEntry {
            manager_id: manager.id.to_string(),
            manager_incarnation: manager.incarnation,
            minute_ms,
            counts: Some(*counts),
        };
        (entries.map(entry).collect(), minutes.complete_from_ms())
    }

    fn lock(&self) -> MutexGuard<'_, Minutes<Manager, LedgerCounts>> {
        self.minutes.lock().expect("no holder of this lock panics")
    }
}

impl Account {
    /// These are the counts of the message now. Its targets stay those of the first time, whatever is counted later.
    pub fn hold(&mut self, counts: &Counts) {
        let is_first = self.held.messages == 0;
        let mut now = LedgerCounts {
            messages: 1,
            targets: if is_first { counts.targets() } else { self.held.targets },
            pending: counts.pending,
            written: counts.written,
            acked: counts.acked,
            filtered: counts.filtered,
            expired: counts.expired,
            superseded: counts.superseded,
            dropped_slow: counts.dropped_slow,
            closed: counts.closed,
            unaccounted: 0,
        };
        now.unaccounted = counts.unaccounted.max(now.excess());
        let Self { ledger, manager, timestamp_ms, held } = self;
        let mut minutes = ledger.lock();
        minutes.entry(*timestamp_ms, manager, unix_millis()).replace(held, &now);
        drop(minutes);
        if now.unaccounted != held.unaccounted {
            ledger.unaccounted.increment(now.unaccounted as f64 - held.unaccounted as f64);
        }
        *held = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger() -> Arc<Ledger> {
        Ledger::new(Gauge::noop())
    }

    #[test]
    fn entries_are_those_of_the_asked_push_manager_by_its_minutes() {
        let ledger = ledger();
        let (one, two) = (Incarnation::random(), Incarnation::random());
        let (id, now) = (ServiceId::new("push-manager-1").unwrap(), unix_millis());
        let counts = Counts { written: 3, pending: 2, ..Counts::default() };
        let mut account = ledger.open(&id, one, now);
        account.hold(&counts);
        ledger.open(&id, two, now).hold(&counts);
        ledger.open(&id, one, now - 120_000).hold(&counts);
        account.hold(&Counts { written: 4, pending: 0, closed: 1, ..Counts::default() });
        let (entries, complete_from) = ledger.entries(now, one.as_u64());
        assert_eq!((entries.len(), complete_from), (1, 0));
        let held = entries[0].counts.unwrap();
        assert_eq!((held.messages, held.targets, held.pending, held.written, held.closed), (1, 5, 0, 4, 1));
        assert_eq!(held.unaccounted, 0);
        assert_eq!(ledger.entries(now, 0).0.len(), 2);
        assert_eq!(ledger.entries(now - 120_000, 0).0.len(), 3);
    }

    #[test]
    fn targets_stay_those_of_the_walk_and_what_is_missing_shows() {
        let ledger = ledger();
        let (id, now) = (ServiceId::new("push-manager-1").unwrap(), unix_millis());
        let mut account = ledger.open(&id, Incarnation::random(), now);
        account.hold(&Counts { written: 1, pending: 3, ..Counts::default() });
        account.hold(&Counts { written: 1, pending: 1, closed: 1, ..Counts::default() });
        assert_eq!(ledger.entries(now, 0).0[0].counts.unwrap().unaccounted, 1);
        account.hold(&Counts { written: 1, pending: 1, closed: 2, unaccounted: 1, ..Counts::default() });
        assert_eq!(ledger.entries(now, 0).0[0].counts.unwrap().unaccounted, 1);
    }
}
