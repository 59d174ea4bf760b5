//! What the node knows, behind one lock: sessions, users, rooms, what the lanes and the controller are told of them.
//!
//! No method waits. What has to follow outside of the lock is returned.

use std::{sync::Arc, time::Duration};

use roomcast_proto::pubsub::{Interest, RoomInterest, UserInterest, room_card};
use roomcast_types::{CardMark, LogPolicy, RoomId, SessionId, UserId};
use rustc_hash::FxHashMap;
use tokio::{
    sync::{Notify, oneshot},
    time::Instant,
};

use super::{
    announcement::{AnnouncementId, Announcements, Subject},
    session::Session,
    topic::{Fate, Need, TopicId, Topics},
};
use crate::{
    lane::Lane,
    log::sequence::{Key, Sequence},
    ports::SessionKey,
    report::{
        breaker::Breaker,
        clock::StoreClock,
        outbox::{Outbox, SLICES},
        reads::Reads,
    },
    wire::Readers,
};

/// Changes of a number alone are told this often at most.
const NUMBERS_EVERY: Duration = Duration::from_millis(100);
/// Rooms and users in one part of a snapshot.
const SNAPSHOT_PART: usize = 1_000;
/// How long a lane without a stream is kept for its push-manager to come back.
pub const LANE_KEPT: Duration = Duration::from_secs(60);
/// The longest the timekeeper sleeps.
const IDLE_TICK: Duration = Duration::from_secs(5);

/// What the hub keeps with a room.
#[derive(Default)]
pub struct Members {
    /// Sessions by shard; shorter than the number of shards when the last ones have none.
    pub by_shard: Vec<u32>,
    /// Of the card as last heard.
    pub card: CardMark,
    /// Of a room with a log.
    pub sequence: Option<Arc<Sequence>>,
}

/// What the hub keeps with a user.
#[derive(Default)]
pub struct Sessions {
    /// Those that a push to the user reaches.
    pub keys: Vec<SessionKey>,
    /// Of a user with a log.
    pub sequence: Option<Arc<Sequence>>,
}

impl Members {
    /// Counts a session in.
    pub fn add(&mut self, shard: u16) {
        let shard = usize::from(shard);
        if self.by_shard.len() <= shard {
            self.by_shard.resize(shard + 1, 0);
        }
        self.by_shard[shard] += 1;
    }

    /// Counts a session out.
    pub fn remove(&mut self, shard: u16) {
        if let Some(count) = self.by_shard.get_mut(usize::from(shard)) {
            *count = count.saturating_sub(1);
        }
    }

    /// Takes a card in, if it is younger; one with another policy makes an end of the room's sequence.
    pub fn learn(&mut self, room: &RoomId, card: CardMark) {
        let before = self.card;
        self.card = before.or_younger(card);
        if self.sequence.is_some() && before.log != self.card.log {
            let key = Key::Room(room.clone(), self.card.log);
            self.sequence = (self.card.log != LogPolicy::None).then(|| Sequence::unplaced(key));
        }
    }

    /// Shards with a session in the room.
    pub fn shards(&self) -> impl Iterator<Item = u16> {
        self.by_shard.iter().enumerate().filter(|(_, count)| **count > 0).map(|(shard, _)| shard as u16)
    }
}

/// See the module.
pub struct State {
    has_user_logs: bool,
    pub sessions: FxHashMap<SessionKey, Box<Session>>,
    /// Of those sessions.
    pub readers: Readers,
    /// Keys by id, in the slices of the reports.
    pub by_id: Vec<FxHashMap<SessionId, SessionKey>>,
    pub users: Topics<UserId, Sessions>,
    pub rooms: Topics<RoomId, Members>,
    pub announcements: Announcements,
    pub lanes: Vec<Arc<Lane>>,
    pub outbox: Outbox,
    pub reads: Reads,
    /// Before the controllers.
    pub breaker: Breaker,
    pub clock: StoreClock,
    /// When changed numbers are told.
    numbers_due: Option<Instant>,
    /// When the timekeeper wakes.
    tick_at: Instant,
    /// Wakes the timekeeper earlier.
    pub tick_wake: Arc<Notify>,
    /// Wakes the report stream.
    pub report_wake: Arc<Notify>,
}

impl State {
    /// An empty node.
    pub fn new(room_linger: Duration, has_user_logs: bool, now: Instant) -> Self {
        Self {
            has_user_logs,
            sessions: FxHashMap::default(),
            readers: Readers::default(),
            by_id: (0..SLICES).map(|_| FxHashMap::default()).collect(),
            users: Topics::new(Duration::ZERO),
            rooms: Topics::new(room_linger),
            announcements: Announcements::default(),
            lanes: Vec::new(),
            outbox: Outbox::default(),
            reads: Reads::default(),
            breaker: Breaker::new(now),
            clock: StoreClock::new(now),
            numbers_due: None,
            tick_at: now,
            tick_wake: Arc::default(),
            report_wake: Arc::default(),
        }
    }

