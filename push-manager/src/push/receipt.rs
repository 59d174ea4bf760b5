//! The receipt of one push: what every node said, or was last known to hold, as counts that add up.

use std::collections::BTreeMap;

use roomcast_proto::pubsub::{
    NodeCounts, Outcome, Receipt, SessionReceipt, UserReceipt, session_outcome::Kind,
};
use roomcast_types::{SessionId, UserId};

use super::{
    plan::{Leg, Plan},
    tally::Verdict,
};

/// What came of the plan.
#[derive(Debug)]
pub struct Heard {
    /// By leg; `None` when the node has not answered.
    pub verdicts: Vec<Option<Verdict>>,
    /// Nodes that turned out to be out of reach when the message was put on their lanes.
    pub unreachable: u32,
}

/// Outcomes of sessions, the best first, as they stand for their user.
const RANKED: [&str; 7] =
    ["WRITTEN", "PENDING", "FILTERED", "DROPPED_SLOW", "CLOSED", "NODE_LOST", "OFFLINE"];

/// Composes it. `users` are those a push to users named.
pub fn compose(plan: &Plan, heard: &Heard, users: &[UserId]) -> Receipt {
    let mut sum = Sum::new(users);
    let mut is_complete = true;
    for (index, leg) in plan.legs.iter().enumerate() {
        let node_id = plan.lanes[leg.lane].node_id().as_str();
        match heard.verdicts.get(index).and_then(Option::as_ref) {
            Some(Verdict::Tried(outcome)) => sum.tried(leg, outcome, node_id),
            Some(Verdict::Lost) => sum.lost(leg),
            None => {
                sum.unheard(leg);
                is_complete &= !leg.is_known;
            }
        }
    }
    sum.offline();
    let settled: u64 = sum.outcomes.values().sum();
    Receipt {
        level: "WRITTEN".to_owned(),
        complete: is_complete,
        targets: sum.pending + settled,
        pending: sum.pending,
        outcomes: sum.outcomes.into_iter().map(|(word, count)| (word.to_owned(), count)).collect(),
        nodes: Some(NodeCounts {
            addressed: plan.addressed,
            unreachable: plan.unreachable + heard.unreachable,
            blind: plan.blind,
        }),
        users: sum.users,
    }
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

    fn tried(&mut self, leg: &Leg, outcome: &Outcome, node_id: &str) {
        self.pending += outcome.pending;
        self.count("WRITTEN", outcome.written);
        self.count("FILTERED", outcome.filtered);
        self.count("DROPPED_SLOW", outcome.dropped_slow);
        self.count("CLOSED", outcome.closed);
        for session in &outcome.sessions {
            let Some(user) = leg.users.get(session.user as usize) else { continue };
            let word = match session.kind() {
                Kind::Written => "WRITTEN",
                Kind::Pending => "PENDING",
                Kind::Filtered => "FILTERED",
                Kind::DroppedSlow => "DROPPED_SLOW",
                Kind::Closed => "CLOSED",
            };
            let session_id = SessionId::from_bytes(&session.session_id);
            self.improve(user.position, word);
            if let Some(receipt) = self.users.get_mut(user.position) {
                receipt.sessions.push(SessionReceipt {
                    session_id: session_id.map(|id| id.to_string()).unwrap_or_default(),
                    node_id: node_id.to_owned(),
                    outcome: word.to_owned(),
                });
            }
        }
    }

    fn lost(&mut self, leg: &Leg) {
        self.count("NODE_LOST", leg.announced);
        for user in leg.users.iter().filter(|user| user.announced > 0) {
            self.improve(user.position, "NODE_LOST");
        }
    }

    fn unheard(&mut self, leg: &Leg) {
        self.pending += leg.announced;
        for user in leg.users.iter().filter(|user| user.announced > 0) {
            self.improve(user.position, "PENDING");
        }
    }

    /// Named users that nobody holds are targets, too.
    fn offline(&mut self) {
        let count = self.users.iter().filter(|user| user.outcome == "OFFLINE").count();
        self.count("OFFLINE", count as u64);
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
