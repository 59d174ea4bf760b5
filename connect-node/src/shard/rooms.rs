//! The shard's part of every room: its members here, and the commands that wait for their turn in it.

use std::collections::{HashMap, VecDeque};

use roomcast_types::{Fault, Position, RoomId};
use slab::Slab;

use super::batch::{Message, Walk};
use crate::{
    log::returning::Standing,
    ports::{LeftReason, SessionKey},
};

/// A place whose member left during a walk.
const VACANT: u32 = u32::MAX;

/// What happens in a room, in the order of the mailbox.
#[derive(Debug)]
pub(super) enum RoomItem {
    Deliver(Message),
    Joined {
        session: SessionKey,
        request: Option<u64>,
        members: u64,
        standing: Standing,
    },
    JoinRefused {
        session: SessionKey,
        request: Option<u64>,
        fault: Fault,
    },
    Left {
        session: SessionKey,
        request: Option<u64>,
        reason: LeftReason,
    },
    /// Messages may be missing: the frame that says so.
    Gap(Position),
    Deleted,
}

/// One room.
#[derive(Debug)]
pub(super) struct Room {
    pub(super) id: RoomId,
    /// Slots of sessions; walked in this order.
    members: Vec<u32>,
    vacant: u32,
    /// Seats of sessions that refer to this room, members or not.
    seats: u32,
    pub(super) backlog: VecDeque<RoomItem>,
    pub(super) walk: Option<Walk>,
    /// It is in the agenda's queue.
    pub(super) is_queued: bool,
    /// A walk is under way: members keep their places.
    is_walked: bool,
}

/// A member that moved to another place of its room.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moved {
    pub(super) slot: u32,
    pub(super) position: u32,
}

impl Room {
    /// Places, vacant ones included.
    pub(super) fn places(&self) -> usize {
        self.members.len()
    }

    /// The slot of the member at this place; `None` when it left during the walk.
    pub(super) fn member(&self, place: usize) -> Option<u32> {
        self.members.get(place).copied().filter(|slot| *slot != VACANT)
    }

    /// The slots of all members.
    pub(super) fn members(&self) -> impl Iterator<Item = u32> {
        self.members.iter().copied().filter(|slot| *slot != VACANT)
    }

    /// Puts a session at the end. Never during a walk: what adds members waits in the backlog.
    pub(super) fn add(&mut self, slot: u32) -> u32 {
        debug_assert!(!self.is_walked);
        self.members.push(slot);
        (self.members.len() - 1) as u32
    }

    /// Takes the member at this place out; another may take the place.
    pub(super) fn remove(&mut self, position: u32) -> Option<Moved> {
        if self.is_walked {
            self.members[position as usize] = VACANT;
            self.vacant += 1;
            return None;
        }
        self.members.swap_remove(position as usize);
        self.members.get(position as usize).map(|slot| Moved { slot: *slot, position })
    }

    pub(super) fn begin_walk(&mut self) {
        self.is_walked = true;
    }

    /// Closes the gaps that members left during the walk.
    pub(super) fn end_walk(&mut self) -> Vec<Moved> {
        self.is_walked = false;
        let mut moved = Vec::new();
        if std::mem::take(&mut self.vacant) > 0 {
            let first = self.members.iter().position(|slot| *slot == VACANT).unwrap_or(0);
            self.members.retain(|slot| *slot != VACANT);
            moved.extend(
                (first..self.members.len())
                    .map(|position| Moved { slot: self.members[position], position: position as u32 }),
            );
        }
        moved
    }
}

/// All rooms of the shard.
#[derive(Debug, Default)]
pub(super) struct Rooms {
    slab: Slab<Room>,
    // Keyed hashing: clients choose the ids.
    places: HashMap<RoomId, u32>,
}

impl Rooms {
    pub(super) fn find(&self, id: &RoomId) -> Option<u32> {
        self.places.get(id).copied()
    }

    pub(super) fn get(&self, room: u32) -> &Room {
        &self.slab[room as usize]
    }

    pub(super) fn get_mut(&mut self, room: u32) -> &mut Room {
        &mut self.slab[room as usize]
    }

    /// Finds or makes the room. A room without seats stays until [`Self::release`].
    pub(super) fn obtain(&mut self, id: &RoomId) -> u32 {
        if let Some(room) = self.find(id) {
            return room;
        }
        let room = self.slab.insert(Room {
            id: id.clone(),
            members: Vec::new(),
            vacant: 0,
            seats: 0,
            backlog: VecDeque::new(),
            walk: None,
            is_queued: false,
            is_walked: false,
        }) as u32;
        self.places.insert(id.clone(), room);
        room
    }

    pub(super) fn seat_taken(&mut self, room: u32) {
        self.get_mut(room).seats += 1;
    }

    pub(super) fn seat_left(&mut self, room: u32) {
        self.get_mut(room).seats -= 1;
        self.release(room);
    }

    /// Forgets the room if nothing refers to it.
    pub(super) fn release(&mut self, room: u32) {
        let this = self.get(room);
        if this.seats == 0 && !this.is_queued && !this.is_walked && this.backlog.is_empty() {
            let gone = self.slab.remove(room as usize);
            self.places.remove(&gone.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room() -> (Rooms, u32) {
        let mut rooms = Rooms::default();
        let room = rooms.obtain(&RoomId::new("r").unwrap());
        (rooms, room)
    }

    #[test]
    fn members_that_leave_during_a_walk_keep_the_others_in_place() {
        let (mut rooms, at) = room();
        let room = rooms.get_mut(at);
        (10..15).for_each(|slot| assert_eq!(room.add(slot), slot - 10));
        room.begin_walk();
        assert!(room.remove(1).is_none() && room.remove(4).is_none());
        assert_eq!(room.members().collect::<Vec<_>>(), [10, 12, 13]);
        let moved: Vec<_> = room.end_walk().iter().map(|moved| (moved.slot, moved.position)).collect();
        assert_eq!(moved, [(12, 1), (13, 2)]);
    }

    #[test]
    fn between_walks_the_last_member_takes_a_free_place() {
        let (mut rooms, at) = room();
        let room = rooms.get_mut(at);
        (10..13).for_each(|slot| _ = room.add(slot));
        let moved = room.remove(0).unwrap();
        assert_eq!((moved.slot, moved.position), (12, 0));
        assert!(room.remove(1).is_none());
        assert_eq!(room.members().collect::<Vec<_>>(), [12]);
    }

    #[test]
    fn a_room_is_forgotten_with_its_last_seat_but_not_during_its_walk() {
        let (mut rooms, at) = room();
        rooms.seat_taken(at);
        rooms.get_mut(at).begin_walk();
        rooms.seat_left(at);
        assert_eq!(rooms.find(&RoomId::new("r").unwrap()), Some(at));
        rooms.get_mut(at).end_walk();
        rooms.release(at);
        assert_eq!(rooms.find(&RoomId::new("r").unwrap()), None);
    }
}
