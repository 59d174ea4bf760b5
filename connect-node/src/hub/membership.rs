//! Joining and leaving a room: admission by a controller, then the announcement, then the answer.
//!
//! | join | the session is told |
//! |---|---|
//! | refused by the controller | `error` with its code |
//! | no controller answers, or none in time | `error` UNAVAILABLE, and the session stays |
//! | admitted | `joined`, when every lane knows that the room is here |
//! | admitted, and the session is gone, evicted, or the room was deleted meanwhile | what was taken up is given up |

use std::sync::Arc;

use roomcast_types::{CardMark, Code, Fault, Membership, Position, RoomId};
use tokio::time::Instant;

use super::{
    Core,
    session::{Busy, OPERATIONS_MAX, Operation},
    state::Members,
    topic::TopicId,
};
use crate::{
    log::returning::{Since, Standing},
    metrics::{JoinOutcome, Refusal},
    ports::{LeftReason, SessionKey, ToShard},
    report::{
        answer::{busy, retry_after},
        outbox::{Answer, Asked},
    },
    wire::Encoding,
};

/// A join that is sent later than this, of `connect_node.controller_timeout`, would be answered too late.
const SEND_BY: f64 = 0.7;

/// A seat, as the controller gave it.
struct Admitted {
    card: CardMark,
    members: u64,
    /// How far the user has read, in a DURABLE room.
    read: Option<Position>,
}

/// A join that was admitted and announced.
struct Joining<'a> {
    key: SessionKey,
    request: Option<u64>,
    room: &'a RoomId,
    entry: Entry,
    members: u64,
}

/// Whether the session was in the room when it asked.
enum Entry {
    Again,
    New(TopicId),
}

impl Core {
    /// A session wants into or out of a room. Runs at once, or after what it asked about that room before.
    pub(super) fn operate(self: &Arc<Self>, key: SessionKey, room: RoomId, operation: Operation) {
        let mut state = self.state();
        let Some(session) = state.sessions.get_mut(&key) else { return };
        if let Some(busy) = session.busy_mut(&room) {
            match operation {
                Operation::Join { request, .. } if busy.waiting.len() >= OPERATIONS_MAX => {
                    let fault = Fault {
                        retry_after: Some(retry_after()),
                        ..Fault::new(
                            Code::RateLimited,
                            format!("{OPERATIONS_MAX} requests for this room wait"),
                        )
                    };
                    drop(state);
                    let hub = self.clone();
                    self.tasks.spawn(async move { hub.refuse(key, request, room, fault).await });
                }
                // A leave follows a join that was answered: there are no more of them than joins.
                _ => busy.waiting.push_back(operation),
            }
            return;
        }
        session.busy.push(Busy { room: room.clone(), waiting: [].into(), slice_sends: 0, is_evicted: false });
        drop(state);
        self.tasks.spawn(self.clone().run(key, room, operation));
    }

    async fn run(self: Arc<Self>, key: SessionKey, room: RoomId, first: Operation) {
        let mut operation = first;
        loop {
            match operation {
                Operation::Join { request, since } => self.join(key, request, since, &room).await,
                Operation::Leave { request } => self.leave(key, request, &room).await,
            }
            let mut state = self.state();
            let Some(session) = state.sessions.get_mut(&key) else { return };
            let next = session.busy_mut(&room).and_then(|busy| busy.waiting.pop_front());
            match next {
                Some(next) => operation = next,
                None => return session.busy.retain(|busy| busy.room != room),
            }
        }
    }

