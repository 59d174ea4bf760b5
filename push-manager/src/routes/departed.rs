//! Who was on nodes that died: their routes are gone at once, and yet somebody asks what became of them.

use std::{
    collections::{HashSet, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use roomcast_types::{NodeId, RoomId, UserId};
use tokio::time::Instant;

/// How long a dead node is remembered.
const KEPT_FOR: Duration = Duration::from_secs(600);
/// Dead nodes remembered, and the rooms and users of all of them together.
const NODES_MAX: usize = 64;
const KEYS_MAX: usize = 500_000;

/// A node that died with what it held.
#[derive(Debug)]
struct Gone {
    node_id: NodeId,
    died: Instant,
    rooms: HashSet<RoomId>,
    users: HashSet<UserId>,
}

impl Gone {
    fn keys(&self) -> usize {
        self.rooms.len() + self.users.len()
    }
}

/// How long ago a node died, and what it held then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Departure {
    /// Since its death.
    pub age: Duration,
    /// The user asked about.
    pub held_user: bool,
    /// The room asked about.
    pub held_room: bool,
}

/// The last nodes that died, oldest first.
#[derive(Debug, Default)]
pub struct Departed {
    nodes: Mutex<VecDeque<Gone>>,
}

impl Departed {
    /// A node died that held these.
    pub fn add(&self, node_id: NodeId, rooms: HashSet<RoomId>, users: HashSet<UserId>) {
        let now = Instant::now();
        let mut nodes = self.lock();
        nodes.push_back(Gone { node_id, died: now, rooms, users });
        let is_too_much = |nodes: &VecDeque<Gone>| {
            nodes.len() > NODES_MAX || nodes.iter().map(Gone::keys).sum::<usize>() > KEYS_MAX
        };
        while nodes.front().is_some_and(|oldest| now > oldest.died + KEPT_FOR) || is_too_much(&nodes) {
            nodes.pop_front();
        }
    }

    /// The nodes that died with the user or the room, each with its last death.
    pub fn holders(&self, user: Option<&UserId>, room: Option<&RoomId>) -> Vec<(NodeId, Departure)> {
        let nodes = self.lock();
        let mut found: Vec<(NodeId, Departure)> = Vec::new();
        for gone in nodes.iter().rev() {
            let held_user = user.is_some_and(|user| gone.users.contains(user));
            let held_room = room.is_some_and(|room| gone.rooms.contains(room));
            let is_known = found.iter().any(|(node_id, _)| *node_id == gone.node_id);
            if (held_user || held_room) && !is_known {
                let age = gone.died.elapsed();
                found.push((gone.node_id.clone(), Departure { age, held_user, held_room }));
            }
        }
        found.retain(|(_, departure)| departure.age <= KEPT_FOR);
        found
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Gone>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
