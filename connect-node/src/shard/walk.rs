//! The walk: commands of the mailbox in their order, deliveries to many members in slices.
//!
//! Every room has a backlog, and so have the pushes to users and those to all: within a backlog the order of the
//! mailbox holds, and messages that wait together are walked together, so that each member gets all of them in one
//! system call. A walk gives way after a slice, to other backlogs and never to the next item of its own.

use std::{collections::VecDeque, io::IoSlice, time::Duration};

use roomcast_types::{Position, RoomId};
use tokio::time::Instant;

use super::{
    batch::{Form, ListItem, ListWalk, Message, Walk, deliver, exception},
    entry::Entry,
    history::{Walked, Whom},
    out::SLICES_MAX,
    rooms::RoomItem,
    sending::SentEnd,
    state::Shard,
    timers::NEVER,
};
use crate::{
    ports::{CloseCode, Delivery, DeliveryTarget, SessionKey, ToShard},
    tally::{Counts, Hops, TargetOutcome},
    wire::{PerEncoding, ServerFrame},
};

/// Targets between two looks at other work, and the time after which the look comes earlier.
const SLICE_TARGETS: usize = 256;
const SLICE_TIME: Duration = Duration::from_millis(1);
/// Targets between two looks at the clock.
const CLOCK_TARGETS: usize = 32;
/// Targets whose records are loaded together.
const WARM_TARGETS: usize = 16;
/// Commands taken out of the mailbox and not done; more wait in the mailbox, whose bound the senders feel.
const ITEMS_MAX: usize = 1024;

/// A backlog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Room(u32),
    Users,
    All,
}

/// What the shard has to do.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    /// Backlogs with work, each once, in turn.
    queue: VecDeque<Source>,
    users: VecDeque<ListItem>,
    all: VecDeque<Message>,
    all_walk: Option<Walk>,
    /// A command that takes effect behind everything before it; nothing more is taken in until it has.
    barrier: Option<Barrier>,
    items: usize,
}

#[derive(Debug)]
enum Barrier {
    Close { session: SessionKey, code: CloseCode },
    Stop,
}

impl Agenda {
    /// Whether another command may be taken in.
    pub(super) fn has_room(&self) -> bool {
        self.barrier.is_none() && self.items < ITEMS_MAX
    }

    pub(super) fn is_done(&self) -> bool {
        self.queue.is_empty() && self.barrier.is_none()
    }
}

/// How much of a slice is left.
struct Slice {
    targets: usize,
    unclocked: usize,
    began: Instant,
}

impl Slice {
    fn new() -> Self {
        Self { targets: SLICE_TARGETS, unclocked: CLOCK_TARGETS, began: Instant::now() }
    }

    fn count(&mut self) {
        self.targets = self.targets.saturating_sub(1);
        self.unclocked -= 1;
        if self.unclocked == 0 {
            self.unclocked = CLOCK_TARGETS;
            if self.began.elapsed() >= SLICE_TIME {
                self.targets = 0;
            }
        }
    }

    fn is_over(&self) -> bool {
        self.targets == 0
    }
}

/// The deliveries at the head of a backlog, as many as one system call takes.
fn take_deliveries(backlog: &mut VecDeque<RoomItem>) -> Vec<Message> {
    let mut messages = Vec::new();
    while messages.len() < SLICES_MAX
        && let Some(RoomItem::Deliver(message)) =
            backlog.pop_front_if(|item| matches!(item, RoomItem::Deliver(_)))
    {
        messages.push(message);
    }
    messages
}

impl Shard {
    /// Takes a command of the mailbox in. `Accept` is the caller's.
    pub(super) fn take_command(&mut self, command: ToShard) {
        match command {
            ToShard::Accept(_) => debug_assert!(false, "connections are accepted outside"),
            ToShard::Welcome { session, standing } => self.welcome(session, standing),
            ToShard::Joined { session, request, room, members, standing } => {
                self.queue_item(&room, RoomItem::Joined { session, request, members, standing });
            }
            ToShard::Gap { target, position } => self.gap(target, position),
            ToShard::Inbox { session, messages } => self.send_inbox(session, messages),
            ToShard::JoinRefused { session, request, room, fault } => {
                self.queue_item(&room, RoomItem::JoinRefused { session, request, fault });
            }
            ToShard::Left { session, request, room, reason } => {
                self.queue_item(&room, RoomItem::Left { session, request, reason });
            }
            ToShard::RoomDeleted(room) => self.queue_item(&room, RoomItem::Deleted),
            ToShard::Close { session, code } => self.agenda.barrier = Some(Barrier::Close { session, code }),
            ToShard::Notice { session, reconnect_after } => self.notice(session, reconnect_after),
            ToShard::Stop { .. } => self.agenda.barrier = Some(Barrier::Stop),
            ToShard::Deliver(delivery) => self.queue_delivery(delivery),
            ToShard::Inspect(inspection) => self.inspect(inspection),
        }
    }

