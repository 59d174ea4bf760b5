//! Every metric of a controller, described and taken once.

use std::collections::HashMap;

use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge,
    histogram,
};
use roomcast_runtime::Gate;
use roomcast_store::Counters;
use roomcast_types::Code;

/// What became of a join.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum JoinOutcome {
    /// The seat was known to presence: no transaction.
    Rejoined,
    /// A transaction gave or confirmed the seat.
    Admitted,
    /// ROOM_FULL.
    Full,
    /// ROOM_DELETED.
    Deleted,
    /// NOT_FOUND.
    NotFound,
    /// Too many waited.
    Busy,
    /// The record, or both stores, did not answer.
    Unavailable,
    /// Anything else.
    Failed,
}

impl JoinOutcome {
    const ALL: [(Self, &str); 8] = [
        (Self::Rejoined, "rejoined"),
        (Self::Admitted, "admitted"),
        (Self::Full, "room_full"),
        (Self::Deleted, "room_deleted"),
        (Self::NotFound, "not_found"),
        (Self::Busy, "rate_limited"),
        (Self::Unavailable, "unavailable"),
        (Self::Failed, "failed"),
    ];

    /// Of a refusal.
    pub(crate) fn of(code: Code) -> Self {
        match code {
            Code::RoomFull => Self::Full,
            Code::RoomDeleted => Self::Deleted,
            Code::NotFound => Self::NotFound,
            Code::RateLimited => Self::Busy,
            Code::Unavailable => Self::Unavailable,
            _ => Self::Failed,
        }
    }
}

/// Methods of ControllerService that answer once.
pub(crate) const METHODS: [&str; 13] = [
    "GetRoomStats",
    "GetRoomInfo",
    "ListRooms",
    "CreateRoom",
    "UpdateRoom",
    "DeleteRoom",
    "JoinRoom",
    "LeaveRoom",
    "GetUserNode",
    "ListSessions",
    "ListNodes",
    "SelectConnectNode",
    "KickUser",
];

/// What a reply had to do without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    Presence,
    Record,
    Registry,
}

impl Missing {
    /// The word in `degraded`.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Presence => "PRESENCE_UNAVAILABLE",
            Self::Record => "RECORD_UNAVAILABLE",
            Self::Registry => "REGISTRY_STALE",
        }
    }
}

/// One store behind its gates.
pub(crate) struct StoreMetrics {
    refused: Counter,
    refusing: Gauge,
}

impl StoreMetrics {
    fn of(store: &'static str) -> Self {
        Self {
            refused: counter!("pubsub_controller_store_refused_total", "store" => store),
            refusing: gauge!("pubsub_controller_store_refusing", "store" => store),
        }
    }

    /// What the store's own gate and the controller's before it have counted.
    pub(crate) fn show(&self, store: &Counters, gate: &Gate) {
        self.refused.absolute(store.calls_refused + gate.refused_total());
        self.refusing.set(f64::from(u8::from(store.is_refusing || gate.is_open())));
    }
}

/// Handles of one controller.
pub(crate) struct Metrics {
    pub(crate) rooms: Gauge,
    pub(crate) members: Gauge,
    pub(crate) sessions: Gauge,
    pub(crate) streams: Gauge,
    pub(crate) joins_waiting: Gauge,
    pub(crate) sql_transactions: Counter,
    pub(crate) record: StoreMetrics,
    pub(crate) presence: StoreMetrics,
    /// By [`Missing`].
    degraded: [Counter; 3],
    pub(crate) batches: Counter,
    pub(crate) batched_joins: Counter,
    pub(crate) admission_seconds: Histogram,
    pub(crate) seats_released: Counter,
    pub(crate) seats_readmitted: Counter,
    pub(crate) rooms_removed: Counter,
    pub(crate) slices_asked: Counter,
    pub(crate) slices_applied: Counter,
    pub(crate) sweeps: Counter,
    pub(crate) sessions_swept: Counter,
    pub(crate) kicks: Counter,
    pub(crate) kicks_failed: Counter,
    pub(crate) notices_failed: Counter,
    joins: HashMap<JoinOutcome, Counter>,
    changes: [(Counter, Counter); 4],
    rpc_seconds: HashMap<&'static str, Histogram>,
}

/// What a report says of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChangeKind {
    Opened,
    Closed,
    Join,
    Leave,
}

impl ChangeKind {
    const WORDS: [&str; 4] = ["opened", "closed", "join", "leave"];
}

