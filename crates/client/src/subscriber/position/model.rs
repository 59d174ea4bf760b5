//! Whatever happens to logs, nodes and sessions: the application gets no message twice, none out of order, and no hole
//! that it is not told of, where it is.
//!
//! The model has one room. Its log renews its epoch, forgets old entries and goes away; each session is on a node of its
//! own, which lags behind the log by any amount, misses messages, and answers joins late; what a session brings is read by
//! the client at any time, or never.

mod node;

use std::{collections::HashSet, time::Duration};

use proptest::prelude::*;
use tokio::time::Instant;

use self::node::{Frame, Item, Session};
use super::{Log, Position, Positions, Verdict};
use crate::subscriber::{
    event::Event,
    frame::ClientFrame,
    jitter::Jitter,
    rooms::{RoomSet, Step},
};

const ROOM: &str = "r";
const TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy)]
enum Op {
    /// Into the log.
    Publish,
    /// Into the log, and not for this user.
    PublishToOthers,
    /// Past the log: its class, or the log is away.
    PublishPlain,
    /// Into the log after it went out without a position.
    PublishTwice,
    /// The log has another epoch.
    Renew,
    /// From now on the log does not answer joins, or does again.
    LogAway(bool),
    /// A node gets the next items; it misses them, and knows it, when the flag says so.
    Arrive(Which, u8, bool),
    /// A node answers a join.
    Answer(Which),
    /// The client reads what a session brought.
    Read(Which, u8),
    /// The client joins again on the session that it has.
    JoinAgain,
    /// A join waited for its answer for too long.
    Late,
    /// The sessions end.
    Cut,
    /// A session beside the current one.
    Move,
    /// The session that a move left ends.
    Release,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Which {
    Current,
    Retiring,
}

impl Op {
    /// An op from a random number; ten thousand cases take a strategy for each part of it too long.
    fn of(number: u32) -> Self {
        let [kind, which, count, miss] = number.to_le_bytes();
        let which = if which % 5 < 3 { Which::Current } else { Which::Retiring };
        match kind % 46 {
            0..8 => Self::Publish,
            8 => Self::PublishToOthers,
            9 => Self::PublishPlain,
            10 => Self::PublishTwice,
            11 => Self::Renew,
            12 => Self::LogAway(count % 2 == 0),
            13..22 => Self::Arrive(which, 1 + count % 4, miss % 10 == 1),
            22..28 => Self::Answer(which),
            28..38 => Self::Read(which, 1 + count % 7),
            38 => Self::JoinAgain,
            39 => Self::Late,
            40..42 => Self::Cut,
            42..44 => Self::Move,
            _ => Self::Release,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn nothing_is_shown_twice_or_out_of_order_and_every_hole_is_told_where_it_is(
        ops in prop::collection::vec(any::<u32>().prop_map(Op::of), 1..80)
    ) {
        let mut world = World::new();
        for op in ops {
            world.run(op);
        }
        world.settle();
        world.check()?;
    }
}

#[derive(Debug, PartialEq)]
enum Told {
    Push(Option<Position>, usize),
    Gap,
}

struct World {
    items: Vec<Item>,
    epoch: u32,
    offset: u64,
    ids: usize,
    is_away: bool,
    sessions: u64,
    current: Option<Session>,
    retiring: Option<Session>,
    rooms: RoomSet,
    positions: Positions,
    last_id: u64,
    now: Instant,
    /// The items that this client is entitled to.
    since: Option<usize>,
    told: Vec<Told>,
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            items: Vec::new(),
            epoch: 1,
            offset: 0,
            ids: 0,
            is_away: false,
            sessions: 0,
            current: None,
            retiring: None,
            rooms: RoomSet::new([ROOM.to_owned()], TIMEOUT),
            positions: Positions::default(),
            last_id: 0,
            now: Instant::now(),
            since: None,
            told: Vec::new(),
        };
        world.open();
        world
    }