    fn queue_delivery(&mut self, delivery: Delivery) {
        let Delivery { frame, target, traits, exclude, tally } = delivery;
        let exclude = exclude.filter(|users| !users.is_empty());
        let names_sessions = matches!(target, DeliveryTarget::Sessions(_));
        let expires_at = traits.expires_at.map_or(NEVER, |at| self.flow.at(at));
        let entry = Entry::new(traits, expires_at, exclude, names_sessions, tally);
        let message = Message { push: frame, entry, came: Instant::now() };
        let agenda = &mut self.agenda;
        match target {
            DeliveryTarget::Room(room) => match self.rooms.find(&room) {
                Some(_) => self.queue_item(&room, RoomItem::Deliver(message)),
                // The last member left between the hub's look and now.
                None => message.entry.walked(Counts::default(), Hops::default()),
            },
            DeliveryTarget::Sessions(sessions) => {
                let counts = Counts { sessions: Vec::with_capacity(sessions.len()), ..Counts::default() };
                let began = message.came;
                let frames = PerEncoding::default();
                let walk = ListWalk { message, frames, counts, sessions, next: 0, began, number: 0 };
                self.queue_list(ListItem::Walk(walk));
            }
            DeliveryTarget::All => {
                agenda.all.push_back(message);
                agenda.items += 1;
                if agenda.all.len() == 1 && agenda.all_walk.is_none() {
                    agenda.queue.push_back(Source::All);
                }
            }
        }
    }

    fn queue_list(&mut self, item: ListItem) {
        let agenda = &mut self.agenda;
        agenda.users.push_back(item);
        agenda.items += 1;
        if agenda.users.len() == 1 {
            agenda.queue.push_back(Source::Users);
        }
    }

    /// Sessions hear of a gap, behind what comes for them before.
    pub(super) fn queue_gap(&mut self, sessions: Vec<(SessionKey, u32)>, position: Position) {
        self.queue_list(ListItem::Gap(sessions, position));
    }

    pub(super) fn queue_item(&mut self, room: &RoomId, item: RoomItem) {
        let at = self.rooms.obtain(room);
        let room = self.rooms.get_mut(at);
        room.backlog.push_back(item);
        self.agenda.items += 1;
        if !std::mem::replace(&mut room.is_queued, true) {
            self.agenda.queue.push_back(Source::Room(at));
        }
    }

    /// Works for one slice.
    pub(super) fn work(&mut self) {
        let mut slice = Slice::new();
        while let Some(source) = self.agenda.queue.pop_front() {
            let has_more = match source {
                Source::Room(room) => self.work_room(room, &mut slice),
                Source::Users => self.work_users(&mut slice),
                Source::All => self.work_all(&mut slice),
            };
            if has_more {
                self.agenda.queue.push_back(source);
            }
            if slice.is_over() {
                return;
            }
        }
        match self.agenda.barrier.take() {
            Some(Barrier::Close { session, code }) => self.close(session, code, false),
            Some(Barrier::Stop) => self.stop(),
            None => {}
        }
    }

    /// One item, or one slice of a walk; says whether the room has more to do.
    fn work_room(&mut self, at: u32, slice: &mut Slice) -> bool {
        let now = self.flow.now;
        let room = self.rooms.get_mut(at);
        let walk = room.walk.take().or_else(|| {
            let messages = take_deliveries(&mut room.backlog);
            (!messages.is_empty()).then(|| Walk::new(messages, now, self.history.begin_walk()))
        });
        if let Some(mut walk) = walk {
            room.begin_walk();
            if self.walk_slice(&mut walk, Some(at), slice) {
                let whom = Whom::Room(self.rooms.get(at).id.clone());
                self.report(walk, &whom);
                for moved in self.rooms.get_mut(at).end_walk() {
                    self.moved(at, moved);
                }
            } else {
                self.rooms.get_mut(at).walk = Some(walk);
            }
        } else if let Some(item) = room.backlog.pop_front() {
            self.agenda.items -= 1;
            slice.count();
            self.room_item(at, item);
        }
        let room = self.rooms.get_mut(at);
        room.is_queued = room.walk.is_some() || !room.backlog.is_empty();
        let has_more = room.is_queued;
        self.rooms.release(at);
        has_more
    }

    /// One slice of the pushes to all.
    fn work_all(&mut self, slice: &mut Slice) -> bool {
        let agenda = &mut self.agenda;
        let walk = agenda.all_walk.take().unwrap_or_else(|| {
            let together = agenda.all.len().min(SLICES_MAX);

            Walk::new(agenda.all.drain(..together).collect(), self.flow.now, self.history.begin_walk())
        });
        let mut walk = walk;
        if self.walk_slice(&mut walk, None, slice) {
            self.report(walk, &Whom::All);
        } else {
            self.agenda.all_walk = Some(walk);
        }
        self.agenda.all_walk.is_some() || !self.agenda.all.is_empty()
    }

