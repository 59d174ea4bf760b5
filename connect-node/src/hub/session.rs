//! One session as the hub knows it.

use std::collections::VecDeque;

use roomcast_proto::pubsub::{RoomChange, SessionRecord};
use roomcast_types::{ClientId, RoomId, SessionId, StoreTime, UserId};
use tokio::time::Instant;

use super::{inbox::Page, topic::TopicId};
use crate::{log::returning::Since, wire::Encoding};

/// What a session asked for about one room. They run one after the other, so that answers keep the order of the
/// questions and the last one stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Into the room.
    Join {
        /// Id of the client's frame.
        request: Option<u64>,
        /// The position it catches up from.
        since: Option<Since>,
    },
    /// Out of it.
    Leave {
        /// Id of the client's frame.
        request: Option<u64>,
    },
}

/// Operations of one room that wait behind one that runs.
pub const OPERATIONS_MAX: usize = 16;

/// A room with an operation under way.
#[derive(Debug)]
pub struct Busy {
    /// Which.
    pub room: RoomId,
    /// What comes next.
    pub waiting: VecDeque<Operation>,
    /// How often the session's slice had been sent when a join began.
    pub slice_sends: u64,
    /// The seat was taken away meanwhile: a join that is under way must not succeed.
    pub is_evicted: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Session {
    pub id: SessionId,
    pub user: UserId,
    pub client_id: ClientId,
    pub user_name: String,
    /// In which its frames are written.
    pub encoding: Encoding,
    pub opened_at: Instant,
    /// Fixed when it is first told with the store's clock known.
    pub stamp: Option<StoreTime>,
    /// Which life of the interest in its user it entered.
    pub user_topic: Option<TopicId>,
    /// Whether its welcome was sent.
    pub is_open: bool,
    /// What of the inbox was sent and not acknowledged.
    pub inbox: Option<Box<Page>>,
    pub rooms: Vec<RoomId>,
    pub busy: Vec<Busy>,
}

impl Session {
    /// Whether it is in the room.
    pub fn is_in(&self, room: &RoomId) -> bool {
        self.rooms.contains(room)
    }

    /// Takes the room out of the record; whether it was in.
    pub fn remove_room(&mut self, room: &RoomId) -> bool {
        match self.rooms.iter().position(|joined| joined == room) {
            Some(index) => {
                self.rooms.swap_remove(index);
                true
            }
            None => false,
        }
    }

    /// The operation under way for a room.
    pub fn busy_mut(&mut self, room: &RoomId) -> Option<&mut Busy> {
        self.busy.iter_mut().find(|busy| busy.room == *room)
    }

    /// The change of one room, for a report.
    pub fn room_change(&self, room: &RoomId) -> RoomChange {
        RoomChange {
            session_id: self.id.as_bytes().to_vec(),
            user_id: self.user.to_string(),
            user_name: self.user_name.clone(),
            room_id: room.to_string(),
        }
    }

    /// The record for a report, in the rooms given.
    pub fn record<'a>(&self, stamp_ms: i64, rooms: impl Iterator<Item = &'a RoomId>) -> SessionRecord {
        SessionRecord {
            session_id: self.id.as_bytes().to_vec(),
            user_id: self.user.to_string(),
            client_id: self.client_id.to_string(),
            user_name: self.user_name.clone(),
            stamp_ms,
            room_ids: rooms.map(RoomId::to_string).collect(),
        }
    }
}
