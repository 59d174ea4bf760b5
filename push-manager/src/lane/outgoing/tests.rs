//! Whatever happens on a lane, the receipts of its pushes add up, and what is final stays.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use metrics::Gauge;
use proptest::prelude::*;
use prost::Message as _;
use roomcast_proto::{
    lane::encoded,
    pubsub::{Deliver, DownItem, Receipt, down_item::Item},
};
use roomcast_types::{Incarnation, MessageId, NodeId, RoomId, unix_millis};

use super::*;
use crate::{
    lane::sample::lanes,
    ledger::Ledger,
    metrics::Metrics,
    push::{Kept, Leg, Level, Loss, Plan, Record, Target, compose},
};

const DEADLINE_US: u64 = 1_000_000;

/// A lane, its node, and the pushes that went over it.
struct World {
    outgoing: Outgoing,
    pushes: Vec<(Arc<Record>, Receipt)>,
    instance: Incarnation,
    now_us: u64,
    down: VecDeque<EncodedLaneDown>,
    up: VecDeque<Outcome>,
    seen: u64,
    walked: BTreeMap<Vec<u8>, Outcome>,
}

impl World {
    fn new() -> Self {
        let second = Duration::from_secs(1);
        let book = Book::new(Ledger::new(Gauge::noop(), second), NodeId::new("node-0").unwrap());
        let bounds = Bounds { messages: 8, bytes: 1 << 20 };
        let mut outgoing = Outgoing::new(bounds, DEADLINE_US, Metrics::new().queue.clone(), book);
        assert!(outgoing.restart(0, true).is_empty());
        Self {
            outgoing,
            pushes: Vec::new(),
            instance: Incarnation::random(),
            now_us: 0,
            down: VecDeque::new(),
            up: VecDeque::new(),
            seen: 0,
            walked: BTreeMap::new(),
        }
    }

    fn push(&mut self, announced: u64, was_trusted: bool, wants_ack: bool) {
        let id = MessageId::new(unix_millis().unsigned_abs(), self.instance, self.pushes.len() as u64);
        let leg = Leg {
            lane: 0,
            is_trusted: was_trusted,
            is_known: announced > 0,
            is_awaited: was_trusted,
            announced,
            users: Default::default(),
        };
        let plan = Plan { legs: [leg].into(), ..Plan::new(lanes(1)) };
        let target = Target::Room(RoomId::new("blue").unwrap());
        let record = Record::new(id, target, wants_ack, &plan, false, Kept::default());
        let deliver = Deliver { message_id: id.to_string(), ack: wants_ack, ..Deliver::default() };
        let parcel = Parcel {
            item: encoded(Item::Deliver(deliver)),
            ticket: Some((id, record.ticket(0))),
            was_trusted,
            expires_us: None,
        };
        if self.outgoing.push(parcel, 1, self.now_us).is_err() {
            record.ticket(0).lost(Loss::QueueFull);
        }
        let receipt = compose(&record, &record.state(), Level::Settled);
        self.pushes.push((record, receipt));
    }

    /// The node takes in what is under way first.
    fn arrive(&mut self) {
        let Some(message) = self.down.pop_front() else { return };
        for (number, item) in (message.first_number..).zip(message.items) {
            if number <= self.seen {
                continue;
            }
            assert_eq!(number, self.seen + 1);
            self.seen = number;
            if let Some(Item::Deliver(deliver)) = DownItem::decode(item).unwrap().item {
                let message_id = MessageId::parse(&deliver.message_id).unwrap().to_bytes().to_vec();
                let targets = u64::from(message_id[15] % 5);
                let written = targets / 2;
                let pending = targets - written;
                let outcome = Outcome {
                    message_id: message_id.clone().into(),
                    targets,
                    written,
                    pending,
                    ..Outcome::default()
                };
                self.up.push_back(outcome.clone());
                assert!(self.walked.insert(message_id, outcome).is_none(), "it is walked once");
            }
        }
    }

    /// One target of one message gets an outcome, or confirms; or the node repeats itself.
    fn change(&mut self, which: usize, how: u64) {
        let count = self.walked.len().max(1);
        let Some(outcome) = self.walked.values_mut().nth(which % count) else { return };
        if outcome.pending > 0 {
            outcome.pending -= 1;
            match how % 3 {
                0 => outcome.written += 1,
                1 => outcome.closed += 1,
                _ => outcome.expired += 1,
            }
        } else if outcome.written > 0 && how.is_multiple_of(2) {
            outcome.written -= 1;
            outcome.acked += 1;
        }
        self.up.push_back(outcome.clone());
    }

