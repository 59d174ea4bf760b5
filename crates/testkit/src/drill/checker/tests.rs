//! Histories with one defect each, and those that look as if they had one.

use super::{super::history::digest, *};

const EPOCH: u64 = 7;
const OTHER: u64 = 8;

fn at(offset: u64) -> At {
    At { epoch: EPOCH, offset }
}

fn accepted(number: u32, position: Option<At>) -> Push {
    let sent_ms = 1_000 + number * 100;
    let id = digest(&number.to_string());
    let receipt = Accepted { id, position, targets: 1, written: 1, is_complete: true, ..Accepted::default() };
    Push {
        number,
        room: 0,
        sent_ms,
        answered_ms: sent_ms + 10,
        attempts: 1,
        answer: Answer::Accepted(receipt),
    }
}

fn receipt(push: &mut Push) -> &mut Accepted {
    let Answer::Accepted(accepted) = &mut push.answer else { panic!("it was accepted") };
    accepted
}

/// Ten pushes at offsets 1 to 10, and one session that saw all of them.
fn good() -> Run {
    let pushes: Vec<_> = (0..10).map(|number| accepted(number, Some(at(u64::from(number) + 1)))).collect();
    let mut events = vec![joined(500, Some(at(0)), None)];
    events.extend(pushes.iter().map(message));
    Run { sessions: vec![History { user: "ann".into(), events, ..History::default() }], pushes }
}

/// The same without a log.
fn unlogged() -> Run {
    let mut run = good();
    for push in &mut run.pushes {
        receipt(push).position = None;
    }
    for event in events(&mut run) {
        match &mut event.saw {
            Saw::Message { position, .. } | Saw::Joined { position, .. } => *position = None,
            _ => {}
        }
    }
    run
}

fn joined(ms: u32, position: Option<At>, recovered: Option<bool>) -> Event {
    Event { ms, saw: Saw::Joined { position, recovered } }
}

fn message(push: &Push) -> Event {
    let Answer::Accepted(accepted) = &push.answer else { panic!("it was accepted") };
    let saw = Saw::Message { number: push.number, id: accepted.id, position: accepted.position };
    Event { ms: push.answered_ms, saw }
}

fn events(run: &mut Run) -> &mut Vec<Event> {
    &mut run.sessions[0].events
}

fn kinds(run: &Run) -> Vec<Kind> {
    kinds_under(run, Rules { logs_may_be_lost: true, ..Rules::default() })
}

fn kinds_under(run: &Run, rules: Rules) -> Vec<Kind> {
    check(run, rules).defects.into_iter().map(|defect| defect.kind).collect()
}

#[test]
fn a_run_in_which_everything_arrived_has_no_defect() {
    assert_eq!(kinds(&good()), []);
    assert_eq!(kinds(&unlogged()), []);
}

#[test]
fn a_logged_message_that_did_not_arrive_is_lost_however_the_receipt_reads() {
    let mut run = good();
    events(&mut run).remove(5);
    assert_eq!(kinds(&run), [Kind::LostUnflagged]);
    let receipt = receipt(&mut run.pushes[4]);
    (receipt.written, receipt.lost, receipt.is_doubtful) = (0, 1, true);
    assert_eq!(kinds(&run), [Kind::LostUnflagged]);
    // Nor does a loss of the connection excuse it, when the session said that it has missed nothing.
    let back = [Event { ms: 1_380, saw: Saw::Lost }, joined(1_600, Some(at(5)), Some(true))];
    events(&mut run).splice(5..5, back);
    assert_eq!(kinds(&run), [Kind::LostUnflagged]);
}

