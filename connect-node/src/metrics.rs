//! The hub's metrics: every handle is taken once, under the node's own recorder.

use metrics::{
    Counter, Gauge, Histogram, counter, describe_counter, describe_gauge, describe_histogram, gauge,
    histogram,
};
use roomcast_types::Code;

use crate::hub::target::Kind;

/// How a join ended; the label of its counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JoinOutcome {
    /// The session is in the room.
    Joined,
    /// No seat was free.
    Full,
    /// The room was deleted.
    Deleted,
    /// Nobody could answer.
    Unavailable,
    /// Any other refusal.
    Refused,
}

impl JoinOutcome {
    const ALL: [(Self, &'static str); 5] = [
        (Self::Joined, "joined"),
        (Self::Full, "room_full"),
        (Self::Deleted, "room_deleted"),
        (Self::Unavailable, "unavailable"),
        (Self::Refused, "refused"),
    ];

    /// Of a refusal.
    pub fn of(code: Code) -> Self {
        match code {
            Code::RoomFull => Self::Full,
            Code::RoomDeleted => Self::Deleted,
            Code::Unavailable => Self::Unavailable,
            _ => Self::Refused,
        }
    }
}

/// Why something was not asked of a controller, or not answered by it; the label of its counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// None answers at present.
    Away,
    /// Too much waits already.
    Full,
    /// It was asked, and did not answer in time.
    Unanswered,
}

/// See the module.
#[derive(Clone)]
pub struct Metrics {
    pub users: Gauge,
    pub rooms: Gauge,
    /// Lanes in sync.
    pub lanes: Gauge,
    /// 1 while a controller takes reports.
    pub report_linked: Gauge,
    /// 1 while nobody waits for a controller, as none answers.
    pub controller_refusing: Gauge,
    /// Changes that wait for a controller or its answer.
    pub controller_waiting: Gauge,
    controller_refusals: [Counter; 3],
    pub announce_seconds: Histogram,
    joins: [Counter; 5],
    delivers: [Counter; 3],
    pub outcomes: Counter,
    pub lane_resent: Counter,
    /// Targets that are lost.
    pub unaccounted: Gauge,
    pub log_reads: Counter,
    pub log_reads_unanswered: Counter,
    /// Sessions or rooms that began without a position.
    pub positions_unknown: Counter,
    pub gaps: Counter,
    pub repeats: Counter,
    pub conflicts: Counter,
    /// Messages read from a log in the place of those that never came.
    pub filled: Counter,
    /// Messages sent to sessions that came back.
    pub catch_up: Counter,
}

impl Metrics {
    /// Describes and takes all of them; call it under the recorder they belong to.
    pub fn new() -> Self {
        describe_gauge!("pubsub_node_users", "Users with a session on this node");
        describe_gauge!("pubsub_node_rooms", "Rooms this node has interest in");
        describe_gauge!("pubsub_node_lanes_in_sync", "Push-managers that know everything this node holds");
        describe_gauge!(
            "pubsub_node_report_linked",
            "1 while a controller takes this node's reports, else 0"
        );
        describe_gauge!(
            "pubsub_node_controller_refusing",
            "1 while joins and claims are refused at once because no controller answers, else 0"
        );
        describe_gauge!(
            "pubsub_node_controller_changes_waiting",
            "Changes of sessions that wait for a controller or for its answer"
        );
        describe_counter!(
            "pubsub_node_controller_refused_total",
            "Joins and claims that were not put to a controller, or not answered in time, by reason"
        );
        describe_histogram!(
            "pubsub_node_announce_wait_seconds",
            "How long a session waited until every lane knew its user or room"
        );
        describe_counter!("pubsub_node_joins_total", "Joins of a room by outcome");
        describe_counter!("pubsub_node_delivers_total", "Messages that came down the lanes, by target");
        describe_counter!("pubsub_node_outcomes_total", "Outcomes that were put on the lanes");
        describe_counter!("pubsub_node_lane_resent_items_total", "Items sent again after a break of a lane");
        describe_gauge!(
            "pubsub_push_unaccounted",
            "Targets of pushes that have neither an outcome nor a place in a queue; other than 0 is a bug"
        );
        describe_logs();
        Self {
            users: gauge!("pubsub_node_users"),
            rooms: gauge!("pubsub_node_rooms"),
            lanes: gauge!("pubsub_node_lanes_in_sync"),
            report_linked: gauge!("pubsub_node_report_linked"),
            controller_refusing: gauge!("pubsub_node_controller_refusing"),
            controller_waiting: gauge!("pubsub_node_controller_changes_waiting"),
            controller_refusals: ["away", "full", "unanswered"]
                .map(|reason| counter!("pubsub_node_controller_refused_total", "reason" => reason)),
            announce_seconds: histogram!("pubsub_node_announce_wait_seconds"),
            joins: JoinOutcome::ALL.map(|(_, word)| counter!("pubsub_node_joins_total", "outcome" => word)),
            delivers: [Kind::Room, Kind::Users, Kind::All]
                .map(|kind| counter!("pubsub_node_delivers_total", "target" => kind.as_str())),
            outcomes: counter!("pubsub_node_outcomes_total"),
            lane_resent: counter!("pubsub_node_lane_resent_items_total"),
            unaccounted: gauge!("pubsub_push_unaccounted"),
            log_reads: counter!("pubsub_node_log_reads_total"),
            log_reads_unanswered: counter!("pubsub_node_log_reads_unanswered_total"),
            positions_unknown: counter!("pubsub_node_positions_unknown_total"),
            gaps: counter!("pubsub_node_gaps_total"),
            repeats: counter!("pubsub_node_repeats_total"),
            conflicts: counter!("pubsub_node_position_conflicts_total"),
            filled: counter!("pubsub_node_filled_total"),
            catch_up: counter!("pubsub_catchup_total"),
        }
    }

    /// The counter of what was refused for this reason.
    pub fn controller_refusals(&self, reason: Refusal) -> &Counter {
        &self.controller_refusals[reason as usize]
    }

    /// The counter of joins that ended so.
    pub fn joins(&self, outcome: JoinOutcome) -> &Counter {
        &self.joins[outcome as usize]
    }

    /// The counter of messages to such a target.
    pub fn delivers(&self, kind: Kind) -> &Counter {
        &self.delivers[kind as usize]
    }
}

fn describe_logs() {
    describe_counter!("pubsub_node_log_reads_total", "Questions to logs and inboxes");
    describe_counter!("pubsub_node_log_reads_unanswered_total", "Calls that no push-manager answered");
    describe_counter!(
        "pubsub_node_positions_unknown_total",
        "Logs whose position could not be had when somebody came in: he catches up from the first message on"
    );
    describe_counter!("pubsub_node_gaps_total", "Gaps that members of a room, or a user, were told of");
    describe_counter!("pubsub_node_repeats_total", "Messages of logs that came a second time");
    describe_counter!(
        "pubsub_node_position_conflicts_total",
        "Signs that the store of a log went back in time"
    );
    describe_counter!(
        "pubsub_node_filled_total",
        "Messages read from a log because they had not come on a lane"
    );
    describe_counter!(
        "pubsub_catchup_total",
        "Messages sent to sessions that came back, beside all receipts"
    );
}