    fn lost(tickets: Vec<Ticket>) {
        for ticket in tickets {
            ticket.lost(Loss::Dead);
        }
    }

    fn cut(&mut self) {
        self.down.clear();
        self.outgoing.end();
    }

    fn step(&mut self, (what, which, how): (u8, usize, u64)) {
        match what {
            0..=2 => self.push(how % 4, which % 3 > 0, how % 2 == 0),
            3..=5 => {
                while let Some(message) = self.outgoing.compose(self.now_us) {
                    self.down.push_back(message);
                }
            }
            6..=8 => self.arrive(),
            9..=12 => self.change(which, how),
            13..=16 => {
                if let Some(outcome) = self.up.pop_front() {
                    self.outgoing.settle(outcome);
                }
            }
            17 | 18 => self.outgoing.acked(self.seen),
            19 => {
                self.cut();
                self.outgoing.resume(self.seen);
            }
            20 => {
                self.cut();
                self.seen = 0;
                self.up = self.walked.values().cloned().collect();
                Self::lost(self.outgoing.forgotten(0));
            }
            21 => {
                self.cut();
                (self.seen, self.walked) = (0, BTreeMap::new());
                self.up.clear();
                Self::lost(self.outgoing.restart(0, false));
            }
            22 => {
                self.cut();
                Self::lost(self.outgoing.die());
            }
            _ => {
                self.now_us += DEADLINE_US / 2;
                Self::lost(self.outgoing.expire(self.now_us).1);
            }
        }
    }

    /// Compares every receipt with what it was.
    fn check(&mut self) -> Result<(), TestCaseError> {
        for (record, before) in &mut self.pushes {
            let state = record.state();
            let now = compose(record, &state, Level::Settled);
            let sum: u64 = now.outcomes.values().sum();
            prop_assert_eq!(now.targets, now.pending + sum);
            let count = |receipt: &Receipt, word: &str| receipt.outcomes.get(word).copied().unwrap_or(0);
            for word in ["ACKED", "CLOSED", "EXPIRED", "NODE_LOST"] {
                prop_assert!(
                    count(&now, word) >= count(before, word),
                    "{} of {:?} then {:?}",
                    word,
                    before,
                    now
                );
            }
            let got = |receipt: &Receipt| count(receipt, "WRITTEN") + count(receipt, "ACKED");
            prop_assert!(got(&now) >= got(before), "{:?} then {:?}", before, now);
            if before.outcomes.values().sum::<u64>() > 0 {
                prop_assert_eq!(now.targets, before.targets, "targets are fixed by the walk");
            }
            prop_assert_eq!(now.complete, now.pending == 0 && is_heard(record));
            *before = now;
        }
        Ok(())
    }
}

fn is_heard(record: &Record) -> bool {
    let heard = &record.state().heard[0];
    heard.is_lost() || heard.told.is_some() || !record.legs[0].is_known
}

#[test]
fn outcomes_are_acknowledged_with_a_push_or_when_it_is_asked_for() {
    let mut world = World::new();
    assert!(world.outgoing.compose(0).is_some_and(|first| first.ping.is_some()));
    world.outgoing.processed(4);
    assert!(world.outgoing.compose(0).is_none(), "a node is not woken for it alone");
    world.push(1, true, false);
    let push = world.outgoing.compose(0).unwrap();
    assert_eq!((push.items.len(), push.up_ack), (1, 4));
    world.outgoing.processed(5);
    world.outgoing.ask_ack();
    assert_eq!(world.outgoing.compose(0).map(|message| message.up_ack), Some(5));
    world.outgoing.ask_ack();
    assert!(world.outgoing.compose(0).is_none(), "nothing to acknowledge");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn receipts_add_up_in_any_order_of_outcomes_losses_repeats_breaks_and_renumberings(
        steps in prop::collection::vec((0..25u8, any::<usize>(), any::<u64>()), 0..160),
    ) {
        let mut world = World::new();
        for step in steps {
            world.step(step);
            world.check()?;
        }
        World::lost(world.outgoing.die());
        world.check()?;
        for (record, receipt) in &world.pushes {
            prop_assert_eq!(receipt.pending, 0, "nothing is pending where nobody is left to speak");
            prop_assert!(record.is_final(&record.state()));
        }
    }
}
