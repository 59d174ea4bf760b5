//! The receipts of recent pushes, so that outcomes that come after the answer can be asked for.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use roomcast_types::{Code, Fault, MessageId};
use rustc_hash::FxHashMap;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::record::Record;
use crate::metrics::ReceiptMetrics;

/// Between two looks for receipts past their time.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// Records that one question looks at: it holds up those who add records.
const LOOKED_AT_MAX: usize = 10_000;

/// Recent pushes, in the order in which they came: a clock that is set back makes younger ids smaller than older ones.
#[derive(Debug)]
pub struct Receipts {
    kept: Mutex<Kept>,
    ttl: Duration,
    bytes_max: usize,
    metrics: ReceiptMetrics,
    /// Nobody waits for one to change any more.
    end: CancellationToken,
}

#[derive(Debug, Default)]
struct Kept {
    records: FxHashMap<MessageId, Arc<Record>>,
    /// The oldest first.
    order: VecDeque<Arc<Record>>,
    bytes: usize,
}

impl Receipts {
    /// Keeps each for `ttl`, the oldest for less when all together take more than `bytes_max`.
    pub fn new(ttl: Duration, bytes_max: usize, metrics: ReceiptMetrics) -> Self {
        Self { kept: Mutex::default(), ttl, bytes_max, metrics, end: CancellationToken::new() }
    }

    /// Says that this process ends: whoever waits for a receipt to change takes it as it is.
    pub fn end(&self) {
        self.end.cancel();
    }

    /// Resolves when [`Self::end`] was called.
    pub async fn ended(&self) {
        self.end.cancelled().await;
    }

    /// How long one is kept at most.
    pub fn ttl(&self) -> Duration {
        self.ttl
    }

    /// Keeps one.
    pub fn add(&self, record: Arc<Record>) {
        let mut kept = self.lock();
        kept.bytes += record.bytes();
        kept.order.push_back(record.clone());
        kept.records.insert(record.message_id, record);
        self.forget(&mut kept);
    }

    /// Forgets those past their time, also while nothing is pushed.
    pub async fn sweep(&self) -> String {
        loop {
            sleep(SWEEP_EVERY).await;
            self.forget(&mut self.lock());
        }
    }

    fn forget(&self, kept: &mut Kept) {
        let now = Instant::now();
        while let Some(oldest) = kept.order.front() {
            let is_old = now.saturating_duration_since(oldest.accepted) > self.ttl;
            // The youngest is kept, whatever it takes.
            if !is_old && (kept.bytes <= self.bytes_max || kept.order.len() == 1) {
                break;
            }
            if let Some(record) = kept.order.pop_front() {
                kept.records.remove(&record.message_id);
                kept.bytes -= record.bytes();
                self.metrics.forgotten(is_old).increment(1);
            }
        }
        self.metrics.kept.set(kept.records.len() as f64);
        self.metrics.bytes.set(kept.bytes as f64);
    }

    /// The record of a push; NOT_FOUND says whether it may have been forgotten.
    pub fn find(&self, message_id: MessageId) -> Result<Arc<Record>, Fault> {
        let found = self.lock().records.get(&message_id).cloned();
        found.filter(|record| record.accepted.elapsed() <= self.ttl).ok_or_else(|| {
            let message = format!(
                "message {message_id} is not known, or its receipt is forgotten (kept for {:?}, less under load)",
                self.ttl
            );
            Fault::new(Code::NotFound, message)
        })
    }

    /// The last pushes that are wanted, newest first, among those of the recent past.
    pub fn recent(&self, last: usize, is_wanted: impl Fn(&Record) -> bool) -> Vec<Arc<Record>> {
        let kept = self.lock();
        let recent = kept.order.iter().rev().take(LOOKED_AT_MAX);
        let fresh = recent.filter(|record| record.accepted.elapsed() <= self.ttl);
        fresh.filter(|record| is_wanted(record)).take(last).cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use roomcast_types::Incarnation;

    use super::*;
    use crate::{
        lane::sample::lanes,
        metrics::Metrics,
        push::{Kept, Plan, Target},
    };

    fn record(unix_ms: u64) -> Arc<Record> {
        let id = MessageId::new(unix_ms, Incarnation::random(), 0);
        Record::new(id, Target::All, false, &Plan::new(lanes(0)), false, Kept::default())
    }

    #[test]
    fn a_clock_that_is_set_back_makes_no_younger_receipt_go_before_an_older_one() {
        let (old, new, newest) = (record(9_000), record(1_000), record(1_001));
        let room_for_two = old.bytes() * 2;
        let receipts = Receipts::new(Duration::from_secs(60), room_for_two, Metrics::new().receipts);
        for record in [&old, &new, &newest] {
            receipts.add(record.clone());
        }
        let found = |record: &Record| receipts.find(record.message_id).is_ok();
        assert_eq!((found(&old), found(&new), found(&newest)), (false, true, true));
        let recent: Vec<_> = receipts.recent(9, |_| true).iter().map(|record| record.message_id).collect();
        assert_eq!(recent, [newest.message_id, new.message_id]);
    }
}
