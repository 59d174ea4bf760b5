//! Answers what is asked about the recent past: who is here, who was, and what became of messages for them.

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use roomcast_proto::pubsub::{
    EndedSession, InspectReply, LeftRoom, LiveSession, NodeMessage, SessionFate, SessionRoom,
};
use roomcast_types::{MessageId, RoomId, SessionId, UserId};

use super::{
    entry::Fate,
    history::{Ended, Left, UNACKED_MAX, WalkNumber, Walked, Whom},
    session::{Phase, Session},
    state::Shard,
    timers::{Millis, millis},
};
use crate::{
    ports::{Inspection, LeftReason, Question, SessionKey},
    tally::TargetOutcome,
};

/// Sessions that one answer shows.
const SESSIONS_MAX: usize = 100;

/// A session as far as messages for it are asked about.
struct Subject<'a> {
    session_id: SessionId,
    user_id: &'a UserId,
    opened: WalkNumber,
    /// Of one that ended.
    ended: Option<&'a Ended>,
    /// Rooms it was in: from after one walk up to another.
    stays: Vec<(&'a RoomId, WalkNumber, WalkNumber)>,
    /// Its record, if that is still there.
    session: Option<&'a Session>,
}

impl Shard {
    /// Answers; whoever asked may have stopped waiting.
    pub(super) fn inspect(&mut self, inspection: Inspection) {
        // What changed a moment ago is told first, so that counts and sessions agree.
        self.flow.news.tell();
        self.flow.refresh();
        let Inspection { question, sessions, answer } = inspection;
        let _ = answer.send(self.findings(&question, &sessions));
    }

    fn findings(&mut self, question: &Question, of_user: &[SessionKey]) -> InspectReply {
        let (keys, total) = self.asked(question, of_user);
        let this = &*self;
        let live: Vec<(SessionKey, &Session)> =
            keys.into_iter().filter_map(|key| Some((key, this.sessions.get(key)?))).collect();
        let is_user = |user: &UserId| question.user.as_ref().is_none_or(|asked| asked == user);
        let is_room = |room: &RoomId| question.room.as_ref().is_none_or(|asked| asked == room);
        let is_asked = question.user.is_some() || question.room.is_some();
        let ended = this.history.all_ended().filter(|ended| {
            let was_there = question.room.as_ref().is_none_or(|room| ended.was_in(room));
            is_asked && is_user(&ended.user_id) && (question.user.is_some() || was_there)
        });
        let ended: Vec<&Ended> = ended.take(question.last).collect();
        let left =
            this.history.all_left().filter(|left| is_asked && is_user(&left.user_id) && is_room(&left.room));
        let left: Vec<&Left> = left.take(question.last).collect();
        InspectReply {
            sessions: live.iter().map(|(_, session)| this.live_session(session)).collect(),
            sessions_total: total as u64,
            ended: ended.iter().map(|ended| this.ended_session(ended)).collect(),
            left: left.iter().map(|left| this.left_room(left)).collect(),
            messages: this.messages(question, &this.subjects(&live, &ended)),
            ..InspectReply::default()
        }
    }

    /// The live sessions to show, and how many there are.
    fn asked(&mut self, question: &Question, of_user: &[SessionKey]) -> (Vec<SessionKey>, usize) {
        if question.user.is_some() {
            let total = of_user.len();
            return (of_user.iter().copied().take(SESSIONS_MAX).collect(), total);
        }
        let Some(at) = question.room.as_ref().and_then(|room| self.rooms.find(room)) else {
            return (Vec::new(), 0);
        };
        let room = self.rooms.get(at);
        let total = room.members().count();
        let slots: Vec<u32> = room.members().take(SESSIONS_MAX).collect();
        (slots.into_iter().filter_map(|slot| self.key_in_slot(slot)).collect(), total)
    }

