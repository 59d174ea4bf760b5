//! The rules of positions one by one.

use super::*;

fn room() -> Log {
    Log::Room("r".into())
}

fn at(epoch: &str, offset: u64) -> Option<Position> {
    Some(Position { epoch: epoch.into(), offset })
}

/// In room `r` at that position.
fn standing(position: Option<Position>) -> Positions {
    let mut positions = Positions::default();
    let start = Start { session: 1, given: position, ..Start::default() };
    assert_eq!(positions.begin(room(), start), (Continuity::First, None));
    positions
}

fn accept(positions: &mut Positions, position: Option<Position>, message_id: &str) -> Verdict {
    accept_on(1, positions, position, message_id)
}

fn accept_on(
    session: u64,
    positions: &mut Positions,
    position: Option<Position>,
    message_id: &str,
) -> Verdict {
    positions.accept(Some(&room()), session, position.as_ref(), message_id)
}

/// On session 2, after session 1 has ended.
fn come_back(
    positions: &mut Positions,
    since: Option<Position>,
    given: Option<Position>,
    is_recovered: bool,
) -> (Continuity, Option<Hole>) {
    positions.begin(room(), Start { session: 2, retiring: None, since, given, is_recovered })
}

/// On session 2, while session 1 is open.
fn move_over(
    positions: &mut Positions,
    since: Option<Position>,
    given: Option<Position>,
    is_recovered: bool,
) -> (Continuity, Option<Hole>) {
    positions.begin(room(), Start { session: 2, retiring: Some(1), since, given, is_recovered })
}

#[test]
fn what_is_not_past_the_position_is_a_repeat() {
    let mut positions = standing(at("e", 10));
    assert_eq!(accept(&mut positions, at("e", 10), "a"), Verdict::Behind);
    assert_eq!(accept(&mut positions, at("e", 12), "b"), Verdict::New);
    assert_eq!(accept(&mut positions, at("e", 12), "b"), Verdict::Repeat);
    assert_eq!(accept(&mut positions, at("e", 11), "c"), Verdict::Behind);
    assert_eq!(accept(&mut positions, at("other", 1), "d"), Verdict::New);
    assert_eq!(positions.get(&room()), at("e", 12).as_ref());
}

#[test]
fn a_message_that_came_without_its_position_is_not_shown_again_with_it() {
    let mut positions = standing(at("e", 10));
    assert_eq!(accept(&mut positions, None, "a"), Verdict::New);
    assert_eq!(accept(&mut positions, at("e", 11), "a"), Verdict::Repeat);
    assert_eq!(positions.get(&room()), at("e", 11).as_ref());
}

#[test]
fn recovered_messages_still_count_as_new() {
    let mut positions = standing(at("e", 10));
    let recovered = come_back(&mut positions, at("e", 10), at("e", 15), true);
    assert_eq!(recovered, (Continuity::Recovered, None));
    assert_eq!(accept_on(2, &mut positions, at("e", 11), "a"), Verdict::New);
    assert_eq!(accept_on(1, &mut positions, at("e", 12), "b"), Verdict::New, "it was in the air");
}

#[test]
fn every_way_of_not_recovering_is_a_hole() {
    let hole = |to: Option<Position>| Some(Hole { from: at("e", 10), to });
    for (given, is_recovered) in [
        (at("e", 60), false),
        (at("f", 3), false),
        (at("f", 3), true),
        (at("e", 10), false),
        (at("e", 4), false),
        (None, false),
    ] {
        let mut positions = standing(at("e", 10));
        let lost = come_back(&mut positions, at("e", 10), given.clone(), is_recovered);
        assert_eq!(lost, (Continuity::Lost, hole(given.clone())));
        assert_eq!(positions.get(&room()), given.or(at("e", 10)).as_ref(), "a later answer may recover it");
    }
    for given in [None, at("e", 60)] {
        let mut positions = standing(None);
        let unknown = come_back(&mut positions, None, given.clone(), false);
        assert_eq!(unknown, (Continuity::Unknown, Some(Hole { from: None, to: given })));
    }
}

