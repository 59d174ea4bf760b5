//! What a shard counts; every handle is taken once, and shards of a node share them.

use metrics::{
    Counter, Gauge, Histogram, counter, describe_counter, describe_gauge, describe_histogram, gauge,
    histogram,
};

use super::entry::Dropped;
use crate::tally::Counts;

/// Handles of the shard half. Make it once per node under the node's own recorder (`telemetry.register`).
#[derive(Clone)]
pub struct ShardMetrics {
    pub(crate) sessions: Gauge,
    pub(crate) accepted: Counter,
    pub(crate) refused: Refused,
    pub(super) closes: Closes,
    pub(super) frames_in: FramesIn,
    pub(super) acks: Results,
    pub(super) arrivals: Results,
    pub(super) deliveries: Deliveries,
    pub(super) dropped: Drops,
    pub(super) bytes_written: Counter,
    pub(super) writes: Counter,
    pub(super) queued_bytes: Gauge,
    pub(super) slow_closes: Counter,
    pub(super) walk_seconds: Histogram,
    pub(super) panics: Counter,
}

/// Connections and upgrades that were refused, by reason.
#[derive(Clone)]
pub(crate) struct Refused {
    pub(crate) handshakes_max: Counter,
    pub(crate) descriptors: Counter,
    pub(crate) not_open: Counter,
    pub(crate) sessions_max: Counter,
    pub(crate) bad_request: Counter,
}

/// Ended sessions, by close code; `none` is a connection that broke without one.
#[derive(Clone)]
pub(super) struct Closes {
    by_code: [(u16, Counter); 12],
    /// A code of the client outside our list.
    other: Counter,
    none: Counter,
}

const CODES: [u16; 12] = [1000, 1001, 1002, 1007, 1008, 1009, 1011, 4001, 4002, 4003, 4500, 4501];

impl Closes {
    pub(super) fn count(&self, code: Option<u16>) {
        let Some(code) = code else { return self.none.increment(1) };
        let known = self.by_code.iter().find(|(known, _)| *known == code);
        known.map_or(&self.other, |(_, counter)| counter).increment(1);
    }
}

/// Frames of clients, by type.
#[derive(Clone)]
pub(super) struct FramesIn {
    pub(super) join: Counter,
    pub(super) leave: Counter,
    pub(super) ack: Counter,
    pub(super) received: Counter,
    pub(super) ping: Counter,
    pub(super) publish: Counter,
    pub(super) bad: Counter,
    pub(super) limited: Counter,
}

/// Message ids that clients acknowledged, or reported as received.
#[derive(Clone)]
pub(super) struct Results {
    pub(super) counted: Counter,
    /// Never sent to the session, named before, or too long ago.
    pub(super) unknown: Counter,
}

/// Targets of pushes, by what became of them when they were tried.
#[derive(Clone)]
pub(super) struct Deliveries {
    written: Counter,
    pending: Counter,
    filtered: Counter,
    expired: Counter,
    dropped_slow: Counter,
    closed: Counter,
}

impl Deliveries {
    pub(super) fn count(&self, counts: &Counts) {
        self.written.increment(counts.written);
        self.pending.increment(counts.pending);
        self.filtered.increment(counts.filtered);
        self.expired.increment(counts.expired);
        self.dropped_slow.increment(counts.dropped_slow);
        self.closed.increment(counts.closed);
    }
}

/// Targets of pushes that did not get them, by why.
#[derive(Clone)]
pub(super) struct Drops {
    expired: Counter,
    superseded: Counter,
    slow: Counter,
    closed: Counter,
}

impl Drops {
    fn new() -> Self {
        let drops = |reason| counter!("pubsub_node_dropped_total", "reason" => reason);
        Self {
            expired: drops("expired"),
            superseded: drops("superseded"),
            slow: drops("dropped_slow"),
            closed: drops("closed"),
        }
    }

    /// Counts them and takes them away.
    pub(super) fn take(&self, dropped: &mut Dropped) {
        if dropped.is_empty() {
            return;
        }
        let dropped = std::mem::take(dropped);
        self.expired.increment(dropped.expired);
        self.superseded.increment(dropped.superseded);
        self.slow.increment(dropped.slow);
        self.closed.increment(dropped.closed);
    }
}

