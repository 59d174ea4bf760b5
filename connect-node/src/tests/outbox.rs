//! What waits for a controller, and what becomes of it.

use std::time::Duration;

use roomcast_proto::pubsub::{RoomChange, SessionChange, SessionRecord, session_change::Change};
use roomcast_types::{Code, SessionId};
use tokio::{sync::oneshot, time::Instant};

use super::controller::{refusal, willing};
use crate::{
    ports::SessionKey,
    report::outbox::{Answer, Asked, Outbox},
};

fn key(slot: u32) -> SessionKey {
    SessionKey { shard: 0, slot, generation: 1 }
}

fn place(session: SessionId, user: u32) -> RoomChange {
    RoomChange {
        session_id: session.as_bytes().to_vec(),
        user_id: format!("user-{user}"),
        user_name: String::new(),
        room_id: "room".into(),
    }
}

/// Everything that may be sent now.
fn sent(outbox: &mut Outbox, now: Instant) -> Vec<SessionChange> {
    let mut all = Vec::new();
    loop {
        let some = outbox.take_changes(now, 256, |_, _| true);
        if some.is_empty() {
            return all;
        }
        all.extend(some);
    }
}

fn open(outbox: &mut Outbox, ids: &[SessionId], user: u32) -> Asked {
    outbox.opened(key(user), ids[user as usize], SessionRecord::default()).expect("there is room")
}

fn join_all(outbox: &mut Outbox, count: u32, send_by: Instant) -> Vec<oneshot::Receiver<Answer>> {
    let join = |user| {
        let id = SessionId::random();
        outbox.join(key(user), id, place(id, user), send_by).expect("there is room").answer
    };
    (0..count).map(join).collect()
}

#[test]
fn ten_thousand_joins_go_out_as_fast_as_they_are_answered() {
    let (mut outbox, now) = (Outbox::default(), Instant::now());
    outbox.link_up();
    let mut waiting = join_all(&mut outbox, 10_000, now);
    let (mut rounds, mut most) = (0, 0);
    loop {
        let under_way = sent(&mut outbox, now);
        if under_way.is_empty() {
            break;
        }
        (rounds, most) = (rounds + 1, under_way.len().max(most));
        assert!(sent(&mut outbox, now).is_empty(), "nothing more before an answer");
        for change in &under_way {
            outbox.answered(willing(change).unwrap());
        }
    }
    assert!(rounds > 1 && most < 10_000);
    assert!(waiting.iter_mut().all(|answer| matches!(answer.try_recv(), Ok(Answer::Joined { .. }))));
    assert_eq!(outbox.waiting(), 0);
}

#[test]
fn of_a_crowd_those_who_were_welcomed_go_before_those_who_only_come() {
    let (mut outbox, now) = (Outbox::default(), Instant::now());
    outbox.link_up();
    let ids: Vec<SessionId> = (0..300).map(|_| SessionId::random()).collect();
    let _waiting: Vec<_> = (0..299).map(|user| open(&mut outbox, &ids, user)).collect();
    let first = outbox.take_changes(now, 1, |_, _| true);
    let join = outbox.join(key(0), ids[0], place(ids[0], 0), now).expect("there is room");
    outbox.closed(key(0), ids[0], SessionRecord::default());
    let next = outbox.take_changes(now, 1, |_, _| true);
    assert_eq!((first.len(), next[0].request), (1, join.request), "before 298 others");
    outbox.link_down();
    outbox.link_up();
    let again = outbox.take_changes(now, 2, |_, _| true);
    assert_eq!(again[0].request, join.request, "also on the next stream");
    assert!(matches!(again[1].change, Some(Change::Opened(_))));
}

#[test]
fn a_session_that_was_welcomed_before_its_turn_is_told_once_and_before_it_joins() {
    let (mut outbox, now) = (Outbox::default(), Instant::now());
    outbox.link_up();
    let ids: Vec<SessionId> = (0..3).map(|_| SessionId::random()).collect();
    let opened: Vec<_> = (0..3).map(|user| open(&mut outbox, &ids, user).request).collect();
    opened.iter().for_each(|request| outbox.give_up(*request));
    let join = outbox.join(key(2), ids[2], place(ids[2], 2), now).expect("there is room");
    let order: Vec<u64> = sent(&mut outbox, now).iter().map(|change| change.request).collect();
    assert_eq!(order, [opened[2], join.request, opened[0], opened[1]]);
    assert!(outbox.take_unsure().is_empty(), "its slice need not be told");
    outbox.link_down();
    assert!(!outbox.take_unsure().is_empty(), "what was on its way may be lost");
}

#[test]
fn a_join_that_would_be_answered_too_late_is_refused_without_being_sent() {
    let (mut outbox, now) = (Outbox::default(), Instant::now());
    outbox.link_up();
    let mut waiting = join_all(&mut outbox, 2_000, now);
    let first = sent(&mut outbox, now);
    for change in &first {
        outbox.answered(willing(change).unwrap());
    }
    assert!(sent(&mut outbox, now + Duration::from_millis(1)).is_empty());
    let refused: Vec<_> = waiting
        .iter_mut()
        .filter_map(|answer| match answer.try_recv() {
            Ok(Answer::Refused(fault)) => Some(fault),
            _ => None,
        })
        .collect();
    assert_eq!(refused.len() + first.len(), 2_000);
    assert!(refused.iter().all(|fault| fault.code == Code::Unavailable));
    let mut later: Vec<_> = refused.iter().map(|fault| fault.retry_after.unwrap()).collect();
    later.sort_unstable();
    later.dedup();
    assert!(later.len() > 100, "they do not come back together");
    assert_eq!(outbox.waiting(), 0);
}

#[test]
fn nothing_counts_as_under_way_on_a_stream_that_ended() {
    let (mut outbox, now) = (Outbox::default(), Instant::now());
    outbox.link_up();
    let waiting = join_all(&mut outbox, 3_000, now);
    let first = sent(&mut outbox, now);
    outbox.link_down();
    outbox.link_up();
    let again = sent(&mut outbox, now);
    let requests =
        |changes: &[SessionChange]| changes.iter().map(|change| change.request).collect::<Vec<_>>();
    assert_eq!(requests(&first), requests(&again), "what was not answered is asked again, in order");
    drop(waiting);
    outbox.link_down();
    assert_eq!(outbox.waiting(), 0, "nobody waits any more");
}

#[test]
fn a_leave_that_failed_is_not_sent_again_behind_a_join() {
    let (mut outbox, now) = (Outbox::default(), Instant::now());
    outbox.link_up();
    let id = SessionId::random();
    for is_answered_first in [true, false] {
        let _left = outbox.leave(key(1), id, place(id, 1)).unwrap();
        let leave = sent(&mut outbox, now).remove(0);
        if is_answered_first {
            outbox.answered(refusal(&leave, "UNAVAILABLE"));
        }
        let _joined = outbox.join(key(1), id, place(id, 1), now).unwrap();
        let join = sent(&mut outbox, now).remove(0);
        assert!(matches!(join.change, Some(Change::Join(_))));
        if !is_answered_first {
            outbox.answered(refusal(&leave, "UNAVAILABLE"));
        }
        outbox.answered(willing(&join).unwrap());
        outbox.take_unsure();
        assert!(sent(&mut outbox, now).is_empty());
        assert_eq!(outbox.waiting(), 0);
    }
}
