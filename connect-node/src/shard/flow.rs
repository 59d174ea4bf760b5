//! What sessions of a shard share when they write: the clock, the timer wheel and the byte budget of the process.

use std::sync::Arc;

use super::{
    config::Config,
    entry::News,
    timers::{Clock, Millis, Wheel},
};
use crate::load::Load;

/// Shared by the sessions of one shard.
pub(super) struct Flow {
    pub(super) config: Arc<Config>,
    pub(super) wheel: Wheel,
    /// As of the last [`Flow::refresh`].
    pub(super) now: Millis,
    /// Bytes the kernel took since the last report to the metrics, and in how many calls.
    pub(super) bytes_written: u64,
    pub(super) writes: u64,
    /// Messages whose outcomes changed after their walk.
    pub(super) news: News,
    clock: Clock,
    load: Arc<Load>,
    shard: u16,
    queued: usize,
    queued_elsewhere: usize,
    queued_reported: i64,
}

impl Flow {
    pub(super) fn new(shard: u16, config: Arc<Config>, load: Arc<Load>) -> Self {
        let shortest = config.ping_interval.min(config.pong_timeout).min(config.stall_timeout);
        Self {
            wheel: Wheel::new(shortest),
            news: News::new(config.failpoints.clone()),
            config,
            now: 0,
            bytes_written: 0,
            writes: 0,
            clock: Clock::start(),
            load,
            shard,
            queued: 0,
            queued_elsewhere: 0,
            queued_reported: 0,
        }
    }

    /// Reads the clock and the other shards' queues. Between two calls the budget sees this shard's queues exactly and
    /// the others' as they were, so that no delivery touches a counter that threads share.
    pub(super) fn refresh(&mut self) {
        self.now = self.clock.now();
        self.load.set_queued_bytes(self.shard, self.queued);
        self.queued_elsewhere = self.load.queued_bytes().saturating_sub(self.queued);
    }

    /// A moment on the shard's clock.
    pub(super) fn at(&self, moment: tokio::time::Instant) -> Millis {
        self.clock.at(moment)
    }

    /// Whether the process may hold that many more waiting bytes.
    pub(super) fn has_budget(&self, bytes: usize) -> bool {
        self.queued + self.queued_elsewhere + bytes <= self.config.queue_bytes_total
    }

    /// A queue went from one size to another.
    pub(super) fn requeued(&mut self, before: usize, after: usize) {
        self.queued = self.queued + after - before;
    }

    /// The change of what waits since the last call.
    pub(super) fn take_queued_change(&mut self) -> i64 {
        let change = self.queued as i64 - self.queued_reported;
        self.queued_reported += change;
        change
    }
}
