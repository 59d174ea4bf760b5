//! Applies one change of a session: the index before the fact, the fact, and after a fact is gone its index.

use std::{
    collections::HashMap,
    sync::{Arc, MutexGuard},
    time::Duration,
};

use roomcast_proto::pubsub::{self, Applied, ChangeResult, change_result::Result as Answer};
use roomcast_store::{
    Error as StoreError,
    presence::{Claim, Exit, IndexedSession, NodeRef},
};
use roomcast_types::{Position, RoomId, SessionId, UserId};

use super::{
    change::{Change, Place, What},
    streams::Held,
};
use tokio::time::timeout;

use crate::{
    admission::{self, Budget},
    controller::{Controller, unanswered},
    error::fault,
    kick::{self, Order},
    reads, seats,
};

/// How long a change may take: its node gives up after as long. A change that is dropped half-way leaves its slice to
/// be sent in full, and a leave is sent again.
const WAIT: Duration = Duration::from_secs(1);

/// Applies what one node reports over one stream.
pub(crate) struct Applier {
    pub(crate) controller: Arc<Controller>,
    pub(crate) node: NodeRef,
    /// The node's sessions as it reported them: a join names only a session, the index wants it in full.
    held: Arc<Held>,
}

/// Whether the index has a session in a room.
enum Noted {
    /// It was written now.
    Now,
    /// It was there.
    Already,
    /// The session is in no index: its slice has to come in full.
    Unknown,
}

impl Applier {
    pub(crate) fn new(controller: Arc<Controller>, node: NodeRef, held: Arc<Held>) -> Self {
        Self { controller, node, held }
    }

    /// The answer to a change, and whether the stores hold it.
    pub(crate) async fn apply(&self, change: Change) -> (ChangeResult, bool) {
        let kind = change.what.kind();
        // Closed by nobody. Whoever waits here waits in order, and for no store.
        let _turn = self.controller.changes.acquire().await;
        let work = async {
            match change.what {
                What::Opened(session) => {
                    self.opened(session).await.map(|held| (Answer::SlotHeld(held), true))
                }
                What::Closed(session) => {
                    self.closed(&session).await.map(|()| (Answer::Applied(Applied {}), true))
                }
                What::Join(place) => Ok(self.join(place).await),
                What::Leave(place) => self.leave(&place).await.map(|()| (Answer::Applied(Applied {}), true)),
            }
        };
        let applied = timeout(WAIT, work).await.unwrap_or_else(|_| Err(no_answer()));
        let (answer, is_applied) =
            applied.unwrap_or_else(|failed| (Answer::Error((&fault(&failed)).into()), false));
        self.controller.metrics.change(kind, !matches!(answer, Answer::Error(_)));
        (ChangeResult { request: change.request, result: Some(answer) }, is_applied)
    }

    /// Claims the slot; whether the session holds it.
    async fn opened(&self, session: IndexedSession) -> Result<bool, StoreError> {
        let presence = &self.controller.presence;
        // First: should presence be away, who is here is known at least in this process.
        self.remember(session.clone());
        presence.index(&session).await?;
        let policy = self.controller.config.server.session_policy;
        match presence.claim(&session.user_id, &session.entry, policy).await? {
            Claim::Held { displaced } => {
                kick::in_background(&self.controller, Order::take_over(), displaced);
                Ok(true)
            }
            Claim::Lost { .. } => {
                self.forget(session.entry.session_id);
                presence.unindex(&self.node, session.entry.session_id).await?;
                Ok(false)
            }
        }
    }

    async fn closed(&self, session: &IndexedSession) -> Result<(), StoreError> {
        let id = session.entry.session_id;
        let mut rooms = session.rooms.clone();
        let known = self.sessions().get(&id).map(|known| known.rooms.clone()).unwrap_or_default();
        rooms.extend(known);
        rooms.sort();
        rooms.dedup();
        self.drop_session(&session.user_id, id, &rooms).await?;
        self.forget(id);
        Ok(())
    }

    /// Takes a session that ended out of everything.
    pub(super) async fn drop_session(
        &self,
        user: &UserId,
        session: SessionId,
        rooms: &[RoomId],
    ) -> Result<(), StoreError> {
        drop_session(&self.controller, &self.node, user, session, rooms).await
    }

