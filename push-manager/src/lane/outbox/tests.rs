//! Delay, cuts, reordered acknowledgements and deadlines against a node that processes each number once.

use std::collections::{HashSet, VecDeque};

use proptest::prelude::*;

use super::*;

const DEADLINE: u64 = 10;
const BATCH: BatchBounds = BatchBounds { items: 3, bytes: 100 };

fn outbox() -> Outbox<u32> {
    Outbox::new(Bounds { messages: 8, bytes: 1000 }, DEADLINE)
}

/// What goes next, numbered; `None` for an item without content.
fn taken(outbox: &mut Outbox<u32>) -> Vec<(u64, Option<u32>)> {
    let Some(batch) = outbox.take(BATCH) else { return Vec::new() };
    let contents =
        std::iter::repeat_n(None, batch.empty).chain(batch.items.into_iter().map(|item| Some(*item)));
    (batch.first_number..).zip(contents).collect()
}

#[test]
fn a_full_queue_gives_the_item_back_and_takes_others_later() {
    let mut outbox = Outbox::new(Bounds { messages: 2, bytes: 100 }, DEADLINE);
    assert_eq!(outbox.push(1, 60, 0), Ok(()));
    assert_eq!(outbox.push(2, 60, 0), Err(2), "bytes");
    assert_eq!(outbox.push(2, 40, 0), Ok(()));
    assert_eq!(outbox.push(3, 0, 0), Err(3), "messages");
    taken(&mut outbox);
    assert_eq!(outbox.ack(1), [(1, 1)]);
    assert_eq!(outbox.push(3, 60, 0), Ok(()));
    assert_eq!((outbox.len(), outbox.bytes()), (2, 100));
}

#[test]
fn what_waits_together_travels_together_within_bounds() {
    let mut outbox = outbox();
    for item in 0..4 {
        outbox.push(item, 10, 0).unwrap();
    }
    outbox.push(4, 500, 0).unwrap();
    assert_eq!(taken(&mut outbox), [(1, Some(0)), (2, Some(1)), (3, Some(2))]);
    assert_eq!(taken(&mut outbox), [(4, Some(3))]);
    assert_eq!(taken(&mut outbox), [(5, Some(4))], "a large one travels alone");
    assert!(taken(&mut outbox).is_empty());
}

#[test]
fn numbers_of_what_was_given_up_are_filled_with_empty_items() {
    let mut outbox = outbox();
    outbox.push(1, 1, 0).unwrap();
    outbox.push(2, 1, 0).unwrap();
    taken(&mut outbox);
    outbox.push(3, 1, 5).unwrap();
    assert_eq!(outbox.expire(DEADLINE), [1, 2]);
    outbox.resume(0);
    assert_eq!(taken(&mut outbox), [(1, None), (2, None)]);
    assert_eq!(taken(&mut outbox), [(3, Some(3))]);
}

#[test]
fn what_was_never_sent_takes_no_number_along() {
    let mut outbox = outbox();
    outbox.push(1, 1, 0).unwrap();
    assert_eq!(outbox.expire(DEADLINE), [1]);
    outbox.push(2, 1, DEADLINE).unwrap();
    assert_eq!(taken(&mut outbox), [(1, Some(2))]);
}

#[test]
fn another_life_gets_what_is_kept_under_numbers_of_its_own() {
    let mut outbox = outbox();
    for item in 1..=4 {
        outbox.push(item, 1, 0).unwrap();
    }
    taken(&mut outbox);
    outbox.ack(1);
    let left = outbox.restart(0, |item, was_sent| *item == 3 || !was_sent);
    assert_eq!(left, [2]);
    assert_eq!(taken(&mut outbox), [(1, Some(3)), (2, Some(4))]);
    assert_eq!(outbox.bytes(), 2);
}

#[test]
fn a_number_that_was_never_sent_acknowledges_nothing() {
    let mut outbox = outbox();
    outbox.push(1, 1, 0).unwrap();
    assert!(outbox.ack(7).is_empty());
    assert_eq!(taken(&mut outbox), [(1, Some(1))]);
}

#[derive(Debug, Clone)]
enum Step {
    Push,
    Send,
    /// The node reads so many items of the wire.
    Read(usize),
    /// The node says how far it is; it arrives by a later `Hear`, in any order.
    Say,
    Hear(usize),
    /// The wire is cut; the node keeps what it read.
    Cut,
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => Just(Step::Push),
        4 => Just(Step::Send),
        4 => (1..6usize).prop_map(Step::Read),
        2 => Just(Step::Say),
        2 => any::<usize>().prop_map(Step::Hear),
        1 => Just(Step::Cut),
        1 => (1..DEADLINE).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 1..200)
}

#[derive(Default)]
struct Node {
    wire: VecDeque<(u64, Option<u32>)>,
    seen: u64,
    processed: Vec<u32>,
    said: Vec<u64>,
}

impl Node {
    fn read(&mut self, count: usize) {
        for _ in 0..count {
            let Some((number, item)) = self.wire.pop_front() else { return };
            assert!(number <= self.seen + 1, "{number} leaves a gap after {}", self.seen);
            if number > self.seen {
                self.seen = number;
                self.processed.extend(item);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]
    #[test]
    fn nothing_is_lost_repeated_reordered_or_sent_after_it_was_given_up(steps in steps()) {
        let (mut outbox, mut node, mut now) = (outbox(), Node::default(), 0);
        let (mut pushed, mut given_up, mut released) = (0, HashSet::new(), Vec::new());
        for step in steps {
            match step {
                Step::Push => pushed += u32::from(outbox.push(pushed, 1, now).is_ok()),
                Step::Send => {
                    let sent = taken(&mut outbox);
                    prop_assert!(sent.iter().flat_map(|(_, item)| item).all(|item| !given_up.contains(item)));
                    node.wire.extend(sent);
                }
                Step::Read(count) => node.read(count),
                Step::Say => node.said.push(node.seen),
                Step::Hear(which) if !node.said.is_empty() => {
                    let said = node.said.swap_remove(which % node.said.len());
                    released.extend(outbox.ack(said).into_iter().map(|(_, item)| item));
                }
                Step::Hear(_) => {}
                Step::Cut => {
                    node.wire.clear();
                    released.extend(outbox.resume(node.seen).into_iter().map(|(_, item)| item));
                }
                Step::Wait(time) => {
                    now += time;
                    given_up.extend(outbox.expire(now));
                }
            }
        }
        // A quiet end: everything that still waits arrives.
        node.wire.clear();
        released.extend(outbox.resume(node.seen).into_iter().map(|(_, item)| item));
        while outbox.has_unsent() {
            node.wire.extend(taken(&mut outbox));
        }
        node.read(usize::MAX);
        released.extend(outbox.ack(node.seen).into_iter().map(|(_, item)| item));

        prop_assert_eq!(outbox.len(), 0);
        prop_assert_eq!(outbox.bytes(), 0);
        prop_assert!(node.processed.is_sorted_by(|a, b| a < b), "in order and once: {:?}", node.processed);
        let processed: HashSet<_> = node.processed.iter().copied().collect();
        for item in 0..pushed {
            prop_assert!(processed.contains(&item) || given_up.contains(&item), "{item} was lost");
        }
        prop_assert!(released.iter().all(|item| processed.contains(item)), "only what was processed is released");
    }
}
