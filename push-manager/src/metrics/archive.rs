//! What is counted of logs and inboxes.

use metrics::{Counter, Histogram, counter, describe_counter, describe_histogram, histogram};
use roomcast_proto::pubsub::log_answer::State;

/// What became of an append.
#[derive(Debug, Clone, Copy)]
pub enum AppendResult {
    /// It is the newest of its log, or its key was not known.
    New,
    /// Its key was used for the same message.
    Repeat,
    /// Its key was used for another message.
    KeyTaken,
    /// The store did not answer.
    Unavailable,
}

/// Handles of the archive.
#[derive(Debug, Clone)]
pub struct ArchiveMetrics {
    appends: [Counter; 4],
    reads: [Counter; 4],
    rows: Counter,
    pub append_seconds: Histogram,
    /// Rows that were acknowledged.
    pub taken: Counter,
    /// Messages that were over their age.
    pub swept: Counter,
    /// Logs whose store went back in time.
    pub renewals: Counter,
    /// Pushes that overtook another one of their log, as that one's append took too long.
    pub disordered: Counter,
}

impl ArchiveMetrics {
    pub(super) fn new() -> Self {
        describe();
        Self {
            appends: ["new", "repeat", "key_taken", "unavailable"]
                .map(|result| counter!("pubsub_push_appends_total", "result" => result)),
            reads: ["complete", "lost", "too_much", "unavailable"]
                .map(|state| counter!("pubsub_push_log_reads_total", "state" => state)),
            rows: counter!("pubsub_push_inbox_stored_total"),
            append_seconds: histogram!("pubsub_push_append_seconds"),
            taken: counter!("pubsub_push_inbox_taken_total"),
            swept: counter!("pubsub_push_swept_total"),
            renewals: counter!("pubsub_push_log_renewals_total"),
            disordered: counter!("pubsub_push_disordered_total"),
        }
    }

    /// Counts one append.
    pub fn append(&self, result: AppendResult) {
        self.appends[result as usize].increment(1);
    }

    /// Counts one answer to a node.
    pub fn read(&self, state: State) {
        self.reads[state as usize].increment(1);
    }

    /// Counts rows of inboxes.
    pub fn stored(&self, rows: usize) {
        self.rows.increment(rows as u64);
    }
}

fn describe() {
    describe_counter!(
        "pubsub_push_appends_total",
        "Appends to logs and looks at idempotency keys, by result."
    );
    describe_histogram!("pubsub_push_append_seconds", "How long an append took, or was waited for.");
    describe_counter!(
        "pubsub_push_log_reads_total",
        "Parts of logs and inboxes that nodes asked for, by answer."
    );
    describe_counter!("pubsub_push_inbox_stored_total", "Messages put into inboxes.");
    describe_counter!("pubsub_push_inbox_taken_total", "Messages of inboxes that were acknowledged.");
    describe_counter!("pubsub_push_swept_total", "Messages of logs and inboxes deleted for their age.");
    describe_counter!(
        "pubsub_push_log_renewals_total",
        "Logs that began a new epoch, as others knew more of them than their store."
    );
    describe_counter!(
        "pubsub_push_disordered_total",
        "Messages that went out before an earlier one of their log, whose append took too long."
    );
}
