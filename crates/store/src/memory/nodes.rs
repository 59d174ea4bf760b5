//! `{n:N:I}`: the sessions of each life of each node, by report slice, and the versions of the slices.

use std::collections::HashMap;

use roomcast_types::SessionId;

use crate::presence::{IndexedSession, NodeRef, SLICES};

#[derive(Debug, Default)]
pub(super) struct Nodes {
    nodes: HashMap<NodeRef, Index>,
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

    pub(super) fn forget(&mut self, node: &NodeRef) {
        self.nodes.remove(node);
    }
}