    async fn join(&self, place: Place) -> (Answer, bool) {
        let Place { session, room, who } = place;
        let (mut budget, user) = (Budget::start(), who.user_id.clone());
        let noted = self.note_room(session, &room, &mut budget).await;
        match admission::join(&self.controller, &room, who, session, &mut budget).await {
            Ok(joined) => {
                let read = reads::position(&self.controller, &joined.card, &user).await;
                let (read_epoch, read_offset) = Position::to_wire(read);
                let (card, members) = (Some((&joined.card).into()), joined.members);
                let answer = pubsub::Joined { card, members, read_epoch, read_offset };
                (Answer::Joined(answer), joined.is_present && !matches!(noted, Ok(Noted::Unknown) | Err(_)))
            }
            Err(refused) => {
                // A session that is in the room already stays in it.
                let is_applied =
                    matches!(noted, Ok(Noted::Already)) || self.unnote_room(session, &room).await.is_ok();
                (Answer::Error((&refused).into()), is_applied)
            }
        }
    }

    async fn leave(&self, place: &Place) -> Result<(), StoreError> {
        seats::leave(&self.controller, &place.room, &place.who.user_id, place.session).await?;
        self.unnote_room(place.session, &place.room).await
    }

    /// Writes a room into the session's index.
    async fn note_room(
        &self,
        session: SessionId,
        room: &RoomId,
        budget: &mut Budget,
    ) -> Result<Noted, StoreError> {
        if !self.sessions().contains_key(&session) {
            self.load(session.slice(), budget).await?;
        }
        let indexed = {
            let mut sessions = self.sessions();
            let Some(known) = sessions.get_mut(&session) else { return Ok(Noted::Unknown) };
            if known.rooms.contains(room) {
                return Ok(Noted::Already);
            }
            known.rooms.push(room.clone());
            known.clone()
        };
        budget.presence(&self.controller, self.controller.presence.index(&indexed)).await?;
        Ok(Noted::Now)
    }

    async fn unnote_room(&self, session: SessionId, room: &RoomId) -> Result<(), StoreError> {
        let indexed = {
            let mut sessions = self.sessions();
            let Some(known) = sessions.get_mut(&session) else { return Ok(()) };
            known.rooms.retain(|other| other != room);
            known.clone()
        };
        self.controller.promptly(self.controller.presence.index(&indexed)).await
    }

    /// Reads a slice of the index: what the node reported over an earlier stream.
    async fn load(&self, slice: usize, budget: &mut Budget) -> Result<(), StoreError> {
        let read = self.controller.presence.indexed(&self.node, slice);
        let indexed = budget.presence(&self.controller, read).await?;
        let mut sessions = self.sessions();
        for session in indexed {
            sessions.entry(session.entry.session_id).or_insert(session);
        }
        Ok(())
    }

    pub(super) fn remember(&self, session: IndexedSession) {
        self.sessions().insert(session.entry.session_id, session);
    }

    pub(super) fn forget(&self, session: SessionId) {
        self.sessions().remove(&session);
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<SessionId, IndexedSession>> {
        self.held.lock()
    }
}

fn no_answer() -> StoreError {
    unanswered("store", format!("a change was not applied within {WAIT:?}"))
}

/// Takes a session that ended out of its rooms, off its user and out of the index: in this order, so that a sweep
/// that was interrupted finds what is left.
pub(crate) async fn drop_session(
    controller: &Controller,
    node: &NodeRef,
    user: &UserId,
    session: SessionId,
    rooms: &[RoomId],
) -> Result<(), StoreError> {
    for room in rooms {
        exit_away(controller, room, user, session).await?;
    }
    controller.presence.drop_session(user, session).await?;
    controller.presence.unindex(node, session).await
}

/// A session is gone from a room, not by its own wish: its user's seat waits.
pub(crate) async fn exit_away(
    controller: &Controller,
    room: &RoomId,
    user: &UserId,
    session: SessionId,
) -> Result<(), StoreError> {
    let now = controller.clock.now().await;
    let due = controller.due(controller.membership(room).await, now);
    controller.presence.exit(room, user, session, Exit::Away { now, due }).await?;
    Ok(())
}
