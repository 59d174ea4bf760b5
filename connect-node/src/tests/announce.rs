//! What a session waits for before `welcome` and `joined`, with the clock in the test's hand.

use std::{sync::Arc, time::Duration};

use roomcast_proto::pubsub::{LaneHello, LanePing, LaneUp, room_card, up_item::Item};
use roomcast_types::{
    Code, Incarnation, LogPolicy, Membership, OnLogFailure, RoomCard, RoomState, ServiceId,
};
use tokio::time::{Instant, advance, sleep_until};

use super::{
    bench::{Bench, room},
    controller::{refusal, willing},
};
use crate::{
    lane::{Lane, Seat},
    ports::{CloseCode, Hub, ToShard},
};

const TRUST: Duration = Duration::from_secs(1);

/// A push-manager's end of a lane, without a wire: it reads and acknowledges only when told.
struct End {
    lane: Arc<Lane>,
    _seat: Seat,
    stream: u64,
}

impl End {
    async fn link(bench: &Bench, name: &str) -> Self {
        let lane = bench.hub.lane(ServiceId::new(name).unwrap(), Incarnation::random()).unwrap();
        let seat = lane.take_over().await;
        let attached = bench.hub.attach(&lane, &seat, &LaneHello::default()).unwrap();
        let end = Self { lane, _seat: seat, stream: attached.stream };
        end.read(bench);
        end
    }

    /// Reads and acknowledges everything.
    fn read(&self, bench: &Bench) -> Vec<LaneUp> {
        let mut messages = Vec::new();
        while let Some(message) = self.lane.next_message(self.stream) {
            let last = message.first_number + message.items.len() as u64;
            if last > 0 {
                let (released, _) = self.lane.up_ack(last - 1).unwrap();
                bench.hub.state().lane_done(released);
            }
            messages.push(message);
        }
        messages
    }

    fn ping(&self) {
        self.lane.ping(LanePing { sent_us: 1 }, Instant::now());
    }
}

fn users(messages: &[LaneUp]) -> Vec<(String, u64)> {
    let items = messages.iter().flat_map(|message| &message.items);
    let interests = items.filter_map(|item| match &item.item {
        Some(Item::Interest(interest)) => Some(&interest.users),
        _ => None,
    });
    interests.flatten().map(|user| (user.user_id.clone(), user.sessions)).collect()
}

/// Lets every task run until it waits.
async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_welcome_waits_until_every_lane_knows_the_user() {
    let mut bench = Bench::new(1);
    bench.control(willing);
    let (one, two) = (End::link(&bench, "m1").await, End::link(&bench, "m2").await);
    bench.open(0, "ann");
    settle().await;
    assert_eq!(users(&one.read(&bench)), [("ann".to_owned(), 1)]);
    settle().await;
    assert!(bench.is_quiet(0), "the second lane does not know yet");
    two.read(&bench);
    assert!(matches!(bench.next(0).await, ToShard::Welcome { .. }));
}

