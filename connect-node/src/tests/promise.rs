//! The promise, as a property: whoever waited for an announcement is released only when no push-manager can take the
//! absence of the route for the truth.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use proptest::prelude::*;
use roomcast_proto::pubsub::{LaneHello, LanePing, LaneUp, interest::Snapshot, up_item::Item};
use roomcast_types::{CardMark, Incarnation, RoomId, ServiceId};
use tokio::{sync::oneshot, time::Instant};

use super::bench::room;
use crate::{
    hub::{state::State, topic::TopicId},
    lane::{
        Lane,
        state::{Arrival, LaneState, Limits},
    },
};

const TRUST: Duration = Duration::from_millis(1_000);
const LINGER: Duration = Duration::from_millis(700);
const ROOMS: usize = 3;
const MANAGERS: usize = 2;

#[derive(Debug, Clone)]
enum Step {
    /// Time passes.
    Pass(u64),
    Enter(usize),
    /// The oldest session that was released, or that waits, goes.
    Leave,
    /// The push-manager sends a ping with its clock as it is now.
    Ping(usize),
    /// The node writes what it has for this push-manager onto the wire.
    Write(usize),
    /// The push-manager processes one message from the wire and acknowledges it.
    Read(usize),
    Break(usize),
    Link(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let manager = 0..MANAGERS;
    prop_oneof![
        3 => (1..400u64).prop_map(Step::Pass),
        4 => (0..ROOMS).prop_map(Step::Enter),
        3 => Just(Step::Leave),
        3 => manager.clone().prop_map(Step::Ping),
        5 => manager.clone().prop_map(Step::Write),
        5 => manager.clone().prop_map(Step::Read),
        1 => manager.clone().prop_map(Step::Break),
        2 => manager.prop_map(Step::Link),
    ]
}

/// What a push-manager knows, as the protocol tells it to.
#[derive(Default)]
struct Manager {
    rooms: Vec<String>,
    named: Option<Vec<String>>,
    up_seen: u64,
    /// When the ping of its youngest echo was sent.
    echo: Option<Instant>,
    wire: VecDeque<LaneUp>,
    stream: Option<u64>,
}

struct Waiting {
    room: RoomId,
    topic: TopicId,
    announced: Option<oneshot::Receiver<()>>,
    is_settled: bool,
}

struct World {
    start: Instant,
    now: Instant,
    state: State,
    lanes: Vec<Arc<Lane>>,
    managers: Vec<Manager>,
    sessions: VecDeque<Waiting>,
}

impl World {
    fn new(limits: Limits) -> Self {
        let now = Instant::now();
        let mut state = State::new(LINGER, false, now);
        let lane = |index: usize| {
            let id = ServiceId::new(format!("m{index}")).unwrap();
            Arc::new(Lane::new(id, Incarnation::random(), limits, now))
        };
        let lanes: Vec<_> = (0..MANAGERS).map(lane).collect();
        state.lanes = lanes.clone();
        let managers = (0..MANAGERS).map(|_| Manager::default()).collect();
        Self { start: now, now, state, lanes, managers, sessions: VecDeque::new() }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Pass(millis) => self.now += Duration::from_millis(millis),
            Step::Enter(index) => self.enter(index),
            Step::Leave => self.leave(),
            Step::Ping(index) => {
                if self.managers[index].stream.is_some() {
                    let sent_us = self.now.duration_since(self.start).as_micros() as u64;
                    self.lanes[index].ping(LanePing { sent_us }, self.now);
                }
            }
            Step::Write(index) => {
                if let Some(stream) = self.managers[index].stream
                    && let Some(message) = self.lanes[index].next_message(stream)
                {
                    self.managers[index].wire.push_back(message);
                }
            }
            Step::Read(index) => self.read(index),
            Step::Break(index) => {
                self.managers[index].wire.clear();
                if let Some(stream) = self.managers[index].stream.take() {
                    self.lanes[index].detach(stream, self.now);
                }
            }
            Step::Link(index) => self.link(index),
        }
        self.state.tick(self.now);
    }