    /// Goes on through a room, or through all sessions, until the end (true) or until the slice is over.
    fn walk_slice(&mut self, walk: &mut Walk, room: Option<u32>, slice: &mut Slice) -> bool {
        // Shared beside the batch, whose counts change.
        let frames = std::mem::take(&mut walk.batch.frames);
        let mut form = Form::default();
        let end = match room {
            Some(room) => self.rooms.get(room).places(),
            None => self.sessions.slots() as usize,
        };
        let (mut ended, mut warm) = (Vec::new(), walk.next);
        while walk.next < end && !slice.is_over() {
            if walk.next == warm {
                warm = (warm + WARM_TARGETS).min(end);
                self.warm(room, walk.next..warm);
            }
            let slot = match room {
                Some(room) => self.rooms.get(room).member(walk.next),
                None => Some(walk.next as u32),
            };
            walk.next += 1;
            let Some((slot, session)) = slot.and_then(|slot| Some((slot, self.sessions.in_slot(slot)?)))
            else {
                continue;
            };
            // All members of rooms are open; among all sessions there are some that wait for their welcome.
            if session.is_open() {
                slice.count();
                form.turn_to(session.encoding, &frames, &walk.batch);
                let (frames, slices) = form.parts();
                let sent = deliver(session, slot, &mut walk.batch, frames, slices, &mut self.flow);
                if sent != SentEnd::Complete {
                    ended.push((slot, sent));
                }
            }
        }
        for (slot, end) in ended {
            self.end_in_slot(slot, &end);
        }
        walk.batch.frames = frames;
        walk.next >= end
    }

    /// The frames of the walk are held until it is through.
    fn report(&mut self, mut walk: Walk, whom: &Whom) {
        self.metrics.walk_seconds.record(walk.began.elapsed());
        for (entry, came, counts, hops) in walk.batch.counts(walk.began) {
            self.agenda.items -= 1;
            self.metrics.deliveries.count(&counts);
            self.flow.news.dropped.add_counts(&counts);
            entry.walked(counts, hops);
            let entry = entry.clone();
            self.history.walked(Walked { entry, whom: whom.clone(), number: walk.number, came });
        }
    }

    /// One slice of the pushes to users.
    fn work_users(&mut self, slice: &mut Slice) -> bool {
        self.sessions.warm(self.agenda.users.iter().take(WARM_TARGETS).filter_map(ListItem::first_slot));
        while let Some(item) = self.agenda.users.pop_front() {
            let mut walk = match item {
                ListItem::Walk(walk) => walk,
                ListItem::Gap(sessions, position) => {
                    self.agenda.items -= 1;
                    let gap = ServerFrame::Gap { room: None, position };
                    sessions.iter().for_each(|(key, _)| self.say(*key, &gap));
                    continue;
                }
            };
            if walk.next == 0 {
                walk.began = Instant::now();
                walk.number = self.history.begin_walk();
            }
            while walk.next < walk.sessions.len() && !slice.is_over() {
                let (key, user) = walk.sessions[walk.next];
                walk.next += 1;
                slice.count();
                self.deliver_to(key, user, &mut walk);
            }
            if walk.next < walk.sessions.len() {
                self.agenda.users.push_front(ListItem::Walk(walk));
                break;
            }
            self.agenda.items -= 1;
            self.metrics.deliveries.count(&walk.counts);
            self.flow.news.dropped.add_counts(&walk.counts);
            let (wait, took) =
                (walk.began.saturating_duration_since(walk.message.came), walk.began.elapsed());
            self.metrics.walk_seconds.record(took);
            let Message { entry, came, .. } = walk.message;
            entry.walked(walk.counts, Hops { wait, walk: took });
            self.history.walked(Walked { entry, whom: Whom::Users, number: walk.number, came });
        }
        !self.agenda.users.is_empty()
    }

    fn deliver_to(&mut self, key: SessionKey, user: u32, walk: &mut ListWalk) {
        let Some(session) = self.sessions.get_mut(key) else {
            // Its id went with it: the count stands without an entry.
            return walk.counts.add(TargetOutcome::Closed);
        };
        let mut end = SentEnd::Complete;
        let outcome = if !session.is_open() {
            TargetOutcome::Closed
        } else if let Some(outcome) = exception(&walk.message.entry, &session.user_id, self.flow.now) {
            outcome
        } else {
            let frame = walk.frames.get(session.encoding, || walk.message.frame(session.encoding));
            let slice = IoSlice::new(&frame.bytes);
            let sent = session.send(std::slice::from_ref(frame), &[slice], key.slot, &mut self.flow);
            let outcome = sent.outcome(0);
            if outcome == TargetOutcome::Written && walk.message.entry.traits.is_noted() {
                session.note_written(std::slice::from_ref(frame));
            }
            end = sent.end;
            outcome
        };
        walk.counts.add(outcome);
        walk.counts.sessions.push((user, session.session_id, outcome));
        self.end_in_slot(key.slot, &end);
    }
}
