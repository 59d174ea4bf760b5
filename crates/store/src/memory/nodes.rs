//! `{n:N:I}`: the sessions of each life of each node, by report slice, the versions of the slices, and its load.

use std::{collections::HashMap, time::Duration};

use roomcast_types::{SessionId, StoreTime};

use crate::presence::{IndexedSession, Load, NodeRef, SLICES};

#[derive(Debug, Default)]
pub(super) struct Nodes {
    nodes: HashMap<NodeRef, Index>,
    /// With the end of their time. Apart from the indexes: a load is no reason to look for sessions.
    loads: HashMap<NodeRef, (Load, StoreTime)>,
}

#[derive(Debug)]
struct Index {
    slices: [HashMap<SessionId, IndexedSession>; SLICES],
    versions: [u64; SLICES],
}

impl Default for Index {
    fn default() -> Self {
        Self { slices: std::array::from_fn(|_| HashMap::new()), versions: [0; SLICES] }
    }
}

impl Nodes {
    pub(super) fn index(&mut self, session: &IndexedSession) {
        let id = session.entry.session_id;
        let index = self.nodes.entry(session.entry.node.clone()).or_default();
        index.slices[id.slice()].insert(id, session.clone());
    }

    pub(super) fn unindex(&mut self, node: &NodeRef, session: SessionId) {
        if let Some(index) = self.nodes.get_mut(node) {
            index.slices[session.slice()].remove(&session);
        }
    }

    pub(super) fn slice_versions(&self, node: &NodeRef) -> Option<[u64; SLICES]> {
        self.nodes.get(node).map(|index| index.versions)
    }

    /// Every slice given is below [`SLICES`].
    pub(super) fn set_slice_versions(&mut self, node: &NodeRef, versions: &[(usize, u64)]) {
        let index = self.nodes.entry(node.clone()).or_default();
        for (slice, version) in versions {
            index.versions[*slice] = index.versions[*slice].max(*version);
        }
    }

    pub(super) fn indexed(&self, node: &NodeRef, slice: usize) -> Vec<IndexedSession> {
        let slice = self.nodes.get(node).and_then(|index| index.slices.get(slice));
        slice.map(|sessions| sessions.values().cloned().collect()).unwrap_or_default()
    }

    pub(super) fn all(&self) -> Vec<NodeRef> {
        self.nodes.keys().cloned().collect()
    }

    pub(super) fn set_load(&mut self, node: &NodeRef, load: Load, now: StoreTime, ttl: Duration) {
        self.loads.retain(|_, (_, until)| now < *until);
        self.loads.insert(node.clone(), (load, now.plus(ttl)));
    }

    pub(super) fn load(&self, node: &NodeRef, now: StoreTime) -> Option<(Load, Duration)> {
        let (load, until) = self.loads.get(node).filter(|(_, until)| now < *until)?;
        let left_ms = until.as_millis() - now.as_millis();
        Some((*load, Duration::from_millis(left_ms.unsigned_abs())))
    }

    pub(super) fn forget(&mut self, node: &NodeRef) {
        self.loads.remove(node);
        self.nodes.remove(node);
    }
}
