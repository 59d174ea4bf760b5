//! Which controllers there are, which of them comes first, and how to reach one.

use std::{collections::HashMap, sync::Arc, time::Duration};

use rand::RngExt;
use roomcast_registry::{Listing, Registration, Registry, Role, Roster, State};
use roomcast_types::NodeId;
use tokio::time::Instant;
use tonic::transport::{Channel, Endpoint, Error};

use super::share;

/// How long a connection attempt may take.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// Asks a silent connection whether its process still runs.
const KEEP_ALIVE: Duration = Duration::from_secs(2);
/// How long the first choice has to stand at least: longer than a start, or a restart of one after the other, takes.
const SETTLED_AFTER: Duration = Duration::from_secs(10);
/// How often that is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Largest message between a node and a controller.
pub const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// Connects to a controller.
pub async fn connect(address: &str) -> Result<Channel, Error> {
    Endpoint::from_shared(format!("http://{address}"))?
        .tcp_nodelay(true)
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true)
        .connect()
        .await
}

/// The controllers, and which of them this node turns to.
pub struct Controllers {
    known: Known,
    own: NodeId,
    /// Whom the controllers are shared with.
    nodes: Arc<Roster>,
    /// How long the first choice has to stand before the node moves to it.
    settled_after: Duration,
}

enum Known {
    /// Named by the configuration, host:port.
    Fixed(Vec<String>),
    /// As listed.
    Listed(Roster),
}

impl Controllers {
    /// Those named, else those of the registry, as the node `own` among `nodes` turns to them.
    pub fn new(named: &[String], registry: Arc<dyn Registry>, own: NodeId, nodes: Arc<Roster>) -> Self {
        let known = if named.is_empty() {
            Known::Listed(Roster::start(registry, Role::ControllerManager))
        } else {
            Known::Fixed(named.to_vec())
        };
        // Not all at the same moment: a controller that came back is filled by and by.
        let settled_after = SETTLED_AFTER.mul_f64(1.0 + rand::rng().random::<f64>());
        Self { known, own, nodes, settled_after }
    }

    /// For tests: moves as soon as another one is the first choice.
    #[cfg(test)]
    pub fn impatient(self) -> Self {
        Self { settled_after: Duration::ZERO, ..self }
    }

    /// Addresses, host:port, in the order in which this node turns to them.
    fn addresses(&self) -> Vec<String> {
        let nodes = self.nodes.current();
        let nodes: Vec<&str> = nodes.registrations.iter().map(|listed| listed.id.as_str()).collect();
        match &self.known {
            Known::Fixed(named) => {
                let mut names: Vec<&str> = named.iter().map(String::as_str).collect();
                names.sort_unstable();
                names.dedup();
                let order = share::order(self.own.as_str(), &nodes, &names);
                order.into_iter().map(str::to_owned).collect()
            }
            Known::Listed(roster) => {
                let listing = roster.current();
                let by_id: HashMap<&str, &str> = staying(&listing)
                    .into_iter()
                    .map(|listed| (listed.id.as_str(), listed.grpc_address.as_str()))
                    .collect();
                let ids: Vec<&str> = by_id.keys().copied().collect();
                let order = share::order(self.own.as_str(), &nodes, &ids);
                order.into_iter().map(|id| by_id[id].to_owned()).collect()
            }
        }
    }

    /// The first choice; after one that failed the next in the order, so that all get their turn.
    pub fn pick(&self, failed: Option<&str>) -> Option<String> {
        let all = self.addresses();
        let after = failed.and_then(|failed| all.iter().position(|address| address == failed));
        let next = after.map_or(0, |after| (after + 1) % all.len());
        all.into_iter().nth(next)
    }

    /// Whether there is another one.
    pub fn has_other(&self, than: &str) -> bool {
        match &self.known {
            Known::Fixed(named) => named.iter().any(|address| address != than),
            Known::Listed(roster) => {
                staying(&roster.current()).iter().any(|listed| listed.grpc_address != than)
            }
        }
    }

    /// Another one than this, which drains: the one whose turn is after it, or after `failed`, which was tried instead.
    pub fn instead_of(&self, than: &str, failed: Option<&str>) -> Option<String> {
        let next = self.pick(Some(failed.unwrap_or(than)))?;
        if next == than { self.pick(Some(than)).filter(|next| next != than) } else { Some(next) }
    }

    /// Waits until another one than this has been the first choice for a while, and names it: lists are short while
    /// everybody starts, and a controller that came back has no nodes.
    pub async fn settled_elsewhere(&self, than: &str) -> String {
        let mut standing: Option<(String, Instant)> = None;
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let first = self.pick(None).filter(|first| first != than);
            standing = match (first, standing) {
                (Some(first), Some((known, since))) if first == known => Some((known, since)),
                (first, _) => first.map(|first| (first, Instant::now())),
            };
            if let Some((first, since)) = &standing
                && since.elapsed() >= self.settled_after
            {
                return first.clone();
            }
        }
    }

    /// Waits until the list changes, at most this long.
    pub async fn wait(&self, longest: Duration) {
        match &self.known {
            Known::Fixed(_) => tokio::time::sleep(longest).await,
            Known::Listed(roster) => {
                let mut listing = roster.subscribe();
                let _ = tokio::time::timeout(longest, listing.changed()).await;
            }
        }
    }
}

/// Those that do not drain; where all do, all of them.
fn staying(listing: &Listing) -> Vec<&Registration> {
    let staying: Vec<_> =
        listing.registrations.iter().filter(|listed| listed.state != State::Draining).collect();
    if staying.is_empty() { listing.registrations.iter().collect() } else { staying }
}
