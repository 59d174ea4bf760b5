//! Finds whom a push reaches on this node.

use std::collections::HashSet;

use roomcast_proto::pubsub::{Deliver, deliver::Target};
use roomcast_types::{RoomId, UserId};

use super::state::State;
use crate::ports::{DeliveryTarget, SessionKey};

/// What a push is addressed to; also the label of the metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Members of a room.
    Room,
    /// Named users.
    Users,
    /// Everybody.
    All,
}

impl State {
    /// Shards with targets, and what each has to walk. Nothing for a room or user that is not here.
    pub fn targets(&self, deliver: &Deliver, shards: usize) -> (Kind, Vec<(u16, DeliveryTarget)>) {
        match &deliver.target {
            Some(Target::RoomId(room)) => (Kind::Room, self.room_targets(room)),
            Some(Target::Users(users)) => (Kind::Users, self.user_targets(&users.user_ids, shards)),
            Some(Target::All(_)) => {
                (Kind::All, (0..shards as u16).map(|shard| (shard, DeliveryTarget::All)).collect())
            }
            None => (Kind::All, Vec::new()),
        }
    }

    fn room_targets(&self, room: &str) -> Vec<(u16, DeliveryTarget)> {
        let Some((members, room)) = self.rooms.get(room).zip(RoomId::new(room).ok()) else {
            return Vec::new();
        };
        members.shards().map(|shard| (shard, DeliveryTarget::Room(room.clone()))).collect()
    }

    fn user_targets(&self, users: &[String], shards: usize) -> Vec<(u16, DeliveryTarget)> {
        if let [user] = users
            && let Some(target) = self.one_session(user)
        {
            return vec![target];
        }
        let mut by_shard: Vec<Vec<(SessionKey, u32)>> = vec![Vec::new(); shards];
        for (index, user) in users.iter().enumerate() {
            for key in self.users.get(user.as_str()).iter().flat_map(|sessions| &sessions.keys) {
                by_shard[usize::from(key.shard)].push((*key, index as u32));
            }
        }
        let with_targets = by_shard.into_iter().enumerate().filter(|(_, sessions)| !sessions.is_empty());
        with_targets.map(|(shard, sessions)| (shard as u16, DeliveryTarget::Sessions(sessions))).collect()
    }

    /// Of a user with a single session, as most are.
    fn one_session(&self, user: &str) -> Option<(u16, DeliveryTarget)> {
        let [key] = self.users.get(user)?.keys[..] else { return None };
        Some((key.shard, DeliveryTarget::Sessions(vec![(key, 0)])))
    }
}

/// The users that a push leaves out; `None` for nobody.
pub fn excluded(deliver: &Deliver) -> Option<std::sync::Arc<HashSet<UserId>>> {
    if deliver.exclude_user_ids.is_empty() {
        return None;
    }
    let users = deliver.exclude_user_ids.iter().filter_map(|user| UserId::new(user).ok());
    Some(std::sync::Arc::new(users.collect()))
}