#[test]
fn a_flag_excuses_what_it_names_and_nothing_else() {
    for recovered in [None, Some(false)] {
        let mut run = good();
        // Offsets 4 and 5 are missing, up to 5 is flagged.
        let flag = match recovered {
            None => Event { ms: 1_450, saw: Saw::Gap { position: Some(at(5)) } },
            Some(_) => joined(1_450, Some(at(5)), recovered),
        };
        events(&mut run).splice(4..6, [flag]);
        assert_eq!(kinds(&run), []);
        // Nobody took the log away.
        assert_eq!(kinds_under(&run, Rules::default()), [Kind::LostFlagged; 2]);
        assert_eq!(check(&run, Rules::default()).missing, 2);
        // The next one is missing as well.
        events(&mut run).remove(5);
        assert_eq!(kinds(&run), [Kind::LostUnflagged]);
    }
}

#[test]
fn a_flag_does_not_excuse_what_was_skipped_before_it() {
    let mut run = good();
    // Offset 3 is missing, 4 came, and then everything up to 6 is flagged.
    events(&mut run).remove(3);
    let flag = Event { ms: 1_550, saw: Saw::Gap { position: Some(at(6)) } };
    events(&mut run).splice(4..6, [flag]);
    assert_eq!(kinds(&run), [Kind::LostUnflagged]);
}

#[test]
fn a_flag_without_a_place_covers_what_was_sent_until_then() {
    let mut run = good();
    let flag = Event { ms: 1_450, saw: Saw::Gap { position: None } };
    events(&mut run).splice(4..6, [flag]);
    assert_eq!(kinds(&run), []);
    events(&mut run).pop();
    assert_eq!(kinds(&run), [Kind::LostUnflagged]);
}

#[test]
fn a_new_epoch_excuses_the_rest_of_the_old_one_only_when_it_is_flagged() {
    let mut run = good();
    for number in 5..10u32 {
        let place = At { epoch: OTHER, offset: u64::from(number) - 4 };
        receipt(&mut run.pushes[number as usize]).position = Some(place);
        let Saw::Message { position, .. } = &mut events(&mut run)[number as usize + 1].saw else { panic!() };
        *position = Some(place);
    }
    assert_eq!(kinds(&run), []);
    // The last of the old epoch does not arrive.
    events(&mut run).remove(5);
    assert_eq!(kinds(&run), [Kind::LostUnflagged]);
    let flag = Event { ms: 1_495, saw: Saw::Gap { position: Some(At { epoch: OTHER, offset: 0 }) } };
    events(&mut run).insert(5, flag);
    assert_eq!(kinds(&run), []);
    // One of the new epoch, with it.
    events(&mut run).remove(7);
    assert_eq!(kinds(&run), [Kind::LostUnflagged]);
}

#[test]
fn a_message_without_a_place_is_owed_to_those_who_were_there() {
    let mut run = unlogged();
    events(&mut run).remove(5);
    assert_eq!(kinds(&run), [Kind::LostUnlogged]);
    let mut told = run.clone();
    let receipt = receipt(&mut told.pushes[4]);
    (receipt.written, receipt.lost) = (0, 1);
    assert_eq!(kinds(&told), []);
    let back = [Event { ms: 1_390, saw: Saw::Lost }, joined(1_480, None, None)];
    events(&mut run).splice(5..5, back);
    assert_eq!(kinds(&run), []);
}

#[test]
fn what_the_application_gets_twice_is_a_repeat_by_id_and_by_number() {
    let mut run = good();
    let again = events(&mut run)[3];
    events(&mut run).push(again);
    assert_eq!(kinds(&run), [Kind::Repeated, Kind::OutOfOrder]);
    let mut run = unlogged();
    let mut again = events(&mut run)[10];
    let Saw::Message { id, .. } = &mut again.saw else { panic!() };
    *id += 1;
    events(&mut run).push(again);
    assert_eq!(kinds(&run), [Kind::Repeated]);
    // The publisher had to try twice, and who would have known the key is gone.
    run.pushes[9].attempts = 2;
    assert_eq!(kinds(&run), [Kind::Repeated]);
    assert_eq!(kinds_under(&run, Rules { keys_may_be_lost: true, ..Rules::default() }), []);
}