    /// The session of this id.
    pub fn key_of(&self, id: SessionId) -> Option<SessionKey> {
        self.by_id[id.slice()].get(&id).copied()
    }

    // ---- interest ----

    /// A session of this user opens: takes up the interest. The receiver resolves when every lane knows.
    pub fn enter_user(&mut self, user: &UserId, now: Instant) -> (TopicId, Option<oneshot::Receiver<()>>) {
        let (topic, need) = self.users.enter(user);
        if self.has_user_logs
            && let Some(sessions) = self.users.get_mut(user)
        {
            sessions.sequence.get_or_insert_with(|| Sequence::new(Key::User(user.clone())));
        }
        let waiting = match need {
            Need::Met => None,
            Need::Wait(announcement) => Some(self.announcements.wait(announcement)),
            Need::Announce => {
                let change = self.user_change(user);
                let announcement = self.announce(Subject::User(user.clone()), &change, now);
                announcement.map(|announcement| {
                    self.users.announcing(user, announcement);
                    self.announcements.wait(announcement)
                })
            }
        };
        self.numbers_changed(now);
        (topic, waiting)
    }

    /// A session was admitted to this room: takes up the interest. The receiver resolves when every lane knows.
    pub fn enter_room(
        &mut self,
        room: &RoomId,
        card: CardMark,
        now: Instant,
    ) -> (TopicId, Option<oneshot::Receiver<()>>) {
        let (topic, need) = self.rooms.enter(room);
        if let Some(members) = self.rooms.get_mut(room) {
            members.learn(room, card);
            if members.card.log != LogPolicy::None {
                let key = || Key::Room(room.clone(), members.card.log);
                members.sequence.get_or_insert_with(|| Sequence::new(key()));
            }
        }
        let waiting = match need {
            Need::Met => None,
            Need::Wait(announcement) => Some(self.announcements.wait(announcement)),
            Need::Announce => {
                let change = self.room_change(room, false);
                let announcement = self.announce(Subject::Room(room.clone()), &change, now);
                announcement.map(|announcement| {
                    self.rooms.announcing(room, announcement);
                    self.announcements.wait(announcement)
                })
            }
        };
        self.numbers_changed(now);
        (topic, waiting)
    }

    /// A session on its way into a room does not come.
    pub fn give_up_room(&mut self, room: &RoomId, topic: TopicId, now: Instant) {
        let fate = self.rooms.give_up(room, topic, now);
        self.after_room(room, fate, now);
    }

    /// A session that counted in a room is gone.
    pub fn leave_room(&mut self, room: &RoomId, shard: u16, now: Instant) {
        if let Some(members) = self.rooms.get_mut(room) {
            members.remove(shard);
        }
        let fate = self.rooms.leave(room, now);
        self.after_room(room, fate, now);
    }

    fn after_room(&mut self, room: &RoomId, fate: Fate, now: Instant) {
        if fate == Fate::Withdrawn {
            self.withdraw_room(room);
        }
        if let Some(end) = self.rooms.next_end() {
            self.arm(end);
        }
        self.numbers_changed(now);
    }

    /// Tells the lanes what a room's interest is now.
    pub fn tell_room(&self, room: &RoomId) {
        let change = self.room_change(room, false);
        self.tell(&change);
    }

    /// Tells the lanes that a room is of no interest any more.
    pub fn withdraw_room(&mut self, room: &RoomId) {
        let change = self.room_change(room, true);
        self.tell(&change);
    }

    /// A session of a user is gone; `was_open`: its welcome had been sent.
    pub fn leave_user(&mut self, user: &UserId, topic: TopicId, was_open: bool, now: Instant) {
        let fate = if was_open { self.users.leave(user, now) } else { self.users.give_up(user, topic, now) };
        if fate == Fate::Withdrawn {
            let change = self.user_change(user);
            self.tell(&change);
        }
        self.numbers_changed(now);
    }

    fn announce(&mut self, subject: Subject, change: &Interest, now: Instant) -> Option<AnnouncementId> {
        let id = self.announcements.begin(subject);
        let mut waits = 0;
        let mut earliest: Option<Instant> = None;
        for lane in &self.lanes {
            if let Some(deadline) = lane.announce(change, id, now) {
                waits += 1;
                earliest = Some(earliest.map_or(deadline, |earliest| earliest.min(deadline)));
            }
        }
        if let Some(earliest) = earliest {
            self.arm(earliest);
        }
        self.announcements.wait_for_lanes(id, waits).then_some(id)
    }

    fn tell(&self, change: &Interest) {
        for lane in &self.lanes {
            lane.tell(change);
        }
    }