    async fn join(
        self: &Arc<Self>,
        key: SessionKey,
        request: Option<u64>,
        since: Option<Since>,
        room: &RoomId,
    ) {
        let admitted = match self.admit(key, room).await {
            Ok(admitted) => admitted,
            Err(fault) => {
                self.metrics.joins(JoinOutcome::of(fault.code)).increment(1);
                return self.refuse(key, request, room.clone(), fault).await;
            }
        };
        let Some(entry) = self.enter(key, room, &admitted).await else { return };
        let joining = Joining { key, request, room, entry, members: admitted.members };
        let Some(sequence) = self.room_sequence(room) else {
            let recovered = since.map(|_| false);
            return self.take_part(joining, Standing { recovered, ..Standing::default() }).await;
        };
        sequence.begin(self).await;
        // Of a session that is gone: taking part finds that out, and gives up what was taken up.
        let encoding =
            self.state().sessions.get(&key).map_or(Encoding::default(), |session| session.encoding);
        let returned = sequence.prepare(self, since, encoding).await;
        // The order stands still until the shard has the answer in its mailbox: a join is an item of the log.
        let mut order = sequence.lock().await;
        let user = self.state().sessions.get(&key).map(|session| session.user.clone());
        let mut standing = order.standing(self, returned, user.as_ref(), encoding);
        // Of another life of the log it says nothing.
        let epoch = standing.position.map(|position| position.epoch);
        let read = admitted.read.filter(|read| Some(read.epoch) == epoch);
        standing.read_offset = read.map(|read| read.offset);
        self.take_part(joining, standing).await;
    }

    /// The session takes part from here on.
    async fn take_part(&self, joining: Joining<'_>, standing: Standing) {
        let Joining { key, request, room, entry, members } = joining;
        let Some(place) = self.shards().reserve(key.shard).await else { return };
        let answer = match self.settle(key, room, entry) {
            None => return,
            Some(Ok(())) => ToShard::Joined { session: key, request, room: room.clone(), members, standing },
            Some(Err(fault)) => ToShard::JoinRefused { session: key, request, room: room.clone(), fault },
        };
        place.send(answer);
    }

    async fn admit(&self, key: SessionKey, room: &RoomId) -> Result<Admitted, Fault> {
        let asked = self.ask_to_join(key, room)?;
        match tokio::time::timeout(self.settings.controller_timeout, asked.answer).await {
            Ok(Ok(Answer::Joined { card, members, read })) => Ok(Admitted { card, members, read }),
            Ok(Ok(Answer::Refused(fault))) => Err(fault),
            Ok(Ok(_)) => {
                Err(Fault::new(Code::Internal, "the controller answered something else than a join"))
            }
            Ok(Err(_)) | Err(_) => {
                self.state().outbox.give_up(asked.request);
                self.metrics.controller_refusals(Refusal::Unanswered).increment(1);
                let waited = self.settings.controller_timeout;
                let message =
                    format!("no controller answered within {waited:?}; you stay connected, try again");
                Err(Fault::unavailable(message, retry_after()))
            }
        }
    }

    fn ask_to_join(&self, key: SessionKey, room: &RoomId) -> Result<Asked, Fault> {
        let now = Instant::now();
        let mut state = self.state();
        let state = &mut *state;
        if state.breaker.is_open(now) {
            self.metrics.controller_refusals(Refusal::Away).increment(1);
            let message = "no controller answers at present; you stay connected, try again";
            return Err(Fault::unavailable(message, 2 * retry_after()));
        }
        let gone = || Fault::new(Code::Internal, "the session ended");
        let session = state.sessions.get_mut(&key).ok_or_else(gone)?;
        let sends = state.outbox.sends(session.id);
        if let Some(busy) = session.busy_mut(room) {
            busy.slice_sends = sends;
            busy.is_evicted = false;
        }
        let send_by = now + self.settings.controller_timeout.mul_f64(SEND_BY);
        let asked = state.outbox.join(key, session.id, session.room_change(room), send_by);
        state.report_wake.notify_one();
        asked.ok_or_else(|| {
            self.metrics.controller_refusals(Refusal::Full).increment(1);
            busy()
        })
    }

    /// Takes up the interest and waits until every lane knows; `None` when the session is gone.
    async fn enter(&self, key: SessionKey, room: &RoomId, admitted: &Admitted) -> Option<Entry> {
        let began = Instant::now();
        let (topic, announced) = {
            let mut state = self.state();
            let session = state.sessions.get(&key)?;
            if session.is_in(room) {
                return Some(Entry::Again);
            }
            state.enter_room(room, admitted.card, began)
        };
        if let Some(announced) = announced {
            // An error means that the announcement went with the node.
            let _ = announced.await;
        }
        self.metrics.announce_seconds.record(began.elapsed());
        Some(Entry::New(topic))
    }