#[tokio::test(start_paused = true)]
async fn a_frozen_push_manager_holds_a_join_until_its_trust_ran_out_and_no_longer() {
    let mut bench = Bench::new(1);
    bench.control(willing);
    let (healthy, frozen) = (End::link(&bench, "m1").await, End::link(&bench, "m2").await);
    let (session, _) = bench.open(0, "ann");
    settle().await;
    healthy.read(&bench);
    frozen.read(&bench);
    assert!(matches!(bench.next(0).await, ToShard::Welcome { .. }));
    advance(Duration::from_millis(300)).await;
    frozen.ping();
    let echo = Instant::now();
    advance(Duration::from_millis(400)).await;
    bench.shards().join(session, Some(1), room("lobby"), None);
    settle().await;
    healthy.read(&bench);
    sleep_until(echo + TRUST - Duration::from_millis(5)).await;
    assert!(bench.is_quiet(0), "it may still trust that the room is not here");
    let joined = bench.next(0).await;
    assert!(matches!(joined, ToShard::Joined { .. }), "{joined:?}");
    assert!(echo.elapsed() < TRUST + Duration::from_millis(20), "{:?}", echo.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_lane_that_was_cut_counts_as_frozen() {
    let mut bench = Bench::new(1);
    bench.control(willing);
    let cut = End::link(&bench, "m1").await;
    cut.ping();
    cut.lane.detach(cut.stream, Instant::now());
    let began = Instant::now();
    bench.open(0, "ann");
    assert!(matches!(bench.next(0).await, ToShard::Welcome { .. }));
    assert!(began.elapsed() >= TRUST - Duration::from_millis(5), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn all_who_need_a_room_meanwhile_wait_for_the_same_acknowledgement() {
    let mut bench = Bench::new(1);
    bench.control(willing);
    let sessions = [bench.welcomed(0, "ann").await.0, bench.welcomed(0, "bob").await.0];
    let lane = End::link(&bench, "m1").await;
    for session in sessions {
        bench.shards().join(session, None, room("lobby"), None);
        settle().await;
    }
    assert!(bench.is_quiet(0));
    let items: usize = lane.read(&bench).iter().map(|message| message.items.len()).sum();
    assert_eq!(items, 1, "one announcement for both");
    for _ in sessions {
        assert!(matches!(bench.next(0).await, ToShard::Joined { members: 5, .. }));
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_controller_a_join_is_refused_in_time_and_the_session_stays() {
    let mut bench = Bench::new(1);
    let began = Instant::now();
    let (session, _) = bench.welcomed(0, "ann").await;
    assert!(began.elapsed() <= TRUST + Duration::from_millis(10), "the welcome waits for no controller");
    let began = Instant::now();
    bench.shards().join(session, Some(7), room("lobby"), None);
    let ToShard::JoinRefused { request, fault, .. } = bench.next(0).await else { panic!("refused") };
    assert_eq!((request, fault.code), (Some(7), Code::Unavailable));
    assert!(fault.retry_after.is_some());
    assert!(began.elapsed() <= TRUST + Duration::from_millis(10));
    assert!(bench.hub.state().sessions.contains_key(&session));
    assert_eq!(bench.hub.totals().rooms, 0, "nothing was announced for it");
}

#[tokio::test(start_paused = true)]
async fn a_session_whose_slot_is_held_by_a_later_one_is_closed() {
    let mut bench = Bench::new(1);
    bench.control(|change| {
        let mut result = willing(change)?;
        result.result = Some(roomcast_proto::pubsub::change_result::Result::SlotHeld(false));
        Some(result)
    });
    bench.open(0, "ann");
    let command = bench.next(0).await;
    assert!(matches!(command, ToShard::Close { code: CloseCode::TakenOver, .. }), "{command:?}");
}

#[tokio::test(start_paused = true)]
async fn a_full_room_refuses_with_its_own_code() {
    let mut bench = Bench::new(1);
    bench.control(|change| Some(refusal(change, "ROOM_FULL")));
    let (session, _) = bench.welcomed(0, "ann").await;
    bench.shards().join(session, None, room("lobby"), None);
    let ToShard::JoinRefused { fault, .. } = bench.next(0).await else { panic!("refused") };
    assert_eq!(fault.code, Code::RoomFull);
}

#[tokio::test(start_paused = true)]
async fn interest_in_a_room_outlives_its_last_session_by_the_linger_and_a_users_ends_at_once() {
    let mut bench = Bench::new(1);
    bench.control(willing);
    let (session, _) = bench.welcomed(0, "ann").await;
    bench.joined(session, &room("lobby")).await;
    bench.shards().closed(session);
    assert_eq!((bench.hub.totals().rooms, bench.hub.totals().users), (1, 0));
    tokio::time::sleep(Duration::from_millis(9_900)).await;
    assert_eq!(bench.hub.totals().rooms, 1);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(bench.hub.totals().rooms, 0);
}

#[tokio::test(start_paused = true)]
async fn changes_of_a_number_alone_are_told_together_after_a_tenth_of_a_second() {
    let mut bench = Bench::new(1);
    bench.control(willing);
    let lane = End::link(&bench, "m1").await;
    for _ in 0..5 {
        bench.open(0, "ann");
        settle().await;
    }
    assert_eq!(users(&lane.read(&bench)), [("ann".to_owned(), 1)], "the announcement");
    settle().await;
    assert_eq!(users(&lane.read(&bench)), []);
    tokio::time::sleep(Duration::from_millis(101)).await;
    assert_eq!(users(&lane.read(&bench)), [("ann".to_owned(), 5)]);
}

#[tokio::test(start_paused = true)]
async fn a_card_that_changes_rides_on_interest_at_once() {
    let mut bench = Bench::new(1);
    bench.control(willing);
    let (session, _) = bench.welcomed(0, "ann").await;
    bench.joined(session, &room("lobby")).await;
    let lane = End::link(&bench, "m1").await;
    let card = |version, membership| RoomCard {
        room_id: room("lobby"),
        version,
        state: RoomState::Active,
        membership,
        max_users: 9,
        log: LogPolicy::None,
        on_log_failure: OnLogFailure::Degrade,
    };
    bench.hub.room_changed(&card(7, Membership::Durable)).await;
    bench.hub.room_changed(&card(6, Membership::Follow)).await;
    let told: Vec<_> = lane
        .read(&bench)
        .into_iter()
        .flat_map(|message| message.items)
        .filter_map(|item| match item.item {
            Some(Item::Interest(interest)) => Some(interest.rooms),
            _ => None,
        })
        .flatten()
        .map(|room| (room.card_version, room.membership(), room.sessions))
        .collect();
    assert_eq!(told, [(7, room_card::Membership::Durable, 1)], "an older card is no news");
}
