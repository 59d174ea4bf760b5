//! `{r:R}`: who is online or absent in rooms, their cards, and the list of absences that become due.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use roomcast_types::{RoomCard, RoomId, RoomState, SessionId, StoreTime, UserId};

use crate::presence::{CardEntry, Exit, Occupancy};

#[derive(Debug, Default)]
pub(super) struct Rooms {
    /// Never an empty room.
    rooms: HashMap<RoomId, Room>,
    /// One entry per absence that has a due time.
    due: BTreeSet<(StoreTime, RoomId, UserId)>,
    buried: HashMap<RoomId, Burial>,
    /// The same burials by the time they end, so that ids that nobody asks about again go as well.
    burials_by_end: BTreeSet<(StoreTime, RoomId)>,
}

/// A user is in `online` or in `absent` or in neither, never in both.
#[derive(Debug, Default)]
struct Room {
    /// Never an empty list.
    online: HashMap<UserId, Vec<SessionId>>,
    absent: HashMap<UserId, Absence>,
    /// Sum over `online`.
    sessions: u64,
    card: Option<(RoomCard, u64)>,
}

#[derive(Debug, Clone, Copy)]
struct Absence {
    since: StoreTime,
    due: Option<StoreTime>,
}

#[derive(Debug, Clone, Copy)]
struct Burial {
    version: u64,
    until: StoreTime,
}

impl Room {
    fn is_empty(&self) -> bool {
        self.online.is_empty() && self.absent.is_empty() && self.card.is_none()
    }

    fn add(&mut self, user: &UserId, session: SessionId) {
        let sessions = self.online.entry(user.clone()).or_default();
        if !sessions.contains(&session) {
            sessions.push(session);
            self.sessions += 1;
        }
    }

    /// How many sessions of the user are left; `None` when this one was not there.
    fn remove(&mut self, user: &UserId, session: SessionId) -> Option<u64> {
        let sessions = self.online.get_mut(user)?;
        let position = sessions.iter().position(|other| *other == session)?;
        sessions.swap_remove(position);
        self.sessions -= 1;
        let left = sessions.len() as u64;
        if left == 0 {
            self.online.remove(user);
        }
        Some(left)
    }

    fn sessions_of(&self, user: &UserId) -> u64 {
        self.online.get(user).map_or(0, |sessions| sessions.len() as u64)
    }
}

impl Rooms {
    pub(super) fn rejoin(
        &mut self,
        room: &RoomId,
        user: &UserId,
        session: SessionId,
        now: StoreTime,
    ) -> bool {
        let holds_seat = self
            .rooms
            .get(room)
            .is_some_and(|found| found.online.contains_key(user) || found.absent.contains_key(user));
        if !holds_seat || self.burial(room, now).is_some() {
            return false;
        }
        self.enter(room, user, session);
        true
    }

    pub(super) fn enter(&mut self, room: &RoomId, user: &UserId, session: SessionId) {
        self.rooms.entry(room.clone()).or_default().add(user, session);
        self.end_absence(room, user);
    }

    pub(super) fn exit(&mut self, room: &RoomId, user: &UserId, session: SessionId, how: Exit) -> u64 {
        let Some(found) = self.rooms.get_mut(room) else { return 0 };
        let Some(left) = found.remove(user, session) else { return found.sessions_of(user) };
        if left == 0 {
            if let Exit::Away { now, due } = how {
                self.start_absence(room, user, Absence { since: now, due });
            }
            self.prune(room);
        }
        left
    }

    pub(super) fn mark_absent(
        &mut self,
        room: &RoomId,
        user: &UserId,
        now: StoreTime,
        due: Option<StoreTime>,
    ) -> bool {
        let found = self.rooms.entry(room.clone()).or_default();
        if found.online.contains_key(user) || found.absent.contains_key(user) {
            return false;
        }
        self.start_absence(room, user, Absence { since: now, due });
        true
    }

    pub(super) fn take_absence(&mut self, room: &RoomId, user: &UserId, before: StoreTime) -> bool {
        let absence = self.rooms.get(room).and_then(|found| found.absent.get(user));
        if absence.is_none_or(|absence| absence.since > before) {
            return false;
        }
        self.end_absence(room, user);
        self.prune(room);
        true
    }

    pub(super) fn evict(&mut self, room: &RoomId, user: &UserId) -> Vec<SessionId> {
        self.end_absence(room, user);
        let Some(found) = self.rooms.get_mut(room) else { return Vec::new() };
        let sessions = found.online.remove(user).unwrap_or_default();
        found.sessions -= sessions.len() as u64;
        self.prune(room);
        sessions
    }

    pub(super) fn occupancy(&self, room: &RoomId) -> Occupancy {
        let Some(found) = self.rooms.get(room) else { return Occupancy::default() };
        Occupancy {
            online: found.online.iter().map(|(user, sessions)| (user.clone(), sessions.clone())).collect(),
            absent: found.absent.iter().map(|(user, absence)| (user.clone(), absence.since)).collect(),
        }
    }

    pub(super) fn online_counts(&self, room: &RoomId) -> (u64, u64) {
        self.rooms.get(room).map_or((0, 0), |found| (found.sessions, found.online.len() as u64))
    }