    fn run(&mut self, op: Op) {
        match op {
            Op::Publish => self.publish(true, false),
            Op::PublishToOthers => self.publish(false, false),
            Op::PublishPlain => self.publish_plain(),
            Op::PublishTwice => {
                self.publish_plain();
                self.ids -= 1;
                self.publish(true, true);
            }
            // Epochs have no order that a client could know: between two sessions it needs positions to start from.
            Op::Renew if self.retiring.is_some() && !self.has_positions() => {}
            Op::Renew => {
                (self.epoch, self.offset) = (self.epoch + 1, 0);
                self.items.push(Item::Renewed { epoch: self.epoch.to_string() });
            }
            Op::LogAway(is_away) => self.is_away = is_away,
            Op::Arrive(which, count, is_missed) => self.arrive(which, count.into(), is_missed),
            Op::Answer(which) => self.answer(which),
            Op::Read(which, count) => self.read(which, count.into()),
            Op::JoinAgain => {
                let (reply, _) = tokio::sync::oneshot::channel();
                self.step(|rooms, step| rooms.join(step, ROOM.into(), reply));
            }
            Op::Late => {
                self.now += TIMEOUT;
                self.step(|rooms, step| rooms.on_time(step));
            }
            Op::Cut => {
                (self.current, self.retiring) = (None, None);
                self.step(|rooms, step| rooms.session_ended(step));
                self.open();
            }
            Op::Move => {
                self.retiring = self.current.take();
                self.step(|rooms, step| rooms.session_ended(step));
                self.open();
            }
            Op::Release => self.retiring = None,
        }
    }

    /// As the driver does.
    fn step<T>(&mut self, work: impl FnOnce(&mut RoomSet, &mut Step) -> T) -> T {
        let mut step = Step {
            now: self.now,
            session: self.current.as_ref().map(|session| session.number),
            retiring: self.retiring.as_ref().map(|session| session.number),
            retry: Jitter::default(),
            positions: &mut self.positions,
            last_id: &mut self.last_id,
            frames: Vec::new(),
            events: Vec::new(),
        };
        let result = work(&mut self.rooms, &mut step);
        let Step { frames, events, .. } = step;
        for frame in frames {
            let ClientFrame::Join { id, since, .. } = frame else { panic!("{frame:?}") };
            self.current.as_mut().unwrap().asked.push_back((id, since));
        }
        let gaps = events.iter().filter(|event| matches!(event, Event::Gap { .. }));
        self.told.extend(gaps.map(|_| Told::Gap));
        result
    }

    fn open(&mut self) {
        self.sessions += 1;
        self.current = Some(Session::open(self.sessions, self.items.len()));
        self.step(|rooms, step| rooms.rejoin(step));
    }

    fn has_positions(&self) -> bool {
        let is_placed = |session: &Option<Session>| session.as_ref().is_none_or(|session| !session.has_gap);
        let is_known = self.positions.get(&Log::Room(ROOM.into())).is_some();
        is_known && is_placed(&self.current) && is_placed(&self.retiring)
    }

    fn publish(&mut self, is_for_us: bool, went_before: bool) {
        if self.is_away {
            return;
        }
        (self.offset, self.ids) = (self.offset + 1, self.ids + 1);
        let at = Position { epoch: self.epoch.to_string(), offset: self.offset };
        self.items.push(Item::Logged { at, id: self.ids, is_for_us, went_before });
    }

    fn publish_plain(&mut self) {
        self.ids += 1;
        self.items.push(Item::Plain { id: self.ids });
    }

    fn session(&mut self, which: Which) -> Option<&mut Session> {
        match which {
            Which::Current => self.current.as_mut(),
            Which::Retiring => self.retiring.as_mut(),
        }
    }

    fn arrive(&mut self, which: Which, count: usize, is_missed: bool) {
        let items = std::mem::take(&mut self.items);
        if let Some(session) = self.session(which) {
            for item in items.iter().skip(session.arrived).take(count) {
                session.arrived += 1;
                session.pass_on(item, is_missed);
            }
        }
        self.items = items;
    }

