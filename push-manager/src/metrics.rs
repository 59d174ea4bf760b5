//! Everything this service counts; handles are taken once.

mod archive;

use metrics::{
    Counter, Gauge, Histogram, counter, describe_counter, describe_gauge, describe_histogram, gauge,
    histogram,
};
use roomcast_types::Code;

pub use archive::{AppendResult, ArchiveMetrics};

use crate::lane::Phase;

/// Kinds of target, as the label of pushes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One room.
    Room,
    /// One user, or several.
    Users,
    /// Everybody.
    All,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Room, Self::Users, Self::All];

    /// The label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Room => "room",
            Self::Users => "users",
            Self::All => "all",
        }
    }
}

/// The words of receipts: final outcomes, and what has none yet.
pub const OUTCOMES: [&str; 11] = [
    "WRITTEN",
    "ACKED",
    "EXPIRED",
    "SUPERSEDED",
    "FILTERED",
    "DROPPED_SLOW",
    "CLOSED",
    "NODE_LOST",
    "OFFLINE",
    "QUEUED_OFFLINE",
    "PENDING",
];

/// What a controller said of a room.
#[derive(Debug, Clone, Copy)]
pub enum Lookup {
    /// It exists.
    Found,
    /// It never existed, or was deleted.
    Gone,
    /// Nobody answered.
    Unanswered,
}

/// The queues of all lanes.
#[derive(Debug, Clone)]
pub struct QueueMetrics {
    pub messages: Gauge,
    pub bytes: Gauge,
    pub resends: Counter,
}

/// The receipts that are kept.
#[derive(Debug, Clone)]
pub struct ReceiptMetrics {
    pub kept: Gauge,
    pub bytes: Gauge,
    forgotten: [Counter; 2],
}

impl ReceiptMetrics {
    fn new() -> Self {
        let forgotten = |why: &'static str| counter!("pubsub_push_receipts_forgotten_total", "reason" => why);
        Self {
            kept: gauge!("pubsub_push_receipts_kept"),
            bytes: gauge!("pubsub_push_receipts_kept_bytes"),
            forgotten: [forgotten("memory"), forgotten("age")],
        }
    }

    /// Forgotten for their age, or for the memory that all together take.
    pub fn forgotten(&self, is_old: bool) -> &Counter {
        &self.forgotten[usize::from(is_old)]
    }
}

/// Metrics of one kind of push.
#[derive(Debug)]
struct PushMetrics {
    accepted: Counter,
    refused: Vec<(Code, Counter)>,
    seconds: Histogram,
}

/// All handles.
#[derive(Debug)]
pub struct Metrics {
    pushes: [PushMetrics; 3],
    targets: Vec<Counter>,
    lanes: Vec<Gauge>,
    lookups: [Counter; 3],
    pub queue: QueueMetrics,
    pub receipts: ReceiptMetrics,
    pub archive: ArchiveMetrics,
    pub controllers_passed_over: Gauge,
    pub give_ups: Counter,
    pub outcomes_late: Counter,
    pub refusals: Counter,
    pub blind_sends: Counter,
    pub trust_lost: Counter,
    pub rooms: Gauge,
    pub users: Gauge,
    /// Targets that are lost.
    pub unaccounted: Gauge,
}

impl Metrics {
    /// Takes every handle. Call it under the service's own recorder.
    pub fn new() -> Self {
        describe();
        Self {
            pushes: Kind::ALL.map(PushMetrics::new),
            targets: OUTCOMES
                .map(|outcome| counter!("pubsub_push_targets_total", "outcome" => outcome))
                .into(),
            lanes: Phase::ALL.map(|phase| gauge!("pubsub_push_lanes", "state" => phase.as_str())).into(),
            lookups: ["found", "gone", "unanswered"]
                .map(|outcome| counter!("pubsub_push_card_lookups_total", "outcome" => outcome)),
            queue: QueueMetrics {
                messages: gauge!("pubsub_push_lane_queue_messages"),
                bytes: gauge!("pubsub_push_lane_queue_bytes"),
                resends: counter!("pubsub_push_lane_resends_total"),
            },
            receipts: ReceiptMetrics::new(),
            archive: ArchiveMetrics::new(),
            controllers_passed_over: gauge!("pubsub_push_controllers_passed_over"),
            outcomes_late: counter!("pubsub_outcomes_late_total"),
            give_ups: counter!("pubsub_push_lane_give_ups_total"),
            refusals: counter!("pubsub_push_lane_queue_full_total"),
            blind_sends: counter!("pubsub_push_blind_sends_total"),
            trust_lost: counter!("pubsub_push_trust_lost_total"),
            rooms: gauge!("pubsub_push_routes", "kind" => "room"),
            users: gauge!("pubsub_push_routes", "kind" => "user"),
            unaccounted: gauge!("pubsub_push_unaccounted"),
        }
    }