    /// Lanes are done with these announcements.
    pub fn lane_done(&mut self, announcements: Vec<AnnouncementId>) {
        for id in announcements {
            match self.announcements.lane_done(id) {
                Some(Subject::Room(room)) => self.rooms.announced(&room, id),
                Some(Subject::User(user)) => self.users.announced(&user, id),
                None => {}
            }
        }
    }

    fn room_interest(&self, room: &RoomId, is_withdrawn: bool) -> RoomInterest {
        let card = self.rooms.get(room).map_or_else(CardMark::default, |members| members.card);
        RoomInterest { withdrawn: is_withdrawn, ..interest_in(room, self.rooms.number(room), card) }
    }

    fn room_change(&self, room: &RoomId, is_withdrawn: bool) -> Interest {
        let rooms = vec![self.room_interest(room, is_withdrawn)];
        Interest { rooms, sessions: self.sessions.len() as u64, ..Interest::default() }
    }

    fn user_change(&self, user: &UserId) -> Interest {
        let users = vec![UserInterest { user_id: user.to_string(), sessions: self.users.number(user) }];
        Interest { users, sessions: self.sessions.len() as u64, ..Interest::default() }
    }

    /// Everything this node is interested in, in parts of bounded size; at least one.
    pub fn snapshot(&self) -> Vec<Interest> {
        let sessions = self.sessions.len() as u64;
        let mut parts = vec![Interest { sessions, ..Interest::default() }];
        let mut part = |rooms: Vec<RoomInterest>, users: Vec<UserInterest>| {
            let last = parts.last_mut().expect("it began with one part");
            if last.rooms.len() + last.users.len() < SNAPSHOT_PART {
                last.rooms.extend(rooms);
                last.users.extend(users);
            } else {
                parts.push(Interest { rooms, users, sessions, ..Interest::default() });
            }
        };
        for (room, sessions, members) in self.rooms.iter() {
            part(vec![interest_in(room, sessions, members.card)], vec![]);
        }
        for (user, sessions, _) in self.users.iter() {
            part(vec![], vec![UserInterest { user_id: user.to_string(), sessions }]);
        }
        parts
    }

    // ---- time ----

    fn numbers_changed(&mut self, now: Instant) {
        if self.numbers_due.is_none() && (self.rooms.has_changed() || self.users.has_changed()) {
            let due = now + NUMBERS_EVERY;
            self.numbers_due = Some(due);
            self.arm(due);
        }
    }

    /// Withdraws the rooms that nobody is in, however long their interest would linger.
    pub fn withdraw_ended(&mut self) {
        if let Some(last) = self.rooms.last_end() {
            for room in self.rooms.take_ended(last) {
                self.withdraw_room(&room);
            }
        }
    }

    fn arm(&mut self, at: Instant) {
        if at < self.tick_at {
            self.tick_at = at;
            self.tick_wake.notify_one();
        }
    }

    /// Does what has become due; when to call again.
    pub fn tick(&mut self, now: Instant) -> Instant {
        for lane in self.lanes.clone() {
            self.lane_done(lane.overdue(now));
        }
        for room in self.rooms.take_ended(now) {
            self.withdraw_room(&room);
        }
        if self.numbers_due.is_some_and(|due| due <= now) {
            self.numbers_due = None;
            self.tell_numbers();
        }
        if let Some(since) = now.checked_sub(LANE_KEPT) {
            self.lanes.retain(|lane| !lane.is_abandoned(since));
        }
        let deadlines = self.lanes.iter().filter_map(|lane| lane.next_deadline());
        let next = deadlines.chain(self.rooms.next_end()).chain(self.numbers_due).min();
        self.tick_at = next.unwrap_or(now + IDLE_TICK).min(now + IDLE_TICK);
        self.tick_at
    }

    fn tell_numbers(&mut self) {
        let sessions = self.sessions.len() as u64;
        let rooms: Vec<_> =
            self.rooms.take_changed().into_iter().map(|(room, _)| self.room_interest(&room, false)).collect();
        let users: Vec<_> = self
            .users
            .take_changed()
            .into_iter()
            .map(|(user, sessions)| UserInterest { user_id: user.to_string(), sessions })
            .collect();
        for rooms in rooms.chunks(SNAPSHOT_PART) {
            self.tell(&Interest { rooms: rooms.to_vec(), sessions, ..Interest::default() });
        }
        for users in users.chunks(SNAPSHOT_PART) {
            self.tell(&Interest { users: users.to_vec(), sessions, ..Interest::default() });
        }
    }
}

fn interest_in(room: &RoomId, sessions: u64, card: CardMark) -> RoomInterest {
    RoomInterest {
        room_id: room.to_string(),
        sessions,
        card_version: card.version,
        withdrawn: false,
        membership: room_card::Membership::from(card.membership).into(),
        log: room_card::Log::from(card.log).into(),
        on_log_failure: room_card::OnLogFailure::from(card.on_log_failure).into(),
    }
}