    fn subjects<'a>(&'a self, live: &[(SessionKey, &'a Session)], ended: &[&'a Ended]) -> Vec<Subject<'a>> {
        let mut subjects: Vec<Subject<'a>> = Vec::new();
        for (_, session) in live.iter().filter(|(_, session)| !matches!(session.phase, Phase::Closing(_))) {
            let seats = session.seats.iter().filter(|seat| seat.position.is_some());
            let stays = seats.map(|seat| (&self.rooms.get(seat.room).id, seat.joined, WalkNumber::MAX));
            subjects.push(Subject {
                session_id: session.session_id,
                user_id: &session.user_id,
                opened: session.opened,
                ended: None,
                stays: stays.collect(),
                session: Some(session),
            });
        }
        for ended in ended {
            let stays = ended.rooms.iter().map(|(room, joined)| (room, *joined, ended.ended));
            subjects.push(Subject {
                session_id: ended.session_id,
                user_id: &ended.user_id,
                opened: ended.opened,
                ended: Some(ended),
                stays: stays.collect(),
                session: self.sessions.get(ended.key),
            });
        }
        for left in self.history.all_left() {
            let subject = subjects.iter_mut().find(|subject| subject.session_id == left.session_id);
            if let Some(subject) = subject {
                subject.stays.push((&left.room, left.joined, left.left));
            }
        }
        subjects
    }

    fn messages(&self, question: &Question, subjects: &[Subject<'_>]) -> Vec<NodeMessage> {
        let ids: HashSet<SessionId> = subjects.iter().map(|subject| subject.session_id).collect();
        let is_relevant = |walked: &&Walked| match (&question.message, &walked.whom) {
            (Some(asked), _) => walked.entry.message_id() == *asked,
            (None, whom) if question.user.is_some() => {
                let was_in = |room: &RoomId| subjects.iter().any(|subject| subject.was_in(room));
                let is_concerned = match whom {
                    Whom::Room(room) => was_in(room),
                    Whom::Users => walked.entry.names_any(&ids),
                    Whom::All => true,
                };
                let is_room = match (&question.room, whom) {
                    (Some(asked), Whom::Room(room)) => asked == room,
                    (Some(_), _) => false,
                    (None, _) => true,
                };
                is_room && is_concerned
            }
            (None, Whom::Room(room)) => question.room.as_ref() == Some(room),
            (None, _) => false,
        };
        let names_sessions = question.user.is_some() || question.message.is_some();
        let shown = |walked: &Walked| {
            let fates: Vec<SessionFate> = match names_sessions {
                true => subjects.iter().take(SESSIONS_MAX).map(|subject| subject.tell(walked)).collect(),
                false => Vec::new(),
            };
            message(walked, fates)
        };
        self.history.messages().filter(is_relevant).take(question.last).map(shown).collect()
    }

    fn since(&self, moment: Millis) -> u64 {
        self.flow.now.saturating_sub(moment)
    }

    fn live_session(&self, session: &Session) -> LiveSession {
        let phase = match session.phase {
            Phase::Waiting { .. } => "waiting",
            Phase::Open => "open",
            Phase::Closing(_) => "closing",
        };
        let stalled_ms = if session.out.is_empty() { 0 } else { self.since(session.progress_at) };
        let rooms = session.seats.iter().filter(|seat| seat.position.is_some()).map(|seat| SessionRoom {
            room_id: self.rooms.get(seat.room).id.to_string(),
            age_ms: self.since(seat.joined_at),
        });
        LiveSession {
            session_id: session.session_id.to_string(),
            user_id: session.user_id.to_string(),
            client_id: session.client_id.to_string(),
            shard: self.index.into(),
            age_ms: self.since(session.opened_at),
            phase: phase.to_owned(),
            queued_frames: session.out.frames() as u64,
            queued_bytes: session.out.bytes() as u64,
            stalled_ms,
            rtt_ms: session.rtt_ms(),
            unacknowledged: session.unacked.len() as u64,
            rooms: rooms.collect(),
        }
    }

    fn ended_session(&self, ended: &Ended) -> EndedSession {
        EndedSession {
            session_id: ended.session_id.to_string(),
            user_id: ended.user_id.to_string(),
            client_id: ended.client_id.to_string(),
            lived_ms: ended.ended_at.saturating_sub(ended.opened_at),
            ended_ms_ago: self.since(ended.ended_at),
            close_code: ended.code.unwrap_or_default().into(),
        }
    }

    fn left_room(&self, left: &Left) -> LeftRoom {
        LeftRoom {
            session_id: left.session_id.to_string(),
            user_id: left.user_id.to_string(),
            room_id: left.room.to_string(),
            reason: left.reason.as_str().to_owned(),
            left_ms_ago: self.since(left.left_at),
        }
    }

    /// Remembers a session that ends now.
    pub(super) fn note_ended(&mut self, key: SessionKey, code: Option<u16>) {
        let Some(session) = self.sessions.get(key) else { return };
        let rooms = session.seats.iter().filter(|seat| seat.position.is_some());
        let ended = Ended {
            key,
            session_id: session.session_id,
            user_id: session.user_id.clone(),
            client_id: session.client_id.clone(),
            opened_at: session.opened_at,
            ended_at: self.flow.now,
            code,
            opened: session.opened,
            ended: self.history.walks(),
            rooms: rooms.map(|seat| (self.rooms.get(seat.room).id.clone(), seat.joined)).collect(),
            unacked: session.unacked.ids(UNACKED_MAX),
        };
        self.history.ended(ended);
    }

    /// Remembers that a session leaves a room now; `stay` is the room and the last walk before it came.
    pub(super) fn note_left(
        &mut self,
        (session_id, user_id): (SessionId, UserId),
        (room, joined): (RoomId, WalkNumber),
        reason: LeftReason,
    ) {
        let left = self.history.walks();
        let left_at = self.flow.now;
        self.history.left(Left { session_id, user_id, room, reason, left_at, joined, left });
    }
}

