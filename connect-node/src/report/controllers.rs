//! Which controllers there are, and how to reach one.

use std::{sync::Arc, time::Duration};

use rand::seq::IndexedRandom;
use roomcast_registry::{Registry, Role, Roster};
use tonic::transport::{Channel, Endpoint, Error};

/// How long a connection attempt may take.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// Asks a silent connection whether its process still runs.
const KEEP_ALIVE: Duration = Duration::from_secs(2);
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

/// The controllers: those of the configuration, else those of the registry.
pub enum Controllers {
    /// Named by the configuration.
    Fixed(Vec<String>),
    /// As listed.
    Listed(Roster),
}

impl Controllers {
    /// Those named, else those of the registry.
    pub fn new(named: &[String], registry: Arc<dyn Registry>) -> Self {
        if named.is_empty() {
            Self::Listed(Roster::start(registry, Role::ControllerManager))
        } else {
            Self::Fixed(named.to_vec())
        }
    }

    /// Addresses, host:port.
    pub fn addresses(&self) -> Vec<String> {
        match self {
            Self::Fixed(addresses) => addresses.clone(),
            Self::Listed(roster) => {
                roster.current().registrations.iter().map(|listed| listed.grpc_address.clone()).collect()
            }
        }
    }

    /// One of them at random, another one than `failed` if there is one.
    pub fn pick(&self, failed: Option<&str>) -> Option<String> {
        let all = self.addresses();
        let others: Vec<_> = all.iter().filter(|address| Some(address.as_str()) != failed).collect();
        let chosen = others.choose(&mut rand::rng()).map(|address| (*address).clone());
        chosen.or_else(|| all.first().cloned())
    }

    /// Whether there is another one.
    pub fn has_other(&self, than: &str) -> bool {
        self.addresses().iter().any(|address| address != than)
    }

    /// Waits until the list changes, at most this long.
    pub async fn wait(&self, longest: Duration) {
        match self {
            Self::Fixed(_) => tokio::time::sleep(longest).await,
            Self::Listed(roster) => {
                let mut listing = roster.subscribe();
                let _ = tokio::time::timeout(longest, listing.changed()).await;
            }
        }
    }
}