    pub(super) fn put_card(&mut self, card: &RoomCard, members: u64, now: StoreTime) {
        if let Some(burial) = self.burial(&card.room_id, now) {
            if card.state != RoomState::Active || card.version <= burial.version {
                return;
            }
            self.unbury(&card.room_id);
        }
        let known = &mut self.rooms.entry(card.room_id.clone()).or_default().card;
        match known {
            Some((newer, seats)) if newer.version > card.version => *seats = members,
            _ => *known = Some((card.clone(), members)),
        }
    }

    pub(super) fn card(&self, room: &RoomId, now: StoreTime) -> CardEntry {
        if let Some(burial) = self.burial(room, now) {
            return CardEntry::Buried { version: burial.version };
        }
        match self.rooms.get(room).and_then(|found| found.card.as_ref()) {
            Some((card, members)) => CardEntry::Known { card: card.clone(), members: *members },
            None => CardEntry::Unknown,
        }
    }

    /// A card above `version` belongs to a room that was created anew meanwhile: it stays.
    pub(super) fn bury(&mut self, room: &RoomId, version: u64, now: StoreTime, ttl: Duration) {
        self.drop_ended_burials(now);
        if self.is_above(room, version) {
            return;
        }
        self.forget(room);
        let version = self.unbury(room).map_or(version, |earlier| earlier.version.max(version));
        let until = now.plus(ttl);
        self.buried.insert(room.clone(), Burial { version, until });
        self.burials_by_end.insert((until, room.clone()));
    }

    /// A card above `version` stays, with its room's presence.
    pub(super) fn forget_up_to(&mut self, room: &RoomId, version: u64) {
        if !self.is_above(room, version) {
            self.forget(room);
        }
    }

    fn is_above(&self, room: &RoomId, version: u64) -> bool {
        let known = self.rooms.get(room).and_then(|found| found.card.as_ref());
        known.is_some_and(|(card, _)| card.version > version)
    }

    fn forget(&mut self, room: &RoomId) {
        let Some(found) = self.rooms.remove(room) else { return };
        for (user, absence) in found.absent {
            if let Some(due) = absence.due {
                self.due.remove(&(due, room.clone(), user));
            }
        }
    }

    pub(super) fn due_absences(&self, now: StoreTime, limit: usize) -> Vec<(RoomId, UserId)> {
        let ripe = self.due.iter().take_while(|(due, _, _)| *due <= now).take(limit);
        ripe.map(|(_, room, user)| (room.clone(), user.clone())).collect()
    }

    fn start_absence(&mut self, room: &RoomId, user: &UserId, absence: Absence) {
        if let Some(due) = absence.due {
            self.due.insert((due, room.clone(), user.clone()));
        }
        self.rooms.entry(room.clone()).or_default().absent.insert(user.clone(), absence);
    }

    fn end_absence(&mut self, room: &RoomId, user: &UserId) {
        let absence = self.rooms.get_mut(room).and_then(|found| found.absent.remove(user));
        if let Some(due) = absence.and_then(|absence| absence.due) {
            self.due.remove(&(due, room.clone(), user.clone()));
        }
    }

    fn prune(&mut self, room: &RoomId) {
        if self.rooms.get(room).is_some_and(Room::is_empty) {
            self.rooms.remove(room);
        }
    }

    fn burial(&self, room: &RoomId, now: StoreTime) -> Option<Burial> {
        self.buried.get(room).copied().filter(|burial| burial.until > now)
    }

    fn unbury(&mut self, room: &RoomId) -> Option<Burial> {
        let burial = self.buried.remove(room)?;
        self.burials_by_end.remove(&(burial.until, room.clone()));
        Some(burial)
    }

    fn drop_ended_burials(&mut self, now: StoreTime) {
        while self.burials_by_end.first().is_some_and(|(until, _)| *until <= now) {
            if let Some((_, room)) = self.burials_by_end.pop_first() {
                self.buried.remove(&room);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room() -> RoomId {
        RoomId::new("room").unwrap()
    }

    fn user() -> UserId {
        UserId::new("user").unwrap()
    }

    #[test]
    fn nothing_stays_behind_when_everybody_left() {
        let mut rooms = Rooms::default();
        let (session, now) = (SessionId::random(), StoreTime::from_millis(1));
        let away = Exit::Away { now, due: Some(now) };
        rooms.enter(&room(), &user(), session);
        rooms.exit(&room(), &user(), session, away);
        assert!(rooms.take_absence(&room(), &user(), now));
        rooms.enter(&room(), &user(), session);
        rooms.evict(&room(), &user());
        rooms.enter(&room(), &user(), session);
        rooms.exit(&room(), &user(), session, away);
        rooms.forget(&room());
        assert!(rooms.rooms.is_empty() && rooms.due.is_empty());
    }

    #[test]
    fn burials_of_ids_that_nobody_asks_about_again_go() {
        let mut rooms = Rooms::default();
        let start = StoreTime::from_millis(0);
        for number in 0..100 {
            let room = RoomId::new(format!("room-{number}")).unwrap();
            rooms.bury(&room, 1, start, Duration::from_secs(60));
            rooms.bury(&room, 1, start, Duration::from_secs(30));
        }
        rooms.bury(&room(), 1, start.plus(Duration::from_secs(60)), Duration::from_secs(60));
        assert_eq!((rooms.buried.len(), rooms.burials_by_end.len()), (1, 1));
    }
}