#[test]
fn logged_messages_come_in_the_order_of_their_log() {
    let mut run = good();
    events(&mut run).swap(4, 5);
    assert_eq!(kinds(&run), [Kind::OutOfOrder]);
    // Nor may a resume bring one that others overtook.
    let mut run = good();
    let late = events(&mut run).remove(4);
    events(&mut run).splice(6..6, [joined(1_700, Some(at(3)), Some(true)), late]);
    assert_eq!(kinds(&run), [Kind::OutOfOrder]);
}

#[test]
fn messages_without_a_place_come_in_the_order_of_their_push_manager_only() {
    let mut run = unlogged();
    events(&mut run).swap(4, 5);
    assert_eq!(kinds(&run), [Kind::OutOfOrder]);
    receipt(&mut run.pushes[3]).manager = 1;
    assert_eq!(kinds(&run), []);
}

#[test]
fn nobody_gets_what_is_not_for_him() {
    let mut run = good();
    run.pushes[9].room = 1;
    assert_eq!(kinds(&run), [Kind::NotEntitled]);
    let mut run = good();
    events(&mut run).push(Event { ms: 2_500, saw: Saw::Foreign });
    assert_eq!(kinds(&run), [Kind::NotEntitled]);
    let mut run = good();
    events(&mut run)[0] = joined(1_200, Some(at(2)), None);
    assert_eq!(kinds(&run), [Kind::NotEntitled, Kind::NotEntitled]);
}

#[test]
fn what_came_before_the_join_is_not_owed() {
    let mut run = good();
    events(&mut run).drain(1..3);
    events(&mut run)[0] = joined(1_200, Some(at(2)), None);
    assert_eq!(kinds(&run), []);
    events(&mut run).remove(1);
    assert_eq!(kinds(&run), [Kind::LostUnflagged]);
}

#[test]
fn pushes_are_accepted_once_and_with_receipts_that_add_up() {
    let mut run = good();
    receipt(&mut run.pushes[2]).targets = 2;
    assert_eq!(kinds(&run), [Kind::Receipt]);
    let mut run = good();
    receipt(&mut run.pushes[2]).position = Some(at(4));
    assert_eq!(kinds(&run), []);
    assert_eq!(kinds_under(&run, Rules::default()), [Kind::PlaceTwice]);
    let mut run = good();
    run.pushes[2].answer = Answer::Refused("UNAVAILABLE".into());
    assert_eq!(kinds(&run), [Kind::NotAccepted, Kind::RefusedButDelivered]);
    events(&mut run).remove(3);
    assert_eq!(kinds(&run), [Kind::NotAccepted]);
    assert_eq!(kinds_under(&run, Rules { pushes_may_fail: true, ..Rules::default() }), []);
}

#[test]
fn a_push_whose_answer_was_lost_may_have_arrived_or_not() {
    let rules = Rules { pushes_may_fail: true, ..Rules::default() };
    let mut run = good();
    run.pushes[2].answer = Answer::Unknown("no answer".into());
    assert_eq!(kinds_under(&run, rules), []);
    events(&mut run).remove(3);
    assert_eq!(kinds_under(&run, rules), []);
}

#[test]
fn whoever_is_away_at_the_end_is_named() {
    let mut run = good();
    events(&mut run).push(Event { ms: 2_500, saw: Saw::Lost });
    assert_eq!(kinds(&run), [Kind::NotBack]);
    events(&mut run).push(joined(2_600, Some(at(10)), Some(true)));
    assert_eq!(kinds(&run), []);
    events(&mut run).push(Event { ms: 2_700, saw: Saw::Ended { code: 4500 } });
    assert_eq!(kinds(&run), [Kind::NotBack]);
    events(&mut run).clear();
    assert_eq!(kinds(&run), [Kind::NotBack]);
}
