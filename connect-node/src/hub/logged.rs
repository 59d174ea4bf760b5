//! What the hub knows of logs: which sequence a message belongs to, and whom a gap or a conflict concerns.

use std::sync::Arc;

use roomcast_proto::pubsub::{
    Deliver, PositionConflict, deliver::Target, position_conflict, room_card, up_item::Item,
};
use roomcast_types::{Epoch, LogPolicy, Position, RoomId, UserId};

use super::{Core, state::State};
use crate::{
    log::sequence::{Key, Sequence},
    ports::{DeliveryTarget, ToShard},
};

impl Core {
    /// The sequence of a message with a place; `None` for one that has none, or for whom nobody is here.
    pub fn sequence_of(&self, message: &Deliver) -> Option<Arc<Sequence>> {
        if message.epoch == 0 {
            return None;
        }
        let mut state = self.state();
        match message.target.as_ref()? {
            Target::RoomId(room) => {
                let members = state.rooms.get_mut(room.as_str())?;
                if members.sequence.is_none() {
                    let policy = match members.card.log {
                        // The card changed a moment ago, and the message outran it.
                        LogPolicy::None => LogPolicy::Recent,
                        policy => policy,
                    };
                    members.sequence = Some(Sequence::unplaced(Key::Room(RoomId::new(room).ok()?, policy)));
                }
                members.sequence.clone()
            }
            Target::Users(users) => {
                let [user] = &users.user_ids[..] else { return None };
                let sessions = state.users.get_mut(user.as_str())?;
                if sessions.sequence.is_none() {
                    sessions.sequence = Some(Sequence::unplaced(Key::User(UserId::new(user).ok()?)));
                }
                sessions.sequence.clone()
            }
            Target::All(_) => None,
        }
    }

    /// The sequence of a room that is here.
    pub fn room_sequence(&self, room: &RoomId) -> Option<Arc<Sequence>> {
        self.state().rooms.get(room)?.sequence.clone()
    }

    /// The sequence of a user who is here.
    pub fn user_sequence(&self, user: &UserId) -> Option<Arc<Sequence>> {
        self.state().users.get(user)?.sequence.clone()
    }

    /// Those of all rooms and users.
    pub fn sequences(&self) -> Vec<Arc<Sequence>> {
        let state = self.state();
        let rooms = state.rooms.iter().filter_map(|(_, _, members)| members.sequence.as_ref());
        let users = state.users.iter().filter_map(|(_, _, sessions)| sessions.sequence.as_ref());
        rooms.chain(users).cloned().collect()
    }

    /// gRPC addresses of the push-managers whose lane is in sync.
    pub fn linked_managers(&self) -> Vec<String> {
        let state = self.state();
        let linked = state.lanes.iter().filter(|lane| lane.is_in_sync());
        linked.map(|lane| lane.address()).filter(|address| !address.is_empty()).collect()
    }

    /// Sends a `gap` frame to whoever is there, behind the messages before it.
    pub async fn tell_gap(&self, key: &Key, position: Position) {
        let targets = match key {
            Key::Room(room, _) => self.state().room_gap(room),
            Key::User(user) => self.state().user_gap(user, self.shards().len()),
        };
        for (shard, target) in targets {
            // False: the shard has ended, and its sessions with it.
            let _ = self.shards().send(shard, ToShard::Gap { target, position }).await;
        }
    }

    /// Has one push-manager open a new epoch of a log.
    pub fn tell_conflict(&self, key: &Key, epoch: Epoch) {
        let (log, policy) = match key {
            Key::Room(room, policy) => (position_conflict::Log::RoomId(room.to_string()), *policy),
            Key::User(user) => (position_conflict::Log::UserId(user.to_string()), LogPolicy::Recent),
        };
        tracing::warn!(log = ?log, %epoch, "the store of a log went back in time");
        self.metrics.conflicts.increment(1);
        let policy = room_card::Log::from(policy).into();
        let conflict = PositionConflict { log: Some(log), epoch: epoch.as_u64(), policy };
        let lane = self.state().lanes.iter().find(|lane| lane.is_in_sync()).cloned();
        if let Some(lane) = lane {
            lane.push(Item::Conflict(conflict));
        }
    }
}

impl State {
    fn room_gap(&self, room: &RoomId) -> Vec<(u16, DeliveryTarget)> {
        let Some(members) = self.rooms.get(room) else { return Vec::new() };
        members.shards().map(|shard| (shard, DeliveryTarget::Room(room.clone()))).collect()
    }

    fn user_gap(&self, user: &UserId, shards: usize) -> Vec<(u16, DeliveryTarget)> {
        let keys = self.users.get(user).map(|sessions| sessions.keys.as_slice()).unwrap_or_default();
        let of =
            |shard: u16| keys.iter().filter(move |key| key.shard == shard).map(|key| (*key, 0)).collect();
        let targets = (0..shards as u16).map(|shard| (shard, DeliveryTarget::Sessions(of(shard))));
        targets
            .filter(|(_, target)| !matches!(target, DeliveryTarget::Sessions(none) if none.is_empty()))
            .collect()
    }
}