    fn link(&mut self, index: usize) {
        self.managers[index].wire.clear();
        let hello = LaneHello { up_seen: self.managers[index].up_seen, ..LaneHello::default() };
        let snapshot = self.state.snapshot();
        let attached = self.lanes[index].attach_alone(&hello, snapshot, self.now);
        let manager = &mut self.managers[index];
        manager.stream = Some(attached.stream);
        if attached.is_fresh {
            (manager.up_seen, manager.named) = (0, None);
        }
    }

    fn enter(&mut self, index: usize) {
        let room = room(&format!("r{index}"));
        let (topic, announced) = self.state.enter_room(&room, CardMark::default(), self.now);
        self.sessions.push_back(Waiting { room, topic, announced, is_settled: false });
    }

    fn leave(&mut self) {
        let Some(session) = self.sessions.pop_front() else { return };
        if session.is_settled {
            self.state.leave_room(&session.room, 0, self.now);
        } else {
            self.state.give_up_room(&session.room, session.topic, self.now);
        }
    }

    fn read(&mut self, index: usize) {
        let manager = &mut self.managers[index];
        let Some(message) = manager.wire.pop_front() else { return };
        for (number, item) in (message.first_number..).zip(message.items) {
            if number <= manager.up_seen {
                continue;
            }
            assert_eq!(number, manager.up_seen + 1);
            manager.up_seen = number;
            let Some(Item::Interest(interest)) = item.item else { continue };
            let kind = interest.snapshot();
            if kind != Snapshot::None {
                manager.named.get_or_insert_default();
            }
            for told in interest.rooms {
                for list in [Some(&mut manager.rooms), manager.named.as_mut()].into_iter().flatten() {
                    list.retain(|room| *room != told.room_id);
                    if !told.withdrawn {
                        list.push(told.room_id.clone());
                    }
                }
            }
            if kind == Snapshot::Last {
                manager.rooms = manager.named.take().unwrap_or_default();
            }
        }
        if let Some(pong) = message.pong {
            let sent = self.start + Duration::from_micros(pong.sent_us);
            manager.echo = manager.echo.max(Some(sent));
        }
        // An acknowledgement of a stream that broke meanwhile would not arrive.
        let released = self.lanes[index].up_ack(manager.up_seen).map(|(released, _)| released);
        self.state.lane_done(released.unwrap_or_default());
    }

    /// Settles who was released, and checks that every push-manager knows the room or does not trust its absence.
    fn check(&mut self) {
        for waiting in self.sessions.iter_mut().filter(|waiting| !waiting.is_settled) {
            let is_released =
                waiting.announced.as_mut().is_none_or(|announced| announced.try_recv() == Ok(()));
            if !is_released {
                continue;
            }
            waiting.is_settled = true;
            assert!(self.state.rooms.settle(&waiting.room, waiting.topic).is_some());
        }
        for settled in self.sessions.iter().filter(|waiting| waiting.is_settled) {
            for manager in &self.managers {
                let knows = manager.rooms.iter().any(|room| room == settled.room.as_str());
                let trusts = manager.echo.is_some_and(|echo| self.now.duration_since(echo) < TRUST);
                assert!(knows || !trusts, "a push to {} would miss a session", settled.room);
            }
        }
    }
}

fn limits(items_max: usize) -> Limits {
    Limits { items_max, ..Limits::new(TRUST) }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn nobody_is_released_while_a_push_manager_trusts_that_the_room_is_not_here(
        steps in proptest::collection::vec(step(), 1..200),
        items_max in prop_oneof![Just(4usize), Just(1_000)],
    ) {
        let mut world = World::new(limits(items_max));
        for step in steps {
            world.take(step);
            world.check();
        }
    }

    #[test]
    fn everybody_is_released_within_the_trust_time_whatever_is_frozen(
        steps in proptest::collection::vec(step(), 1..100),
    ) {
        let mut world = World::new(limits(1_000));
        for step in steps {
            world.take(step);
        }
        world.check();
        world.take(Step::Pass(TRUST.as_millis() as u64));
        world.check();
        prop_assert!(world.sessions.iter().all(|session| session.is_settled));
    }
}