    /// Counts the session in. The caller holds a place in the shard's mailbox and sends the answer before anything
    /// else: from now on pushes to the room go to that shard. `None`: the session is gone.
    fn settle(&self, key: SessionKey, room: &RoomId, entry: Entry) -> Option<Result<(), Fault>> {
        let now = Instant::now();
        let mut state = self.state();
        let state = &mut *state;
        let Some(session) = state.sessions.get_mut(&key) else {
            if let Entry::New(topic) = entry {
                state.give_up_room(room, topic, now);
            }
            return None;
        };
        let (is_evicted, slice_sends) =
            session.busy_mut(room).map_or((false, 0), |busy| (busy.is_evicted, busy.slice_sends));
        let is_in = session.is_in(room);
        let fault = match entry {
            _ if is_evicted => Some(Fault::unavailable("the seat was taken away meanwhile", retry_after())),
            Entry::Again if is_in => None,
            Entry::Again => Some(Fault::new(Code::RoomDeleted, format!("room {room} was deleted meanwhile"))),
            Entry::New(topic) => match state.rooms.settle(room, topic) {
                None => Some(Fault::new(Code::RoomDeleted, format!("room {room} was deleted meanwhile"))),
                Some(members) => {
                    members.add(key.shard);
                    if session.rooms.is_empty() {
                        // Most are in one, and a list grows by four.
                        session.rooms.reserve_exact(1);
                    }
                    session.rooms.push(room.clone());
                    None
                }
            },
        };
        if fault.is_some() || state.outbox.sends(session.id) != slice_sends {
            // Its slice was told without this room, or the controller believes it is in: the next one puts it right.
            state.outbox.mark_unsure(session.id);
        }
        let Some(fault) = fault else {
            self.metrics.joins(JoinOutcome::Joined).increment(1);
            return Some(Ok(()));
        };
        if let Entry::New(topic) = entry {
            state.give_up_room(room, topic, now);
        }
        self.metrics.joins(JoinOutcome::of(fault.code)).increment(1);
        Some(Err(fault))
    }

    /// A session acknowledged a message of a room's log: in a DURABLE room that is how far its user has read.
    pub(super) fn note_read(&self, key: SessionKey, room: RoomId, position: Position) {
        let mut state = self.state();
        let is_kept = |members: &Members| members.card.membership == Membership::Durable;
        if !state.rooms.get(&room).is_some_and(is_kept) {
            return;
        }
        let Some(user) = state.sessions.get(&key).map(|session| session.user.clone()) else { return };
        state.reads.note(room, user, position);
    }

    async fn refuse(&self, session: SessionKey, request: Option<u64>, room: RoomId, fault: Fault) {
        self.send(session, ToShard::JoinRefused { session, request, room, fault }).await;
    }

    async fn leave(&self, key: SessionKey, request: Option<u64>, room: &RoomId) {
        let Some(asked) = self.count_out(key, room) else { return };
        let is_heard = !self.state().breaker.is_open(Instant::now());
        if let Some(asked) = asked.filter(|_| is_heard) {
            // Without an answer it is kept and sent again; the client need not wait for that.
            let _ = tokio::time::timeout(self.settings.controller_timeout, asked.answer).await;
        }
        let reason = LeftReason::Left;
        self.send(key, ToShard::Left { session: key, request, room: room.clone(), reason }).await;
    }

    /// `None`: the session is gone. `Some(None)`: the controller is not told.
    fn count_out(&self, key: SessionKey, room: &RoomId) -> Option<Option<Asked>> {
        let mut state = self.state();
        let session = state.sessions.get_mut(&key)?;
        if !session.remove_room(room) {
            // Evicted, or the room was deleted, while the leave was on its way: its seat is gone already.
            return Some(None);
        }
        let (id, change) = (session.id, session.room_change(room));
        let asked = state.outbox.leave(key, id, change);
        if asked.is_none() {
            tracing::warn!(session_id = %id, room_id = %room, "too many leaves wait for a controller; one is dropped");
        }
        state.leave_room(room, key.shard, Instant::now());
        state.report_wake.notify_one();
        Some(asked)
    }
}