impl Metrics {
    /// Takes every handle. Call inside `Telemetry::register`.
    pub(crate) fn register() -> Self {
        describe();
        let join = |(outcome, word)| (outcome, counter!("pubsub_controller_joins_total", "outcome" => word));
        let change = |word, outcome| counter!("pubsub_controller_report_changes_total", "change" => word, "outcome" => outcome);
        let method = |name| (name, histogram!("pubsub_controller_rpc_seconds", "method" => name));
        Self {
            rooms: gauge!("pubsub_controller_rooms"),
            members: gauge!("pubsub_controller_members"),
            sessions: gauge!("pubsub_controller_sessions"),
            streams: gauge!("pubsub_controller_report_streams"),
            joins_waiting: gauge!("pubsub_controller_joins_waiting"),
            sql_transactions: counter!("pubsub_controller_sql_transactions_total"),
            record: StoreMetrics::of("record"),
            presence: StoreMetrics::of("presence"),
            degraded: ["presence", "record", "registry"]
                .map(|missing| counter!("pubsub_controller_degraded_replies_total", "missing" => missing)),
            batches: counter!("pubsub_controller_join_batches_total"),
            batched_joins: counter!("pubsub_controller_batched_joins_total"),
            admission_seconds: histogram!("pubsub_controller_admission_seconds"),
            seats_released: counter!("pubsub_controller_seats_released_total"),
            seats_readmitted: counter!("pubsub_controller_seats_readmitted_total"),
            rooms_removed: counter!("pubsub_controller_rooms_removed_total"),
            slices_asked: counter!("pubsub_controller_slices_asked_total"),
            slices_applied: counter!("pubsub_controller_slices_applied_total"),
            sweeps: counter!("pubsub_controller_sweeps_total"),
            sessions_swept: counter!("pubsub_controller_sessions_swept_total"),
            kicks: counter!("pubsub_controller_kicks_total"),
            kicks_failed: counter!("pubsub_controller_kicks_failed_total"),
            notices_failed: counter!("pubsub_controller_room_notices_failed_total"),
            joins: JoinOutcome::ALL.into_iter().map(join).collect(),
            changes: ChangeKind::WORDS.map(|word| (change(word, "applied"), change(word, "refused"))),
            rpc_seconds: METHODS.into_iter().map(method).collect(),
        }
    }

    /// Counts one join.
    pub(crate) fn join(&self, outcome: JoinOutcome) {
        if let Some(counter) = self.joins.get(&outcome) {
            counter.increment(1);
        }
    }

    /// Counts one change of a report.
    pub(crate) fn change(&self, kind: ChangeKind, is_applied: bool) {
        let (applied, refused) = &self.changes[kind as usize];
        if is_applied { applied.increment(1) } else { refused.increment(1) }
    }

    /// Counts a reply that was given without one of its sources.
    pub(crate) fn degraded(&self, missing: Missing) {
        self.degraded[missing as usize].increment(1);
    }

    /// Notes how long a method took.
    pub(crate) fn rpc(&self, method: &str, seconds: f64) {
        if let Some(histogram) = self.rpc_seconds.get(method) {
            histogram.record(seconds);
        }
    }
}

fn describe() {
    for (name, text) in [
        ("pubsub_controller_rooms", "Rooms in the record."),
        ("pubsub_controller_members", "Seats in the record."),
        ("pubsub_controller_sessions", "Sessions on the nodes that report to this controller."),
        ("pubsub_controller_report_streams", "Nodes that report to this controller."),
        ("pubsub_controller_joins_waiting", "Joins that wait for a transaction."),
        (
            "pubsub_controller_store_refusing",
            "1 while calls to a store are refused at once because it did not answer the last ones, else 0.",
        ),
    ] {
        describe_gauge!(name, Unit::Count, text);
    }
    for (name, text) in [
        ("pubsub_controller_joins_total", "Joins of rooms by outcome."),
        ("pubsub_controller_sql_transactions_total", "Transactions begun in the record that write."),
        (
            "pubsub_controller_store_refused_total",
            "Calls to a store that were not made: it did not answer the last ones, or too many waited.",
        ),
        (
            "pubsub_controller_degraded_replies_total",
            "Replies that were given without one of their sources, by what was missing.",
        ),
        ("pubsub_controller_join_batches_total", "Admission transactions asked of the record."),
        ("pubsub_controller_batched_joins_total", "Joins that these transactions carried."),
        ("pubsub_controller_seats_released_total", "Seats released after their grace or by a leave."),
        ("pubsub_controller_seats_readmitted_total", "Seats that an audit had to give again."),
        ("pubsub_controller_rooms_removed_total", "Rooms removed because they stayed empty."),
        (
            "pubsub_controller_report_changes_total",
            "Changes of sessions that nodes reported, by kind and outcome.",
        ),
        ("pubsub_controller_slices_asked_total", "Slices that nodes were asked to send in full."),
        ("pubsub_controller_slices_applied_total", "Slices that were applied in full."),
        ("pubsub_controller_sweeps_total", "Dead nodes that were swept."),
        ("pubsub_controller_sessions_swept_total", "Sessions of dead nodes that were dropped."),
        ("pubsub_controller_kicks_total", "Sessions that nodes were told to close or to take out of a room."),
        ("pubsub_controller_kicks_failed_total", "Calls of Kick that a node did not answer."),
        (
            "pubsub_controller_room_notices_failed_total",
            "Push-managers that could not be told of a room's change.",
        ),
    ] {
        describe_counter!(name, Unit::Count, text);
    }
    describe_histogram!(
        "pubsub_controller_admission_seconds",
        Unit::Seconds,
        "Time of one admission transaction."
    );
    describe_histogram!("pubsub_controller_rpc_seconds", Unit::Seconds, "Time of a call by method.");
}
