//! What others do to sessions: closing them, removing them from a room, deleting a room.

use std::sync::Arc;

use roomcast_proto::pubsub::kick_request::Reason;
use roomcast_registry::State as Life;
use roomcast_types::{RoomCard, RoomId, RoomState, SessionId, UserId};
use tokio::time::Instant;

use super::Core;
use crate::{
    drain::TAKEOVER_LINGER,
    ports::{CloseCode, LeftReason, SessionKey, ToShard},
};

/// Which sessions are meant.
#[derive(Debug)]
pub enum Whom {
    /// These.
    Sessions(Vec<SessionId>),
    /// All of a user.
    User(UserId),
}

impl Core {
    fn find(&self, whom: &Whom) -> Vec<SessionKey> {
        let state = self.state();
        match whom {
            Whom::Sessions(ids) => ids.iter().filter_map(|id| state.key_of(*id)).collect(),
            Whom::User(user) => state
                .sessions
                .iter()
                .filter(|(_, session)| session.user == *user)
                .map(|(key, _)| *key)
                .collect(),
        }
    }

    /// Closes sessions; how many there were.
    pub async fn close_sessions(self: &Arc<Self>, whom: &Whom, reason: Reason) -> u32 {
        let found = self.find(whom);
        let count = found.len() as u32;
        match reason {
            Reason::TakenOver => self.take_over(found).await,
            Reason::Kicked | Reason::Evicted => self.close_all(found, CloseCode::Kicked).await,
        }
        count
    }

    /// Later sessions took the slots of these over. While the node drains that is how a session moves: it lives on for
    /// a moment, so that its client misses nothing before it is in its rooms elsewhere.
    pub(crate) async fn take_over(self: &Arc<Self>, sessions: Vec<SessionKey>) {
        if self.life() != Life::Draining {
            return self.close_all(sessions, CloseCode::TakenOver).await;
        }
        let hub = self.clone();
        self.tasks.spawn(async move {
            tokio::time::sleep(TAKEOVER_LINGER).await;
            hub.close_all(sessions, CloseCode::TakenOver).await;
        });
    }

    async fn close_all(&self, sessions: Vec<SessionKey>, code: CloseCode) {
        for session in sessions {
            self.send(session, ToShard::Close { session, code }).await;
        }
    }

    /// Takes sessions out of a room; how many were in it.
    ///
    /// The controller is not told by a `leave`: it has taken the seat already, and a second release might take one
    /// that the user won anew. The session's slice, sent in full, tells what is left.
    pub async fn remove_sessions(&self, whom: &Whom, room: &RoomId, reason: Reason) -> u32 {
        let reason = if reason == Reason::Evicted { LeftReason::Evicted } else { LeftReason::Kicked };
        let mut removed = 0;
        for key in self.find(whom) {
            let Some(place) = self.shards().reserve(key.shard).await else { continue };
            if self.evict(key, room) {
                place.send(ToShard::Left { session: key, request: None, room: room.clone(), reason });
                removed += 1;
            }
        }
        removed
    }

    fn evict(&self, key: SessionKey, room: &RoomId) -> bool {
        let mut state = self.state();
        let state = &mut *state;
        let Some(session) = state.sessions.get_mut(&key) else { return false };
        if let Some(busy) = session.busy_mut(room) {
            busy.is_evicted = true;
        }
        state.outbox.mark_unsure(session.id);
        if !session.remove_room(room) {
            return false;
        }
        state.leave_room(room, key.shard, Instant::now());
        true
    }

    /// A room's card changed; a deleted room is forgotten and its members are told.
    pub async fn room_changed(&self, card: &RoomCard) {
        match card.state {
            RoomState::Active => {
                let mut state = self.state();
                let Some(members) = state.rooms.get_mut(&card.room_id) else { return };
                if card.version > members.card.version {
                    members.learn(&card.room_id, card.into());
                    // Whoever was not told of the card hears of it from here.
                    state.tell_room(&card.room_id);
                }
            }
            RoomState::Deleted => self.room_deleted(card).await,
        }
    }

    async fn room_deleted(&self, card: &RoomCard) {
        // All places first: a room created anew must not meet the end of the old one in a mailbox.
        let mut places = Vec::new();
        for shard in 0..self.shards().len() as u16 {
            places.push(self.shards().reserve(shard).await);
        }
        let mut state = self.state();
        let state = &mut *state;
        let Some(members) = state.rooms.get(&card.room_id) else { return };
        if members.card.version > card.version {
            // Of the room that had this id before.
            return;
        }
        state.rooms.remove(&card.room_id);
        state.withdraw_room(&card.room_id);
        for session in state.sessions.values_mut() {
            session.remove_room(&card.room_id);
        }
        for place in places.into_iter().flatten() {
            place.send(ToShard::RoomDeleted(card.room_id.clone()));
        }
    }
}
