//! Counts who is online in all rooms, when somebody asks: presence keeps no sums, as each of its facts belongs to one
//! room, user or node.
//!
//! The nodes' indexes are read, not the rooms: the work grows with the sessions that are there, and not with the rooms
//! that ever were.

use std::{
    collections::HashSet,
    hash::{BuildHasher, RandomState},
    time::Duration,
};

use futures_util::FutureExt;
use roomcast_store::{Error as StoreError, presence::SLICES};
use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};

use crate::{
    concurrent,
    controller::{Controller, unanswered},
};

/// A count is shown again for so long: who asks often, or with many others, costs one count a second.
const FRESH: Duration = Duration::from_secs(1);
/// How long a count may take.
const WAIT: Duration = Duration::from_secs(3);
/// Slices read at once.
const AT_ONCE: usize = 16;

/// What was counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Count {
    /// (user, room) pairs with a session.
    pub(crate) online_members: u64,
    pub(crate) sessions: u64,
}

/// The last count. One is made at a time; those who ask meanwhile share it.
#[derive(Default)]
pub(crate) struct Census(Mutex<Option<(Instant, Count)>>);

impl Census {
    /// The last count, or a new one when it is older than a second.
    pub(crate) async fn count(&self, controller: &Controller) -> Result<Count, StoreError> {
        let mut last = self.0.lock().await;
        if let Some((at, count)) = *last
            && at.elapsed() < FRESH
        {
            return Ok(count);
        }
        let counted = timeout(WAIT, count(controller)).await;
        let count = counted
            .unwrap_or_else(|_| Err(unanswered("presence", format!("not counted within {WAIT:?}"))))?;
        *last = Some((Instant::now(), count));
        Ok(count)
    }
}

async fn count(controller: &Controller) -> Result<Count, StoreError> {
    // Hashes instead of ids: a pair costs 8 bytes, and two that collide are one too few among billions of billions.
    let (hasher, mut pairs, mut sessions) = (RandomState::new(), HashSet::new(), 0);
    for node in controller.presence.indexed_nodes().await? {
        let slices = (0..SLICES).map(|slice| controller.presence.indexed(&node, slice).boxed());
        for indexed in concurrent::all(slices.collect(), AT_ONCE).await? {
            sessions += indexed.len() as u64;
            for session in &indexed {
                pairs.extend(session.rooms.iter().map(|room| hasher.hash_one((&session.user_id, room))));
            }
        }
    }
    Ok(Count { online_members: pairs.len() as u64, sessions })
}