    /// Counts one push and how long its answer took.
    pub fn push(&self, kind: Kind, refused: Option<Code>, seconds: f64) {
        let push = &self.pushes[kind as usize];
        match refused {
            None => push.accepted.increment(1),
            Some(code) => {
                if let Some((_, counter)) = push.refused.iter().find(|(own, _)| *own == code) {
                    counter.increment(1);
                }
            }
        }
        push.seconds.record(seconds);
    }

    /// Counts targets by a word of [`OUTCOMES`].
    pub fn targets(&self, outcome: &str, count: u64) {
        if let Some(index) = OUTCOMES.iter().position(|own| *own == outcome) {
            self.targets[index].increment(count);
        }
    }

    /// Lanes in one phase.
    pub fn lanes(&self, phase: Phase) -> &Gauge {
        &self.lanes[phase as usize]
    }

    /// Counts one question about a room.
    pub fn lookup(&self, lookup: Lookup) {
        self.lookups[lookup as usize].increment(1);
    }
}

impl PushMetrics {
    fn new(kind: Kind) -> Self {
        let target = kind.as_str();
        let requests =
            |code: &'static str| counter!("pubsub_push_requests_total", "target" => target, "code" => code);
        Self {
            accepted: requests("OK"),
            refused: Code::ALL.map(|code| (code, requests(code.as_str()))).into(),
            seconds: histogram!("pubsub_push_request_seconds", "target" => target),
        }
    }
}

fn describe() {
    describe_counter!("pubsub_push_requests_total", "Pushes answered, by kind of target and code.");
    describe_histogram!(
        "pubsub_push_request_seconds",
        "From taking a push to answering it, by kind of target."
    );
    describe_counter!(
        "pubsub_push_targets_total",
        "Targets in receipts, by outcome when the push was answered."
    );
    describe_gauge!("pubsub_push_lanes", "Lanes to connect-nodes, by what they are doing.");
    describe_gauge!("pubsub_push_lane_queue_messages", "Messages that nodes have not acknowledged.");
    describe_gauge!("pubsub_push_lane_queue_bytes", "Bytes of those messages.");
    describe_counter!("pubsub_push_lane_resends_total", "Messages sent again after a lane broke.");
    describe_counter!(
        "pubsub_outcomes_late_total",
        "Outcomes of nodes that came after their push was given up there, or forgotten."
    );
    describe_gauge!("pubsub_push_receipts_kept", "Receipts of recent pushes that can be asked for.");
    describe_gauge!("pubsub_push_receipts_kept_bytes", "Bytes that those take, roughly.");
    describe_counter!(
        "pubsub_push_receipts_forgotten_total",
        "Receipts that can be asked for no longer, for their age (push_manager.receipt_ttl) or for memory (receipt_bytes)."
    );
    describe_counter!("pubsub_push_lane_give_ups_total", "Messages given up at push_manager.lane_deadline.");
    describe_counter!(
        "pubsub_push_lane_queue_full_total",
        "Messages that found the queue of their lane full."
    );
    describe_counter!("pubsub_push_blind_sends_total", "Messages to nodes that may hold no target.");
    describe_counter!("pubsub_push_trust_lost_total", "Times a lane's youngest echo became too old.");
    describe_gauge!(
        "pubsub_push_controllers_passed_over",
        "Controllers that are not asked at present, as they did not answer the last questions."
    );
    describe_gauge!(
        "pubsub_push_unaccounted",
        "Targets whose counts do not add up or that had no outcome in time; other than 0 is a bug."
    );
    describe_gauge!("pubsub_push_routes", "Rooms and users that some node holds.");
    describe_counter!("pubsub_push_card_lookups_total", "Rooms asked of a controller, by what it said.");
}
