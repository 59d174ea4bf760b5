//! The order that a sequencer keeps, whatever comes late, twice or never.

use proptest::prelude::*;
use roomcast_types::Incarnation;

use super::*;

fn id(number: u64) -> MessageId {
    MessageId::new(number, Incarnation::from_u64(7).unwrap(), number)
}

fn epoch(number: u64) -> Epoch {
    Epoch::from_u64(number).unwrap()
}

fn at(offset: u64) -> Position {
    Position { epoch: epoch(1), offset }
}

fn begun(offset: u64) -> Sequencer<u64> {
    let mut sequencer = Sequencer::new(64);
    sequencer.begin(Some(at(offset)), &mut Vec::new());
    sequencer
}

fn arrive(sequencer: &mut Sequencer<u64>, position: Position, message: u64) -> Vec<Step<u64>> {
    let mut out = Vec::new();
    sequencer.arrive(position, id(message), message, &mut out);
    out
}

fn passed(offset: u64) -> Step<u64> {
    Step::Pass(Some(at(offset)), offset)
}

#[test]
fn what_comes_early_waits_for_what_is_missing() {
    let mut sequencer = begun(4);
    assert_eq!(arrive(&mut sequencer, at(5), 5), [passed(5)]);
    assert_eq!(arrive(&mut sequencer, at(8), 8), []);
    assert_eq!(arrive(&mut sequencer, at(7), 7), []);
    assert_eq!(sequencer.missing(), Some((at(5), 6)));
    assert_eq!(arrive(&mut sequencer, at(6), 6), [passed(6), passed(7), passed(8)]);
    assert_eq!((sequencer.missing(), sequencer.position()), (None, Some(at(8))));
}

#[test]
fn what_the_log_gives_fills_the_hole_and_offsets_may_be_gone_for_good() {
    let mut sequencer = begun(0);
    arrive(&mut sequencer, at(4), 4);
    let mut out = Vec::new();
    sequencer.fill(at(0), 3, [(2, id(2), 2)], &mut out);
    assert_eq!(out, [passed(2), passed(4)]);
    assert_eq!(arrive(&mut sequencer, at(2), 2), [Step::Repeat(2)]);
}

#[test]
fn what_cannot_be_had_is_a_gap() {
    let mut sequencer = begun(0);
    arrive(&mut sequencer, at(3), 3);
    let mut out = Vec::new();
    sequencer.give_up(&mut out);
    assert_eq!(out, [Step::Gap(at(2)), passed(3)]);
    // It comes after all: whoever is still here may want it, and knows it by its id.
    assert_eq!(arrive(&mut sequencer, at(2), 2), [Step::Pass(None, 2)]);
    assert_eq!(arrive(&mut sequencer, at(2), 2), [Step::Repeat(2)]);
}

#[test]
fn a_store_that_went_back_is_told_and_its_message_passes_without_a_place() {
    let mut sequencer = begun(0);
    (1..=3).for_each(|offset| _ = arrive(&mut sequencer, at(offset), offset));
    assert_eq!(arrive(&mut sequencer, at(2), 20), [Step::Conflict(epoch(1)), Step::Pass(None, 20)]);
    let renewed = Position { epoch: epoch(2), offset: 1 };
    let first = Step::Gap(Position { epoch: epoch(2), offset: 0 });
    assert_eq!(arrive(&mut sequencer, renewed, 21), [first, Step::Pass(Some(renewed), 21)]);
    assert_eq!(arrive(&mut sequencer, at(4), 4), [Step::Pass(None, 4)], "of the epoch that is over");
    assert_eq!(arrive(&mut sequencer, at(3), 3), [Step::Repeat(3)]);
    assert_eq!(sequencer.position(), Some(renewed));
}