impl Ended {
    fn was_in(&self, room: &RoomId) -> bool {
        self.rooms.iter().any(|(own, _)| own == room)
    }
}

impl Subject<'_> {
    /// Whether it is in the room, or was as far as is remembered.
    fn was_in(&self, room: &RoomId) -> bool {
        self.stays.iter().any(|(own, ..)| *own == room)
    }

    fn tell(&self, walked: &Walked) -> SessionFate {
        SessionFate {
            session_id: self.session_id.to_string(),
            user_id: self.user_id.to_string(),
            outcome: self.fate(walked).to_owned(),
        }
    }

    fn fate(&self, walked: &Walked) -> &'static str {
        let number = walked.number;
        match &walked.whom {
            Whom::Users => {}
            Whom::All if self.was_there(number) => {}
            Whom::All => return self.absence(number),
            Whom::Room(room) => {
                let mut stays = self.stays.iter().filter(|(own, ..)| *own == room);
                if !stays.clone().any(|(_, from, until)| *from < number && number <= *until) {
                    return match stays.next() {
                        _ if self.is_over_before(number) => "ENDED_BEFORE",
                        None => "NOT_A_MEMBER",
                        Some(_) if stays_begin_after(&self.stays, room, number) => "JOINED_AFTER",
                        Some(_) => "LEFT_BEFORE",
                    };
                }
            }
        }
        match walked.entry.fate(self.session_id, self.user_id) {
            Fate::Is(outcome) => outcome.as_str(),
            Fate::Unknown => "UNKNOWN",
            Fate::Usual => self.usual(walked).as_str(),
            Fate::NoTarget if self.was_there(number) => "NOT_NAMED",
            Fate::NoTarget => self.absence(number),
        }
    }

    fn was_there(&self, number: WalkNumber) -> bool {
        self.opened < number && !self.is_over_before(number)
    }

    fn is_over_before(&self, number: WalkNumber) -> bool {
        self.ended.is_some_and(|ended| ended.ended < number)
    }

    fn absence(&self, number: WalkNumber) -> &'static str {
        if self.is_over_before(number) { "ENDED_BEFORE" } else { "OPENED_AFTER" }
    }

    /// Of a target about which nothing else was noted.
    fn usual(&self, walked: &Walked) -> TargetOutcome {
        let message_id: MessageId = walked.entry.message_id();
        if self.session.is_some_and(|session| session.out.holds(message_id)) {
            return TargetOutcome::Pending;
        }
        if !walked.entry.traits.wants_ack {
            return TargetOutcome::Written;
        }
        let may_be_unacked = match (self.session, self.ended) {
            (Some(session), _) => session.unacked.may_hold(message_id),
            (None, Some(ended)) => ended.unacked.as_ref().is_none_or(|ids| ids.contains(&message_id)),
            (None, None) => true,
        };
        if may_be_unacked { TargetOutcome::Written } else { TargetOutcome::Acked }
    }
}

/// Whether the session came to the room only after this walk, and not twice.
fn stays_begin_after(stays: &[(&RoomId, WalkNumber, WalkNumber)], room: &RoomId, number: WalkNumber) -> bool {
    stays.iter().filter(|(own, ..)| *own == room).all(|(_, from, _)| *from >= number)
}

fn message(walked: &Walked, sessions: Vec<SessionFate>) -> NodeMessage {
    let micros = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    let (target, room_id) = match &walked.whom {
        Whom::Room(room) => ("ROOM", room.to_string()),
        Whom::Users => ("USERS", String::new()),
        Whom::All => ("ALL", String::new()),
    };
    let traits = &walked.entry.traits;
    walked.entry.see(|counts, hops| {
        let words = TargetOutcome::ALL.into_iter().map(|outcome| (outcome, counts.count(outcome)));
        let words = words.filter(|(_, count)| *count > 0);
        let outcomes: BTreeMap<String, u64> =
            words.map(|(outcome, count)| (outcome.as_str().to_owned(), count)).collect();
        NodeMessage {
            message_id: traits.message_id.to_string(),
            target: target.to_owned(),
            room_id,
            class: traits.class.as_str().to_owned(),
            ack: traits.wants_ack,
            came_ms_ago: millis(walked.came.elapsed()),
            wait_us: micros(hops.wait),
            walk_us: micros(hops.walk),
            targets: counts.targets(),
            outcomes,
            sessions,
        }
    })
}
