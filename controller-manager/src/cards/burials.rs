//! Deletions that presence could not be told of: kept here, and true here, until it answers.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use roomcast_types::RoomId;
use tokio::sync::Notify;

/// Deletions that wait; each holds an id.
const CAPACITY: usize = 100_000;

/// Rooms by id, with the version of their deletion.
#[derive(Default)]
pub(crate) struct Burials {
    waiting: Mutex<HashMap<RoomId, u64>>,
    arrived: Notify,
}

impl Burials {
    /// Has a room buried as soon as presence answers; false when too many wait.
    pub(super) fn push(&self, room: RoomId, version: u64) -> bool {
        {
            let mut waiting = self.lock();
            if waiting.len() >= CAPACITY && !waiting.contains_key(&room) {
                return false;
            }
            let known = waiting.entry(room).or_insert(version);
            *known = version.max(*known);
        }
        self.arrived.notify_one();
        true
    }

    /// Whether a room was deleted without presence knowing.
    pub(crate) fn contains(&self, room: &RoomId) -> bool {
        self.lock().contains_key(room)
    }

    /// The room was created anew by request.
    pub(super) fn forget(&self, room: &RoomId) {
        self.lock().remove(room);
    }

    /// Waits for a deletion; it stays until [`Self::done`].
    pub(super) async fn next(&self) -> (RoomId, u64) {
        loop {
            let first = self.lock().iter().next().map(|(room, version)| (room.clone(), *version));
            if let Some(found) = first {
                return found;
            }
            self.arrived.notified().await;
        }
    }

    /// Presence knows of this deletion; a later one of the same id stays.
    pub(super) fn done(&self, room: &RoomId, version: u64) {
        let mut waiting = self.lock();
        if waiting.get(room).is_some_and(|known| *known <= version) {
            waiting.remove(room);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RoomId, u64>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