#[test]
fn an_echo_stands_behind_everything_put_on_the_lane_before() {
    let now = Instant::now();
    let mut lane = LaneState::new(limits(1_000), now);
    let stream = lane.attach(&LaneHello::default(), now).stream;
    lane.snapshot(vec![Default::default()]).unwrap();
    lane.ping(LanePing { sent_us: 1 }, now);
    let change = |room: &str| roomcast_proto::pubsub::Interest {
        rooms: vec![roomcast_proto::pubsub::RoomInterest { room_id: room.into(), ..Default::default() }],
        ..Default::default()
    };
    lane.tell(change("a")).unwrap();
    lane.ping(LanePing { sent_us: 2 }, now);
    lane.tell(change("b")).unwrap();
    let mut order = Vec::new();
    while let Some(message) = lane.next_message(stream) {
        order.push((message.items.len(), message.pong.map(|pong| pong.sent_us)));
    }
    // The snapshot; its echo; the first change, maybe with the second; its echo.
    assert_eq!(order[..2], [(1, None), (0, Some(1))]);
    assert_eq!(order[2..].iter().map(|(items, _)| items).sum::<usize>(), 1, "both changes share an item");
    assert_eq!(order[3], (0, Some(2)));
}

#[test]
fn what_came_down_is_acknowledged_with_an_outcome_or_when_it_is_asked_for() {
    let now = Instant::now();
    let mut lane = LaneState::new(limits(1_000), now);
    let stream = lane.attach(&LaneHello::default(), now).stream;
    lane.snapshot(vec![Default::default()]).unwrap();
    assert!(lane.next_message(stream).is_some());
    lane.processed(2);
    assert_eq!(lane.next_message(stream), None, "a push-manager is not woken for it alone");
    lane.push(Item::Outcome(Default::default())).unwrap();
    let outcome = lane.next_message(stream).unwrap();
    assert_eq!((outcome.items.len(), outcome.down_ack), (1, 2));
    lane.processed(1);
    lane.ask_ack();
    assert_eq!(lane.next_message(stream).map(|message| message.down_ack), Some(3));
    lane.ask_ack();
    assert_eq!(lane.next_message(stream), None, "nothing to acknowledge");
    lane.processed(1);
    assert_eq!(lane.next_message(stream), None, "it was not asked for this one");
}

#[test]
fn a_lane_that_is_full_begins_anew_and_loses_no_message_of_its_next_life() {
    let now = Instant::now();
    let mut lane = LaneState::new(limits(3), now);
    let stream = lane.attach(&LaneHello::default(), now).stream;
    lane.snapshot(vec![Default::default()]).unwrap();
    let outcome = || Item::Outcome(Default::default());
    assert_eq!((lane.push(outcome()), lane.push(outcome())), (Ok(2), Ok(3)));
    assert!(lane.push(outcome()).is_err(), "the bound");
    assert_eq!(lane.next_message(stream), None, "its stream has nothing more to say");
    // The older stream hands on what it had in its hands.
    lane.processed(1);
    let attached = lane.attach(&LaneHello { up_seen: 1, ..LaneHello::default() }, now);
    assert!(attached.is_fresh);
    assert_eq!((attached.down_seen, lane.arrival(1)), (0, Arrival::Next));
}

#[test]
fn a_lane_is_not_forgotten_while_its_last_echo_is_trusted() {
    let began = Instant::now();
    let mut lane = LaneState::new(limits(1), began);
    let late = began + Duration::from_secs(300);
    lane.attach(&LaneHello::default(), began);
    lane.snapshot(vec![Default::default()]).unwrap();
    lane.ping(LanePing { sent_us: 1 }, late);
    assert!(lane.push(Item::Outcome(Default::default())).is_err());
    assert!(!lane.is_abandoned(late - Duration::from_secs(60)));
    assert!(lane.is_abandoned(late));
}