#[test]
fn a_log_that_is_shorter_than_what_was_passed_on_went_back() {
    let mut sequencer = begun(9);
    let mut out = Vec::new();
    sequencer.compare(Some(at(9)), at(9), &mut out);
    assert_eq!(out, []);
    sequencer.compare(Some(at(9)), at(8), &mut out);
    assert_eq!(out, [Step::Conflict(epoch(1))]);
    sequencer.compare(Some(at(9)), at(11), &mut out);
    assert_eq!(sequencer.missing(), Some((at(9), 11)));
}

#[test]
fn a_log_that_was_asked_before_a_message_was_passed_on_need_not_know_it() {
    let mut sequencer = begun(9);
    let asked = sequencer.position();
    assert_eq!(arrive(&mut sequencer, at(10), 10), [Step::Pass(Some(at(10)), 10)]);
    let mut out = Vec::new();
    sequencer.compare(asked, at(9), &mut out);
    assert_eq!((out, sequencer.missing()), (vec![], None));
}

#[test]
fn what_comes_before_the_position_waits_for_it() {
    let mut sequencer = Sequencer::new(64);
    assert_eq!(arrive(&mut sequencer, at(6), 6), []);
    assert_eq!(arrive(&mut sequencer, at(5), 5), []);
    let mut out = Vec::new();
    sequencer.begin(Some(at(5)), &mut out);
    assert_eq!(out, [Step::Pass(None, 5), passed(6)]);
}

#[test]
fn without_a_position_the_first_message_brings_one_behind_a_gap() {
    let mut sequencer = Sequencer::new(64);
    sequencer.begin(None, &mut Vec::new());
    assert_eq!(arrive(&mut sequencer, at(6), 6), [Step::Gap(at(5)), passed(6)]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    /// A log of 40 messages reaches the sequencer in any order, with repeats and losses, from lanes and by reading; now
    /// and then reading fails. Members get every message once and in order, or hear of a gap in its place.
    #[test]
    fn nothing_is_lost_unseen_repeated_or_out_of_order(
        start in 0..10_u64,
        arrivals in prop::collection::vec((1..=40_u64, 0..10_u8), 1..160),
    ) {
        let mut sequencer = begun(start);
        let mut out = Vec::new();
        for (offset, chance) in arrivals {
            sequencer.arrive(at(offset), id(offset), offset, &mut out);
            match (chance, sequencer.missing()) {
                (0, Some((after, up_to))) => {
                    let read: Vec<_> = (after.offset + 1..=up_to).map(|offset| (offset, id(offset), offset)).collect();
                    sequencer.fill(after, up_to, read, &mut out);
                }
                (1, Some(_)) => sequencer.give_up(&mut out),
                (2, _) => sequencer.compare(sequencer.position(), at(40), &mut out),
                _ => {}
            }
        }
        while let Some((after, up_to)) = sequencer.missing() {
            let read: Vec<_> = (after.offset + 1..=up_to).map(|offset| (offset, id(offset), offset)).collect();
            sequencer.fill(after, up_to, read, &mut out);
        }
        prop_assert_eq!(sequencer.held(), 0);
        let (mut last, mut seen) = (start, std::collections::HashSet::new());
        for step in out {
            match step {
                Step::Pass(Some(position), message) => {
                    prop_assert_eq!(position.offset, message);
                    prop_assert_eq!(position.offset, last + 1, "a hole without a gap, or a wrong order");
                    prop_assert!(seen.insert(message));
                    last = position.offset;
                }
                Step::Gap(position) => {
                    prop_assert!(position.offset > last);
                    last = position.offset;
                }
                Step::Pass(None, message) => {
                    prop_assert!(message <= last, "out of its place only when its turn is over");
                    prop_assert!(seen.insert(message));
                }
                Step::Repeat(message) => prop_assert!(seen.contains(&message)),
                Step::Conflict(_) => prop_assert!(false, "the store never went back"),
            }
        }
        prop_assert_eq!(Some(last), sequencer.position().map(|position| position.offset));
    }
}
