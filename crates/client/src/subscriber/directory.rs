//! The nodes of the cluster as last heard, which of them failed, and which one to try next.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use rand::RngExt;
use serde::Deserialize;

use super::{address::NodeUrl, jitter::Jitter};

/// The answer of `GET /nodes`.
#[derive(Debug, Deserialize)]
pub struct NodeList {
    nodes: Vec<ListedNode>,
    retry: Option<Retry>,
}

#[derive(Debug, Deserialize)]
struct ListedNode {
    node_id: String,
    url: String,
    sessions: Option<u64>,
    state: String,
}

#[derive(Debug, Deserialize)]
struct Retry {
    first_ms: u64,
    max_ms: u64,
}

struct Node {
    node_id: String,
    url: NodeUrl,
    sessions: Option<u64>,
    is_ready: bool,
}

/// Chooses where to connect.
pub struct Directory {
    configured: Vec<NodeUrl>,
    nodes: Vec<Node>,
    last: NodeUrl,
    avoided: HashSet<NodeUrl>,
    node_ids: HashMap<NodeUrl, String>,
    retry: Jitter,
}

impl Directory {
    /// Knows the configured addresses only; `None` when there is none.
    pub fn new(configured: Vec<NodeUrl>) -> Option<Self> {
        let last = configured.first()?.clone();
        Some(Self {
            configured,
            nodes: Vec::new(),
            last,
            avoided: HashSet::new(),
            node_ids: HashMap::new(),
            retry: Jitter::default(),
        })
    }

    /// The back-off, as the nodes ask for it.
    pub fn retry(&self) -> &Jitter {
        &self.retry
    }

    /// Takes a fresh list. Addresses that this build cannot connect to are left out.
    pub fn update(&mut self, list: NodeList) {
        let usable = list.nodes.into_iter().filter_map(|node| {
            let url = NodeUrl::parse(&node.url).ok()?;
            Some(Node {
                node_id: node.node_id,
                url,
                sessions: node.sessions,
                is_ready: node.state == "ready",
            })
        });
        let nodes: Vec<_> = usable.collect();
        // A node that lists nobody, not even itself, has lost sight of the others; the older list serves better.
        if !nodes.is_empty() {
            self.nodes = nodes;
        }
        if let Some(Retry { first_ms, max_ms }) = list.retry
            && first_ms > 0
            && max_ms >= first_ms
        {
            let (first, max) = (Duration::from_millis(first_ms), Duration::from_millis(max_ms));
            self.retry = Jitter { first, max };
        }
    }

    /// Learns which node answers at an address.
    pub fn identify(&mut self, url: &NodeUrl, node_id: &str) {
        self.node_ids.insert(url.clone(), node_id.to_owned());
    }

    /// Avoids an address from now on, and every other address of the same node.
    pub fn fail(&mut self, url: &NodeUrl) {
        self.avoided.insert(url.clone());
        let Some(failed) = self.node_ids.get(url) else { return };
        let same_node = self.nodes.iter().filter(|node| node.node_id == *failed).map(|node| &node.url);
        let same_id = self.node_ids.iter().filter(|(_, node_id)| *node_id == failed).map(|(url, _)| url);
        self.avoided.extend(same_node.chain(same_id).cloned());
    }

    /// Avoids nothing any more.
    pub fn forgive(&mut self) {
        self.avoided.clear();
    }

    /// The last address unless it failed, then a ready node, then a configured address; starts over when all failed.
    pub fn choose(&mut self) -> NodeUrl {
        if self.avoided.contains(&self.last) {
            self.last = match self.alternative() {
                Some(url) => url,
                None => self.start_over(),
            };
        }
        self.last.clone()
    }

    /// Addresses to ask for the list, the given one first, then up to three others that did not fail.
    pub fn to_ask(&self, first: Option<&NodeUrl>) -> Vec<NodeUrl> {
        let known = self.nodes.iter().map(|node| &node.url).chain(&self.configured);
        let others = known.filter(|url| Some(*url) != first && !self.avoided.contains(url)).take(3);
        first.into_iter().chain(others).cloned().collect()
    }

    fn start_over(&mut self) -> NodeUrl {
        let failed = self.last.clone();
        self.avoided.clear();
        self.fail(&failed);
        let configured = self.configured.iter().find(|url| !self.avoided.contains(url)).cloned();
        configured.or_else(|| self.alternative()).unwrap_or(failed)
    }

    /// The better of two random nodes: when a node dies its clients would otherwise all run to the same neighbour.
    fn alternative(&self) -> Option<NodeUrl> {
        let ready = self.nodes.iter().filter(|node| node.is_ready && !self.avoided.contains(&node.url));
        let ready: Vec<_> = ready.collect();
        if ready.is_empty() {
            return self.configured.iter().find(|url| !self.avoided.contains(url)).cloned();
        }
        let mut rng = rand::rng();
        let first = ready[rng.random_range(0..ready.len())];
        let second = ready[rng.random_range(0..ready.len())];
        let load = |node: &Node| node.sessions.unwrap_or(u64::MAX);
        Some(if load(second) < load(first) { second } else { first }.url.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(port: u16) -> NodeUrl {
        NodeUrl::parse(&format!("ws://127.0.0.1:{port}/ws")).unwrap()
    }

    fn directory(configured: &[u16], nodes: &str) -> Directory {
        let mut directory = Directory::new(configured.iter().map(|port| url(*port)).collect()).unwrap();
        directory.update(serde_json::from_str(nodes).unwrap());
        directory
    }

    const THREE: &str = r#"{"nodes":[
        {"node_id":"a","url":"ws://127.0.0.1:1/ws","sessions":5,"state":"ready"},
        {"node_id":"b","url":"ws://127.0.0.1:2/ws","state":"ready"},
        {"node_id":"c","url":"ws://127.0.0.1:3/ws","state":"draining"},
        {"node_id":"d","url":"wss://127.0.0.1:4/ws","state":"ready"}],
        "retry":{"first_ms":100,"max_ms":1000}}"#;

    #[test]
    fn a_failed_node_is_replaced_by_a_ready_one() {
        let mut directory = directory(&[1], THREE);
        assert_eq!(directory.choose(), url(1));
        directory.fail(&url(1));
        assert_eq!(directory.choose(), url(2));
        assert_eq!(directory.choose(), url(2), "it stays with what works");
        assert_eq!(directory.retry().max, Duration::from_secs(1));
    }

    #[test]
    fn a_node_is_avoided_under_all_its_addresses() {
        let mut directory = directory(&[9], THREE);
        directory.identify(&url(9), "a");
        directory.fail(&url(9));
        assert_eq!(directory.choose(), url(2));
    }

    #[test]
    fn when_all_failed_it_starts_over_with_the_configured_ones() {
        let mut directory = directory(&[9, 8], THREE);
        for port in [9, 8, 1, 2] {
            directory.fail(&url(port));
        }
        assert_eq!(directory.choose(), url(8), "not the one that failed last");
        directory.fail(&url(8));
        assert!([url(1), url(2)].contains(&directory.choose()));
    }

    #[test]
    fn an_empty_list_takes_nothing_away() {
        let mut directory = directory(&[1], THREE);
        directory.update(serde_json::from_str(r#"{"nodes":[]}"#).unwrap());
        directory.fail(&url(1));
        assert_eq!(directory.choose(), url(2));
    }

    #[test]
    fn a_single_address_is_tried_again_and_again() {
        let mut directory = Directory::new(vec![url(1)]).unwrap();
        directory.fail(&url(1));
        assert_eq!(directory.choose(), url(1));
    }
}
