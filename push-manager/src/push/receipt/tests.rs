//! Counts add up, whatever the nodes say.

use proptest::prelude::*;
use roomcast_proto::pubsub::{Outcome, SessionOutcome};
use roomcast_types::{Incarnation, MessageId, UserId};

use super::*;
use crate::{
    lane::sample::lanes,
    push::{
        Kept, Loss, Target,
        plan::{Leg, LegUser, LegUsers, Plan},
    },
};

fn plan(legs: Vec<Leg>) -> Plan {
    let lanes = lanes(legs.len() as u32);
    Plan { legs: legs.into(), has_route: true, ..Plan::new(lanes) }
}

fn leg(lane: usize, users: &[(usize, u64)]) -> Leg {
    let users: LegUsers =
        users.iter().map(|&(position, announced)| LegUser { position, announced }).collect();
    let announced = users.iter().map(|user| user.announced).sum();
    Leg { lane, is_trusted: true, is_known: announced > 0, is_awaited: true, announced, users }
}

fn session(user: u32, kind: Kind) -> SessionOutcome {
    SessionOutcome { user, session_id: vec![user as u8; 16].into(), kind: kind.into() }
}

fn tried(outcome: Outcome) -> Heard {
    Heard { told: Some(outcome.into()), ..Heard::default() }
}

fn lost() -> Heard {
    Heard { lost: Some(Loss::Dead), ..Heard::default() }
}

fn receipt(plan: &Plan, heard: Vec<Heard>, users: Vec<UserId>) -> Receipt {
    let id = MessageId::new(1, Incarnation::random(), 1);
    let record = Record::new(id, Target::Users(users), false, plan, false, Kept::default());
    let state = State { heard: heard.into(), ..record.state() };
    compose(&record, &state, Level::Written)
}

#[test]
fn what_a_dead_node_left_pending_is_lost_and_the_rest_stands() {
    let plan = plan(vec![leg(0, &[(0, 3)])]);
    let outcome = Outcome { written: 2, pending: 1, ..Outcome::default() };
    let heard = Heard { told: Some(outcome.into()), ..lost() };
    let receipt = receipt(&plan, vec![heard], users(&["ann"]));
    assert_eq!((receipt.pending, receipt.complete), (0, true));
    assert_eq!((receipt.outcomes["WRITTEN"], receipt.outcomes["NODE_LOST"]), (2, 1));
}

fn users(names: &[&str]) -> Vec<UserId> {
    names.iter().map(|name| UserId::new(name).unwrap()).collect()
}

#[test]
fn sessions_of_a_user_on_several_nodes_are_one_entry_with_the_best_outcome() {
    let plan = plan(vec![leg(0, &[(0, 1), (2, 1)]), leg(1, &[(2, 1)]), leg(2, &[(2, 1), (3, 1)])]);
    let one = Outcome {
        written: 1,
        dropped_slow: 1,
        sessions: vec![session(0, Kind::Written), session(1, Kind::DroppedSlow)],
        ..Outcome::default()
    };
    let two = Outcome { filtered: 1, sessions: vec![session(0, Kind::Filtered)], ..Outcome::default() };
    let receipt = receipt(&plan, vec![tried(one), tried(two), lost()], users(&["ann", "bob", "eve", "joe"]));
    let outcomes: Vec<_> = receipt.users.iter().map(|user| user.outcome.as_str()).collect();
    assert_eq!(outcomes, ["WRITTEN", "OFFLINE", "FILTERED", "NODE_LOST"]);
    let eve: Vec<_> = receipt.users[2].sessions.iter().map(|session| session.node_id.as_str()).collect();
    assert_eq!(eve, ["node-0", "node-1"]);
    let counts: Vec<_> = receipt.outcomes.iter().map(|(word, count)| (word.as_str(), *count)).collect();
    let expected = [("DROPPED_SLOW", 1), ("FILTERED", 1), ("NODE_LOST", 2), ("OFFLINE", 1), ("WRITTEN", 1)];
    assert_eq!(counts, expected);
    assert!(receipt.complete);
    assert_eq!(receipt.targets, 6);
}

#[test]
fn a_node_that_did_not_answer_leaves_what_it_announced_pending() {
    let mut plan = plan(vec![leg(0, &[(0, 2)]), leg(1, &[(1, 0)])]);
    plan.unreachable = 1;
    let receipt = receipt(&plan, vec![Heard::default(); 2], users(&["ann", "bob"]));
    assert!(!receipt.complete);
    assert_eq!((receipt.targets, receipt.pending), (3, 2));
    assert_eq!(receipt.users[0].outcome, "PENDING");
    assert_eq!(receipt.users[1].outcome, "OFFLINE", "the blind node never said that it holds bob");
    assert_eq!(receipt.nodes.unwrap().unreachable, 1);
}

fn heard() -> impl Strategy<Value = Heard> {
    let count = || 0..5_000u64;
    let outcome = (count(), count(), count(), count(), count(), count(), count(), 0..40u32, 0..9i32);
    let tried =
        outcome.prop_map(|(written, acked, pending, filtered, expired, dropped_slow, closed, user, kind)| {
            Outcome {
                written,
                acked,
                pending,
                filtered,
                expired,
                dropped_slow,
                closed,
                sessions: vec![SessionOutcome { user, session_id: vec![1; 16].into(), kind }],
                ..Outcome::default()
            }
        });
    (prop::option::of(tried), any::<bool>()).prop_map(|(outcome, is_lost)| Heard {
        told: outcome.map(Told::from),
        lost: is_lost.then_some(Loss::Deadline),
        at: None,
    })
}

proptest! {
    #[test]
    fn targets_are_what_is_pending_and_what_is_settled(
        nodes in prop::collection::vec((heard(), prop::collection::vec((0..30usize, 0..50u64), 0..8)), 0..12),
        named in 0..30usize,
    ) {
        let (mut all, mut legs) = (Vec::new(), Vec::new());
        for (index, (heard, users)) in nodes.into_iter().enumerate() {
            all.push(heard);
            legs.push(leg(index, &users));
        }
        let names: Vec<_> = (0..named).map(|index| UserId::new(format!("u{index}")).unwrap()).collect();
        let receipt = receipt(&plan(legs), all, names);
        prop_assert_eq!(receipt.targets, receipt.pending + receipt.outcomes.values().sum::<u64>());
        prop_assert!(receipt.outcomes.values().all(|count| *count > 0));
        prop_assert_eq!(receipt.users.len(), named);
    }
}
