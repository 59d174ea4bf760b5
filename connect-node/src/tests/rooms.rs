//! Rooms as the hub keeps them: joining again, leaving, deletion, eviction, and what crosses on the way.

use std::time::Duration;

use roomcast_proto::pubsub::{
    Content, Deliver, UserTargets, deliver::Target, kick_request::Reason, session_change::Change,
};
use roomcast_types::{CardMark, Code, LogPolicy, Membership, OnLogFailure, RoomCard, RoomState, UserId};

use super::{
    bench::{Bench, room},
    controller::willing,
};
use crate::{
    hub::eviction::Whom,
    ports::{CloseCode, DeliveryTarget, Hub, LeftReason, SessionKey, ToShard},
};

fn to_room(name: &str) -> Deliver {
    Deliver {
        target: Some(Target::RoomId(name.into())),
        content: Some(Content::default()),
        ..Deliver::default()
    }
}

fn shards_of(bench: &Bench, deliver: &Deliver) -> Vec<u16> {
    let (_, targets) = bench.hub.state().targets(deliver, bench.mailboxes.len());
    targets.into_iter().map(|(shard, _)| shard).collect()
}

fn card(name: &str, version: u64, state: RoomState) -> RoomCard {
    RoomCard {
        room_id: room(name),
        version,
        state,
        membership: Membership::Follow,
        max_users: 100,
        log: LogPolicy::None,
        on_log_failure: OnLogFailure::Degrade,
    }
}