    /// The node reads the log, and with that learns its epoch.
    fn answer(&mut self, which: Which) {
        let renewed = self.items.iter().rposition(|item| matches!(item, Item::Renewed { .. }));
        if let (Some(renewed), Some(session)) = (renewed, self.session(which)) {
            let behind = (renewed + 1).saturating_sub(session.arrived);
            self.arrive(which, behind, false);
        }
        let is_away = self.is_away;
        let mut log: Vec<_> = self.items[renewed.map_or(0, |at| at + 1)..].to_vec();
        log.retain(|item| matches!(item, Item::Logged { .. }));
        let epoch = self.epoch.to_string();
        let items = self.items.clone();
        let Some(session) = self.session(which) else { return };
        let Some((id, since)) = session.asked.pop_front() else { return };
        let own = items[..session.arrived].iter().rev().find_map(|item| match item {
            Item::Logged { at, .. } => Some(at.clone()),
            Item::Renewed { epoch } => Some(Position { epoch: epoch.clone(), offset: 0 }),
            Item::Plain { .. } => None,
        });
        let own = own.unwrap_or(Position { epoch, offset: 0 });
        session.join(id, since, own, (!is_away).then_some(log));
    }

    fn read(&mut self, which: Which, count: usize) {
        for _ in 0..count {
            let Some(frame) = self.session(which).and_then(|session| session.frames.pop_front()) else {
                return;
            };
            let number = self.session(which).map_or(0, |session| session.number);
            let log = Log::Room(ROOM.into());
            match frame {
                Frame::Joined(joined, before) if which == Which::Current => {
                    self.step(|rooms, step| rooms.on_joined(step, joined));
                    self.since.get_or_insert(before);
                }
                Frame::Joined(..) => {}
                Frame::Push(at, id) => {
                    let verdict = self.positions.accept(Some(&log), number, at.as_ref(), &id.to_string());
                    if verdict == Verdict::New {
                        self.told.push(Told::Push(at, id));
                    }
                }
                Frame::Gap(to) => {
                    let hole = self.positions.gap(&log, number, Some(to));
                    self.told.extend(hole.map(|_| Told::Gap));
                }
            }
        }
    }

    fn check(&self) -> Result<(), TestCaseError> {
        let mut ids = HashSet::new();
        let mut order = Vec::new();
        for (place, told) in self.told.iter().enumerate() {
            let Told::Push(at, id) = told else { continue };
            prop_assert!(ids.insert(*id), "message {} came twice: {:?}", id, self.told);
            if at.is_some() {
                order.push((self.index_of(*id), place));
            }
        }
        prop_assert!(order.is_sorted(), "out of order: {:?}", self.told);
        let entitled = self.items.iter().enumerate().skip(self.since.expect("settled"));
        for (index, item) in entitled {
            let Item::Logged { id, is_for_us: true, .. } = item else { continue };
            if ids.contains(id) {
                continue;
            }
            let after = order.partition_point(|(shown, _)| *shown < index);
            let begin = if after == 0 { 0 } else { order[after - 1].1 };
            let end = order.get(after).map_or(self.told.len(), |(_, place)| *place);
            let is_told = self.told[begin..end].contains(&Told::Gap);
            prop_assert!(is_told, "message {} is missing without a word: {:?}", id, self.told);
        }
        Ok(())
    }

    fn index_of(&self, wanted: usize) -> usize {
        let is_it = |item: &Item| matches!(item, Item::Logged { id, .. } if *id == wanted);
        self.items.iter().position(is_it).expect("it was published")
    }

    /// Everything arrives, and one message more, so that a hole at the end shows.
    fn settle(&mut self) {
        self.is_away = false;
        for _ in 0..2 {
            self.publish(true, false);
            for which in [Which::Retiring, Which::Current] {
                while self.session(which).is_some_and(|session| !session.asked.is_empty()) {
                    self.answer(which);
                }
                self.arrive(which, self.items.len(), false);
                self.read(which, usize::MAX);
            }
        }
    }
}
