//! Which nodes report to this controller, when they last did, and what they hold.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use roomcast_store::presence::{IndexedSession, Load, NodeRef};
use roomcast_types::{NodeId, SessionId, UserId};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Sessions of a node as it reported them over its present stream: all of them within a minute of its beginning, as a
/// node sends every slice in full once a minute.
#[derive(Default)]
pub(crate) struct Held(Mutex<HashMap<SessionId, IndexedSession>>);

impl Held {
    pub(crate) fn lock(&self) -> MutexGuard<'_, HashMap<SessionId, IndexedSession>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Entry {
    held: Arc<Held>,
    node: NodeRef,
    number: u64,
    reported_at: Instant,
    /// What it last said, and when.
    load: Option<(Load, Instant)>,
    /// Asks the stream to end.
    end: CancellationToken,
    /// Cancelled when it has ended.
    ended: CancellationToken,
}

/// The open streams, one a node: a newer one ends the older.
#[derive(Default)]
pub(crate) struct Streams {
    open: Arc<Mutex<HashMap<NodeId, Entry>>>,
    /// The generation of presence as the health watch last read it.
    generation: watch::Sender<Option<u64>>,
    /// Cancelled when the nodes are to turn to another controller.
    away: CancellationToken,
}

/// An open stream; leaves the list when dropped.
pub(crate) struct OpenStream {
    node: NodeRef,
    number: u64,
    open: Arc<Mutex<HashMap<NodeId, Entry>>>,
    /// What the node reports.
    pub(crate) held: Arc<Held>,
    /// Changes when presence lost its content.
    pub(crate) generation: watch::Receiver<Option<u64>>,
    /// Cancelled when a newer stream of the node came, or the controller stops.
    pub(crate) end: CancellationToken,
    /// Cancelled when the node is to turn to another controller.
    pub(crate) away: CancellationToken,
    _ended: DropGuard,
}

/// The stream that a newer one replaced.
pub(crate) struct Replaced {
    /// Which life of the node it belonged to.
    pub(crate) node: NodeRef,
    /// Cancelled when it applies nothing any more.
    pub(crate) ended: CancellationToken,
}

impl Streams {
    /// Takes a stream up; the one that it replaces was asked to end.
    pub(crate) fn open(&self, node: NodeRef) -> (OpenStream, Option<Replaced>) {
        let (end, ended) = (CancellationToken::new(), CancellationToken::new());
        let mut open = lock(&self.open);
        let older = open.remove(&node.node_id);
        let number = older.as_ref().map_or(1, |older| older.number + 1);
        let held = Arc::<Held>::default();
        let entry = Entry {
            held: held.clone(),
            node: node.clone(),
            number,
            reported_at: Instant::now(),
            load: None,
            end: end.clone(),
            ended: ended.clone(),
        };
        open.insert(node.node_id.clone(), entry);
        drop(open);
        let replaced = older.map(|older| {
            older.end.cancel();
            Replaced { node: older.node, ended: older.ended }
        });
        let (open, generation) = (self.open.clone(), self.generation.subscribe());
        let away = self.away.clone();
        (OpenStream { node, number, open, held, generation, end, away, _ended: ended.drop_guard() }, replaced)
    }

    /// Presence lost its content: every stream asks its node for everything, without waiting for the next comparison.
    pub(crate) fn presence_lost(&self, generation: u64) {
        self.generation.send_replace(Some(generation));
    }

    /// Sessions of a user on nodes that report here, newest first, without asking presence.
    pub(crate) fn sessions_of(&self, user: &UserId) -> Vec<IndexedSession> {
        let held: Vec<Arc<Held>> = lock(&self.open).values().map(|entry| entry.held.clone()).collect();
        let mut found = Vec::new();
        for held in held {
            found.extend(held.lock().values().filter(|session| session.user_id == *user).cloned());
        }
        found.sort_by_key(|session| std::cmp::Reverse(session.entry.stamp));
        found
    }

    /// What a node reported over its stream here; `None` when it has none.
    pub(crate) fn held_by(&self, node: &str) -> Option<Arc<Held>> {
        lock(&self.open).get(node).map(|entry| entry.held.clone())
    }

    /// What this life of a node last said of itself here, and how long ago.
    pub(crate) fn load(&self, node: &NodeRef) -> Option<(Load, Duration)> {
        let open = lock(&self.open);
        let entry = open.get(&node.node_id).filter(|entry| entry.node == *node)?;
        entry.load.map(|(load, at)| (load, at.elapsed()))
    }

    /// How long ago this life of a node last reported; `None` when it has no stream here.
    pub(crate) fn silent_for(&self, node: &NodeRef) -> Option<Duration> {
        let open = lock(&self.open);
        open.get(&node.node_id).filter(|entry| entry.node == *node).map(|entry| entry.reported_at.elapsed())
    }

    /// Streams, and the sessions of their nodes.
    pub(crate) fn totals(&self) -> (usize, u64) {
        let open = lock(&self.open);
        let sessions = open.values().filter_map(|entry| entry.load).map(|(load, _)| load.sessions).sum();
        (open.len(), sessions)
    }

    /// Asks the stream of this life of a node to end.
    pub(crate) fn end(&self, node: &NodeRef) {
        if let Some(entry) = lock(&self.open).get(&node.node_id).filter(|entry| entry.node == *node) {
            entry.end.cancel();
        }
    }

    /// Asks every node, and whichever comes later, to turn to another controller; the streams stand until then.
    pub(crate) fn send_away(&self) {
        self.away.cancel();
    }

    /// Asks every stream to end.
    pub(crate) fn end_all(&self) {
        for entry in lock(&self.open).values() {
            entry.end.cancel();
        }
    }
}

impl OpenStream {
    /// Notes that the node reported.
    pub(crate) fn reported(&self, load: Option<Load>) {
        if let Some(entry) = lock(&self.open).get_mut(&self.node.node_id)
            && entry.number == self.number
        {
            entry.reported_at = Instant::now();
            entry.load = load.map(|load| (load, entry.reported_at)).or(entry.load);
        }
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        let mut open = lock(&self.open);
        if open.get(&self.node.node_id).is_some_and(|entry| entry.number == self.number) {
            open.remove(&self.node.node_id);
        }
    }
}

fn lock(open: &Mutex<HashMap<NodeId, Entry>>) -> MutexGuard<'_, HashMap<NodeId, Entry>> {
    open.lock().unwrap_or_else(PoisonError::into_inner)
}