#[test]
fn what_the_old_session_of_a_move_brought_is_not_missing() {
    let mut positions = standing(at("e", 10));
    for offset in 11..=20 {
        assert_eq!(accept(&mut positions, at("e", offset), &offset.to_string()), Verdict::New);
    }
    let unbroken = move_over(&mut positions, at("e", 10), at("e", 15), false);
    assert_eq!(unbroken, (Continuity::Unbroken, None));
    assert_eq!(positions.gap(&room(), 2, at("e", 18)), None);
    assert_eq!(accept_on(2, &mut positions, at("e", 19), "19"), Verdict::Repeat);
    assert_eq!(accept(&mut positions, at("e", 21), "21"), Verdict::New);
    let hole = Hole { from: at("e", 21), to: at("e", 30) };
    assert_eq!(positions.gap(&room(), 2, at("e", 30)), Some(hole));
    assert_eq!(accept(&mut positions, at("e", 31), "31"), Verdict::Foreign, "the new session goes on alone");
}

#[test]
fn a_hole_of_the_old_session_of_a_move_is_filled_or_told_by_the_new_one() {
    let mut positions = standing(at("e", 10));
    assert_eq!(move_over(&mut positions, at("e", 10), at("e", 10), true), (Continuity::Recovered, None));
    assert_eq!(positions.gap(&room(), 1, at("e", 12)), None);
    assert_eq!(accept(&mut positions, at("e", 13), "13"), Verdict::Foreign);
    assert_eq!(accept_on(2, &mut positions, at("e", 11), "11"), Verdict::New);
}

#[test]
fn joining_a_room_again_on_the_same_session_breaks_nothing() {
    let mut positions = standing(at("e", 10));
    let again = |positions: &mut Positions, given: Option<Position>| {
        positions.begin(room(), Start { session: 1, given, ..Start::default() })
    };
    for given in [at("e", 12), None] {
        assert_eq!(again(&mut positions, given), (Continuity::Unbroken, None));
    }
    assert_eq!(accept(&mut positions, at("e", 11), "a"), Verdict::New);
    let hole = Some(Hole { from: at("e", 11), to: at("f", 1) });
    assert_eq!(again(&mut positions, at("f", 1)), (Continuity::Lost, hole));
}

#[test]
fn a_session_that_lags_does_not_bring_back_an_epoch_that_was_left() {
    let mut positions = standing(at("e", 10));
    assert!(positions.gap(&room(), 1, at("f", 0)).is_some());
    assert_eq!(accept(&mut positions, at("f", 1), "new"), Verdict::New);
    assert_eq!(move_over(&mut positions, at("e", 10), at("e", 10), true), (Continuity::Recovered, None));
    assert_eq!(accept_on(2, &mut positions, at("e", 11), "late"), Verdict::Behind);
    assert_eq!(positions.gap(&room(), 2, at("f", 0)), None);
    assert_eq!(accept_on(2, &mut positions, at("f", 1), "new"), Verdict::Repeat);
    assert_eq!(accept_on(2, &mut positions, at("f", 2), "next"), Verdict::New);
}

#[test]
fn a_room_that_is_not_joined_on_a_session_gets_nothing_from_it() {
    let mut positions = standing(at("e", 10));
    assert_eq!(accept_on(2, &mut positions, at("e", 11), "a"), Verdict::Foreign);
    assert_eq!(positions.gap(&room(), 2, at("e", 11)), None);
    positions.forget(&room());
    assert_eq!(accept(&mut positions, at("e", 11), "a"), Verdict::Foreign);
    assert_eq!(positions.gap(&room(), 1, at("e", 11)), None);
}

#[test]
fn the_last_thousand_messages_are_known_by_their_id() {
    let mut positions = Positions::default();
    let mut accept = |id: &str| positions.accept(None, 1, None, id);
    assert_eq!((accept("a"), accept("a")), (Verdict::New, Verdict::Repeat));
    for n in 0..REMEMBERED_MAX {
        assert_eq!(accept(&n.to_string()), Verdict::New);
    }
    assert_eq!(accept("a"), Verdict::New, "the oldest is forgotten");
}
