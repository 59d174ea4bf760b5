//! How long seats of rooms last, as read a moment ago: when thousands of sessions end at once, each room is asked for once.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use roomcast_types::{Membership, RoomId};
use tokio::time::Instant;

/// For how long what was read counts. Whoever changes a room goes through its absences after twice as long.
pub(crate) const FRESH: Duration = Duration::from_millis(100);
/// Rooms that are remembered.
const ROOMS_MAX: usize = 10_000;

/// See the module.
#[derive(Default)]
pub(crate) struct Memberships(Mutex<HashMap<RoomId, (Instant, Membership)>>);

impl Memberships {
    /// What was read less than [`FRESH`] ago.
    pub(crate) fn get(&self, room: &RoomId) -> Option<Membership> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(room).filter(|(read, _)| read.elapsed() < FRESH).map(|(_, membership)| *membership)
    }

    /// It was read now.
    pub(crate) fn put(&self, room: &RoomId, membership: Membership) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= ROOMS_MAX {
            known.retain(|_, (read, _)| read.elapsed() < FRESH);
        }
        if known.len() < ROOMS_MAX {
            known.insert(room.clone(), (Instant::now(), membership));
        }
    }
}
