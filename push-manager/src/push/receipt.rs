//! The receipt of one push: what every node said, or was last known to hold, as counts that add up.

use std::collections::BTreeMap;

use roomcast_proto::pubsub::{NodeCounts, Receipt, SessionReceipt, UserReceipt, session_outcome::Kind};
use roomcast_types::UserId;

use super::{
    plan::Absent,
    record::{Heard, Record, RecordLeg, State, Told},
    request::Level,
};

/// Outcomes of sessions, the best first, as they stand for their user.
const RANKED: [&str; 10] = [
    "ACKED",
    "WRITTEN",
    "PENDING",
    "SUPERSEDED",
    "EXPIRED",
    "FILTERED",
    "DROPPED_SLOW",
    "CLOSED",
    "NODE_LOST",
    "OFFLINE",
];

/// The receipt as of `state`, with respect to `level`.
pub fn compose(record: &Record, state: &State, level: Level) -> Receipt {
    let mut sum = Sum::new(record.target.users());
    let mut is_heard = true;
    for (leg, heard) in record.legs.iter().zip(&state.heard) {
        sum.leg(leg, heard);
        is_heard &= !leg.is_known || heard.is_lost() || heard.told.is_some();
    }
    sum.offline(&record.kept.stored);
    if let Absent::Count(count) = state.absent {
        // A log of the last minutes promises nothing to somebody who may be away for days.
        sum.count(if record.kept.is_durable { "QUEUED_OFFLINE" } else { "OFFLINE" }, count);
    }
    let is_heard = is_heard && state.absent != Absent::Asked;
    let settled: u64 = sum.outcomes.values().sum();
    let is_settled = is_heard && sum.pending == 0;
    Receipt {
        level: level.as_str().to_owned(),
        complete: match level {
            Level::Accepted => true,
            Level::Written => is_heard,
            Level::Settled => is_settled,
            Level::Acked => is_settled && !sum.outcomes.contains_key("WRITTEN"),
        },
        targets: sum.pending + settled,
        pending: sum.pending,
        outcomes: sum.outcomes.into_iter().map(|(word, count)| (word.to_owned(), count)).collect(),
        nodes: Some(NodeCounts {
            addressed: record.addressed,
            unreachable: state.unreachable,
            blind: record.blind,
        }),
        users: sum.users,
    }
}

/// What a push had to do without, with respect to `level`.
pub fn degraded(record: &Record, state: &State, level: Level) -> Vec<String> {
    let is_offline_unknown = match state.absent {
        Absent::None | Absent::Count(_) => false,
        // Filled in later where nothing is waited for.
        Absent::Asked => level != Level::Accepted,
        Absent::Unknown => true,
    };
    let words = [
        ("REGISTRY_STALE", record.is_registry_stale),
        ("OFFLINE_UNKNOWN", is_offline_unknown),
        ("LOG_UNAVAILABLE", record.kept.is_log_away),
        ("INBOX_FULL", record.kept.is_inbox_full),
    ];
    words.into_iter().filter(|(_, holds)| *holds).map(|(word, _)| word.to_owned()).collect()
}

struct Sum {
    pending: u64,
    outcomes: BTreeMap<&'static str, u64>,
    users: Vec<UserReceipt>,
}

impl Sum {
    fn new(users: &[UserId]) -> Self {
        let user = |user_id: &UserId| UserReceipt {
            user_id: user_id.to_string(),
            outcome: "OFFLINE".to_owned(),
            sessions: Vec::new(),
        };
        Self { pending: 0, outcomes: BTreeMap::new(), users: users.iter().map(user).collect() }
    }

    fn count(&mut self, word: &'static str, count: u64) {
        if count > 0 {
            *self.outcomes.entry(word).or_default() += count;
        }
    }

    fn leg(&mut self, leg: &RecordLeg, heard: &Heard) {
        let undecided = if heard.is_lost() { "NODE_LOST" } else { "PENDING" };
        match &heard.told {
            Some(told) => self.tried(leg, told, undecided),
            None => {
                self.undecided(undecided, leg.announced);
                for user in leg.users.iter().filter(|user| user.announced > 0) {
                    self.improve(user.position, undecided);
                }
            }
        }
    }

    fn undecided(&mut self, word: &'static str, count: u64) {
        match word {
            "PENDING" => self.pending += count,
            word => self.count(word, count),
        }
    }

    fn tried(&mut self, leg: &RecordLeg, told: &Told, undecided: &'static str) {
        self.undecided(undecided, told.pending);
        for (word, count) in [
            ("WRITTEN", told.written),
            ("ACKED", told.acked),
            ("EXPIRED", told.expired),
            ("SUPERSEDED", told.superseded),
            ("FILTERED", told.filtered),
            ("DROPPED_SLOW", told.dropped_slow),
            ("CLOSED", told.closed),
        ] {
            self.count(word, count);
        }
        for session in &told.sessions {
            let Some(user) = leg.users.get(session.user as usize) else { continue };
            let word = match session.kind {
                Kind::Written => "WRITTEN",
                Kind::Acked => "ACKED",
                Kind::Pending => undecided,
                Kind::Filtered => "FILTERED",
                Kind::Expired => "EXPIRED",
                Kind::Superseded => "SUPERSEDED",
                Kind::DroppedSlow => "DROPPED_SLOW",
                Kind::Closed => "CLOSED",
            };
            self.improve(user.position, word);
            if let Some(receipt) = self.users.get_mut(user.position) {
                receipt.sessions.push(SessionReceipt {
                    session_id: session.session_id.to_string(),
                    node_id: leg.node_id.to_string(),
                    outcome: word.to_owned(),
                });
            }
        }
    }

    /// Named users that nobody holds are targets, too.
    fn offline(&mut self, stored: &[bool]) {
        let mut counts = [0, 0];
        for (position, user) in
            self.users.iter_mut().enumerate().filter(|(_, user)| user.outcome == "OFFLINE")
        {
            let is_stored = stored.get(position) == Some(&true);
            counts[usize::from(is_stored)] += 1;
            if is_stored {
                "QUEUED_OFFLINE".clone_into(&mut user.outcome);
            }
        }
        self.count("OFFLINE", counts[0]);
        self.count("QUEUED_OFFLINE", counts[1]);
    }

    fn improve(&mut self, position: usize, word: &'static str) {
        let rank = |word: &str| RANKED.iter().position(|own| *own == word);
        if let Some(user) = self.users.get_mut(position)
            && rank(word) < rank(&user.outcome)
        {
            user.outcome = word.to_owned();
        }
    }
}

#[cfg(test)]
mod tests;
