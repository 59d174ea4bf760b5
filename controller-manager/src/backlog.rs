//! Rooms that wait for some work, each once however often it was asked for.

use std::{
    collections::HashSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

use roomcast_types::RoomId;
use tokio::sync::Notify;

/// Rooms that wait; more are refused, and whoever asked falls back on the periodic audit.
const CAPACITY: usize = 100_000;

/// A bounded set of rooms with one worker that takes them.
#[derive(Default)]
pub(crate) struct Backlog {
    waiting: Mutex<HashSet<RoomId>>,
    arrived: Notify,
}

impl Backlog {
    /// Asks for the work on a room; false when too many wait.
    pub(crate) fn push(&self, room: RoomId) -> bool {
        {
            let mut waiting = self.lock();
            if waiting.len() >= CAPACITY && !waiting.contains(&room) {
                return false;
            }
            waiting.insert(room);
        }
        self.arrived.notify_one();
        true
    }

    /// Waits for rooms and takes up to `limit` of them.
    pub(crate) async fn take(&self, limit: usize) -> Vec<RoomId> {
        loop {
            let taken: Vec<RoomId> = {
                let mut waiting = self.lock();
                let some: Vec<RoomId> = waiting.iter().take(limit).cloned().collect();
                for room in &some {
                    waiting.remove(room);
                }
                some
            };
            if !taken.is_empty() {
                return taken;
            }
            self.arrived.notified().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<RoomId>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_room_asked_for_twice_is_worked_on_once() {
        let backlog = Backlog::default();
        for name in ["a", "b", "a"] {
            assert!(backlog.push(RoomId::new(name).unwrap()));
        }
        let mut taken = backlog.take(10).await;
        taken.sort();
        assert_eq!(taken, ["a", "b"].map(|name| RoomId::new(name).unwrap()));
    }
}