async fn left(bench: &mut Bench, session: SessionKey) -> LeftReason {
    match bench.next(session.shard).await {
        ToShard::Left { session: who, reason, .. } if who == session => reason,
        other => panic!("left expected, not {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn joining_again_answers_again_and_counts_once() {
    let mut bench = Bench::new(2);
    bench.control(willing);
    let (session, _) = bench.welcomed(1, "ann").await;
    bench.joined(session, &room("lobby")).await;
    bench.joined(session, &room("lobby")).await;
    assert_eq!(bench.hub.state().rooms.number(&room("lobby")), 1);
    assert_eq!(shards_of(&bench, &to_room("lobby")), [1], "only the shard with a member is asked");
    bench.shards().leave(session, Some(3), room("lobby"));
    assert_eq!(left(&mut bench, session).await, LeftReason::Left);
    assert_eq!(shards_of(&bench, &to_room("lobby")), [] as [u16; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_join_right_behind_a_leave_is_answered_after_it() {
    let mut bench = Bench::new(1);
    bench.control(willing);
    let (session, _) = bench.welcomed(0, "ann").await;
    bench.joined(session, &room("lobby")).await;
    bench.shards().leave(session, Some(2), room("lobby"));
    bench.shards().join(session, Some(3), room("lobby"), None);
    assert_eq!(left(&mut bench, session).await, LeftReason::Left);
    assert!(matches!(bench.next(0).await, ToShard::Joined { request: Some(3), .. }));
    assert_eq!(shards_of(&bench, &to_room("lobby")), [0]);
}

#[tokio::test(start_paused = true)]
async fn members_of_a_deleted_room_are_told_and_its_seats_are_not_released_again() {
    let mut bench = Bench::new(2);
    let (changes, mut seen) = tokio::sync::mpsc::channel(64);
    bench.control(move |change| {
        let _ = changes.try_send(change.clone());
        willing(change)
    });
    let (session, _) = bench.welcomed(1, "ann").await;
    bench.joined(session, &room("lobby")).await;
    bench.hub.room_changed(&card("lobby", 2, RoomState::Deleted)).await;
    for shard in [0, 1] {
        let command = bench.next(shard).await;
        assert!(matches!(&command, ToShard::RoomDeleted(gone) if *gone == room("lobby")), "{command:?}");
    }
    assert_eq!(bench.hub.totals().rooms, 0);
    bench.shards().closed(session);
    tokio::time::sleep(Duration::from_millis(10)).await;
    while let Ok(change) = seen.try_recv() {
        match change.change.unwrap() {
            Change::Closed(record) => assert_eq!(record.room_ids, [] as [String; 0]),
            Change::Leave(_) => panic!("the controller took those seats itself"),
            Change::Opened(_) | Change::Join(_) => {}
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_late_end_of_an_earlier_room_spares_the_one_created_anew() {
    let mut bench = Bench::new(1);
    bench.control(willing);
    let (session, _) = bench.welcomed(0, "ann").await;
    bench.joined(session, &room("lobby")).await;
    bench.hub.room_changed(&card("lobby", 5, RoomState::Active)).await;
    bench.hub.room_changed(&card("lobby", 4, RoomState::Deleted)).await;
    assert!(bench.is_quiet(0));
    assert_eq!(shards_of(&bench, &to_room("lobby")), [0]);
}

#[tokio::test(start_paused = true)]
async fn a_room_deleted_while_a_join_waits_refuses_it() {
    let mut bench = Bench::new(1);
    bench.control(willing);
    let (first, _) = bench.welcomed(0, "ann").await;
    let (second, _) = bench.welcomed(0, "bob").await;
    bench.joined(first, &room("lobby")).await;
    let (topic, _) =
        bench.hub.state().enter_room(&room("lobby"), CardMark::default(), tokio::time::Instant::now());
    bench.hub.room_changed(&card("lobby", 2, RoomState::Deleted)).await;
    assert!(bench.hub.state().rooms.settle(&room("lobby"), topic).is_none(), "its seat went with the room");
    assert!(matches!(bench.next(0).await, ToShard::RoomDeleted(_)));
    bench.joined(second, &room("lobby")).await;
}

#[tokio::test(start_paused = true)]
async fn a_kick_from_a_room_leaves_the_session_and_reports_no_second_release() {
    let mut bench = Bench::new(1);
    let (changes, mut seen) = tokio::sync::mpsc::channel(64);
    bench.control(move |change| {
        let _ = changes.try_send(change.clone());
        willing(change)
    });
    let (session, id) = bench.welcomed(0, "ann").await;
    bench.joined(session, &room("lobby")).await;
    let whom = Whom::User(UserId::new("ann").unwrap());
    assert_eq!(bench.hub.remove_sessions(&whom, &room("lobby"), Reason::Kicked).await, 1);
    assert_eq!(left(&mut bench, session).await, LeftReason::Kicked);
    assert_eq!(bench.hub.remove_sessions(&whom, &room("lobby"), Reason::Kicked).await, 0);
    let unsure = bench.hub.state().outbox.take_unsure();
    assert_eq!(unsure, [id.slice()], "its slice will show that it is out");
    tokio::time::sleep(Duration::from_millis(10)).await;
    while let Ok(change) = seen.try_recv() {
        assert!(!matches!(change.change, Some(Change::Leave(_))));
    }
    assert_eq!(bench.hub.close_sessions(&Whom::Sessions(vec![id]), Reason::Kicked).await, 1);
    assert!(matches!(bench.next(0).await, ToShard::Close { code: CloseCode::Kicked, .. }));
}

#[tokio::test(start_paused = true)]
async fn a_session_that_ends_while_its_join_is_asked_leaves_nothing_behind() {
    let mut bench = Bench::new(1);
    bench.hub.state().outbox.link_up();
    let (session, _) = bench.welcomed(0, "ann").await;
    bench.hub.state().breaker.heard(tokio::time::Instant::now());
    bench.shards().join(session, None, room("lobby"), None);
    tokio::time::sleep(Duration::from_millis(1)).await;
    let asked = bench.hub.state().changes(tokio::time::Instant::now()).unwrap();
    let join = asked.changes.iter().find(|change| matches!(change.change, Some(Change::Join(_)))).unwrap();
    bench.shards().closed(session);
    let told = bench.hub.state().changes(tokio::time::Instant::now()).unwrap();
    let Some(Change::Closed(record)) = &told.changes[0].change else { panic!("closed") };
    assert_eq!(record.room_ids, ["lobby"], "the controller takes it out of what it may have entered");
    bench.hub.state().outbox.answered(willing(join).unwrap());
    tokio::time::sleep(Duration::from_secs(11)).await;
    assert_eq!((bench.hub.totals().rooms, bench.hub.totals().sessions), (0, 0));
    assert!(bench.is_quiet(0));
}

#[tokio::test(start_paused = true)]
async fn a_push_to_users_reaches_each_session_that_was_welcomed() {
    let mut bench = Bench::new(2);
    bench.control(willing);
    let (first, _) = bench.welcomed(0, "ann").await;
    let (second, _) = bench.welcomed(1, "ann").await;
    let (opening, _) = bench.open(0, "bob");
    let user_ids = vec!["nobody".to_owned(), "ann".to_owned(), "bob".to_owned()];
    let deliver = Deliver { target: Some(Target::Users(UserTargets { user_ids })), ..Deliver::default() };
    let mut found = Vec::new();
    for (_, target) in bench.hub.state().targets(&deliver, 2).1 {
        let DeliveryTarget::Sessions(sessions) = target else { panic!("sessions") };
        found.extend(sessions);
    }
    found.sort_by_key(|(key, _)| key.shard);
    assert_eq!(found, [(first, 1), (second, 1)], "{opening:?} had no welcome yet");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_never_names_the_room_is_an_internal_error() {
    let mut bench = Bench::new(1);
    bench.control(|change| {
        let mut result = willing(change)?;
        if matches!(change.change, Some(Change::Join(_))) {
            result.result = Some(roomcast_proto::pubsub::change_result::Result::SlotHeld(true));
        }
        Some(result)
    });
    let (session, _) = bench.welcomed(0, "ann").await;
    bench.shards().join(session, None, room("lobby"), None);
    let ToShard::JoinRefused { fault, .. } = bench.next(0).await else { panic!("refused") };
    assert_eq!(fault.code, Code::Internal);
}