impl ShardMetrics {
    /// Takes every handle from the recorder in place.
    pub fn new() -> Self {
        describe();
        let refused = |reason| counter!("pubsub_node_refused_total", "reason" => reason);
        let closes = |code: String| counter!("pubsub_node_closes_total", "code" => code);
        let frames = |kind| counter!("pubsub_node_frames_in_total", "type" => kind);
        let deliveries = |outcome| counter!("pubsub_node_deliveries_total", "outcome" => outcome);
        Self {
            sessions: gauge!("pubsub_node_sessions"),
            accepted: counter!("pubsub_node_accepted_total"),
            refused: Refused {
                handshakes_max: refused("handshakes_max"),
                descriptors: refused("descriptors"),
                not_open: refused("not_open"),
                sessions_max: refused("sessions_max"),
                bad_request: refused("bad_request"),
            },
            closes: Closes {
                by_code: CODES.map(|code| (code, closes(code.to_string()))),
                other: closes("other".to_owned()),
                none: closes("none".to_owned()),
            },
            frames_in: FramesIn {
                join: frames("join"),
                leave: frames("leave"),
                ack: frames("ack"),
                received: frames("received"),
                ping: frames("ping"),
                publish: frames("publish"),
                bad: frames("bad"),
                limited: frames("limited"),
            },
            acks: Results {
                counted: counter!("pubsub_node_acks_total", "result" => "counted"),
                unknown: counter!("pubsub_node_acks_total", "result" => "unknown"),
            },
            arrivals: Results {
                counted: counter!("pubsub_node_arrivals_total", "result" => "counted"),
                unknown: counter!("pubsub_node_arrivals_total", "result" => "unknown"),
            },
            deliveries: Deliveries {
                written: deliveries("written"),
                pending: deliveries("pending"),
                filtered: deliveries("filtered"),
                expired: deliveries("expired"),
                dropped_slow: deliveries("dropped_slow"),
                closed: deliveries("closed"),
            },
            dropped: Drops::new(),
            bytes_written: counter!("pubsub_node_written_bytes_total"),
            writes: counter!("pubsub_node_writes_total"),
            queued_bytes: gauge!("pubsub_node_queued_bytes"),
            slow_closes: counter!("pubsub_node_slow_closes_total"),
            walk_seconds: histogram!("pubsub_node_walk_seconds"),
            panics: counter!("pubsub_node_session_panics_total"),
        }
    }
}

impl Default for ShardMetrics {
    fn default() -> Self {
        Self::new()
    }
}

fn describe() {
    describe_gauge!("pubsub_node_sessions", "WebSocket sessions on this node");
    describe_counter!("pubsub_node_accepted_total", "Connections accepted on the client port");
    describe_counter!("pubsub_node_refused_total", "Connections and upgrades refused, by reason");
    describe_counter!("pubsub_node_closes_total", "Sessions ended, by close code");
    describe_counter!("pubsub_node_frames_in_total", "Frames of clients, by type");
    describe_counter!(
        "pubsub_node_acks_total",
        "Message ids that clients acknowledged, by whether they counted"
    );
    describe_counter!(
        "pubsub_node_arrivals_total",
        "Messages of traces that clients reported as received, by whether they counted"
    );
    describe_counter!("pubsub_node_deliveries_total", "Targets of pushes, by outcome of the first try");
    describe_counter!(
        "pubsub_node_dropped_total",
        "Targets of pushes that did not get them, at once or later, by reason"
    );
    describe_counter!("pubsub_node_written_bytes_total", "Bytes of frames that the kernel took");
    describe_counter!("pubsub_node_writes_total", "Write calls that the kernel took bytes of");
    describe_gauge!("pubsub_node_queued_bytes", "Bytes that wait for slow readers");
    describe_counter!("pubsub_node_slow_closes_total", "Sessions closed because their reader was too slow");
    describe_histogram!(
        "pubsub_node_walk_seconds",
        "From the first to the last target of one walk of a shard"
    );
    describe_counter!("pubsub_node_session_panics_total", "Sessions ended by a panic");
}
