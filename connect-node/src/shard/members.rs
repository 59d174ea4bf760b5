//! Who is in which room on this shard: acting on the hub's answers, each in the order of its room.

use roomcast_types::Fault;

use super::{rooms::RoomItem, state::Shard};
use crate::{
    log::returning::Standing,
    ports::{LeftReason, SessionKey},
    wire::ServerFrame,
};

impl Shard {
    /// Acts on an item of a room that is no delivery.
    pub(super) fn room_item(&mut self, room: u32, item: RoomItem) {
        match item {
            RoomItem::Joined { session, request, members, standing } => {
                self.joined(room, session, (request, members), standing);
            }
            RoomItem::Gap(position) => self.room_gap(room, position),
            RoomItem::JoinRefused { session, request, fault } => {
                self.join_refused(room, session, request, &fault);
            }
            RoomItem::Left { session, request, reason } => self.left(room, session, request, reason),
            RoomItem::Deleted => self.room_deleted(room),
            RoomItem::Deliver(_) => debug_assert!(false, "deliveries are walked"),
        }
    }

    /// The session becomes a member, hears `joined` and what it missed, in one step: pushes of the room come behind it.
    fn joined(
        &mut self,
        room: u32,
        key: SessionKey,
        (request, members): (Option<u64>, u64),
        standing: Standing,
    ) {
        let Some(session) = self.sessions.get_mut(key).filter(|session| session.is_open()) else { return };
        // Without a seat the session was taken out of the room while the hub answered: it hears that instead.
        let Some(seat) = session.seats.iter_mut().find(|seat| seat.room == room) else { return };
        seat.unanswered = seat.unanswered.saturating_sub(1);
        let room = self.rooms.get_mut(room);
        if seat.is_wanted && seat.position.is_none() {
            seat.position = Some(room.add(key.slot));
            (seat.joined_at, seat.joined) = (self.flow.now, self.history.walks());
        }
        let frame = ServerFrame::Joined { id: request, room: &room.id, members, standing: &standing };
        let frame = frame.encode(session.encoding);
        self.send(key, frame);
        self.send_missed(key, standing.missed);
    }

    fn join_refused(&mut self, room: u32, key: SessionKey, request: Option<u64>, fault: &Fault) {
        let Some(session) = self.sessions.get_mut(key).filter(|session| session.is_open()) else { return };
        if let Some(seat) = session.seats.iter_mut().find(|seat| seat.room == room) {
            seat.unanswered = seat.unanswered.saturating_sub(1);
            if seat.unanswered == 0 && seat.position.is_none() {
                seat.is_wanted = false;
            }
        }
        let frame = ServerFrame::Error { id: request, room: Some(&self.rooms.get(room).id), fault };
        let frame = frame.encode(session.encoding);
        self.forget_seat(room, key);
        self.send(key, frame);
    }

    fn left(&mut self, room: u32, key: SessionKey, request: Option<u64>, reason: LeftReason) {
        let Some(session) = self.sessions.get_mut(key).filter(|session| session.is_open()) else { return };
        let encoding = session.encoding;
        let (mut position, mut joined) = (None, 0);
        if let Some(seat) = session.seats.iter_mut().find(|seat| seat.room == room) {
            (position, joined) = (seat.position.take(), seat.joined);
            if reason == LeftReason::Left {
                seat.unanswered = seat.unanswered.saturating_sub(1);
            }
            if seat.unanswered == 0 {
                seat.is_wanted = false;
            }
        }
        if let Some(position) = position {
            let session = (session.session_id, session.user_id.clone());
            self.note_left(session, (self.rooms.get(room).id.clone(), joined), reason);
            self.vacate(room, position);
        }
        let frame = ServerFrame::Left { id: request, room: &self.rooms.get(room).id, reason };
        let frame = frame.encode(encoding);
        self.forget_seat(room, key);
        self.send(key, frame);
    }

    fn room_deleted(&mut self, room: u32) {
        let slots: Vec<u32> = self.rooms.get(room).members().collect();
        for slot in slots {
            if let Some(key) = self.key_in_slot(slot) {
                self.left(room, key, None, LeftReason::RoomDeleted);
            }
        }
    }

    /// The session in a slot, by name.
    pub(super) fn key_in_slot(&mut self, slot: u32) -> Option<SessionKey> {
        Some(self.sessions.in_slot(slot)?.key(self.index, slot))
    }

    /// Gives up a seat to which nothing refers any more.
    fn forget_seat(&mut self, room: u32, key: SessionKey) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let unused = session.seats.iter().position(|seat| {
            seat.room == room && !seat.is_wanted && seat.unanswered == 0 && seat.position.is_none()
        });
        if let Some(place) = unused {
            session.seats.swap_remove(place);
            if session.seats.is_empty() {
                session.seats = Vec::new();
            }
            self.rooms.seat_left(room);
        }
    }

    /// Takes a member's place in a room, and tells the one who took it over.
    pub(super) fn vacate(&mut self, room: u32, position: u32) {
        if let Some(moved) = self.rooms.get_mut(room).remove(position) {
            self.moved(room, moved);
        }
    }

    /// A member has another place now.
    pub(super) fn moved(&mut self, room: u32, moved: super::rooms::Moved) {
        let seats = self.sessions.in_slot(moved.slot).map(|session| &mut session.seats);
        if let Some(seat) = seats.and_then(|seats| seats.iter_mut().find(|seat| seat.room == room)) {
            seat.position = Some(moved.position);
        }
    }
}
