//! Asks the controllers: those of the configuration or of the registry, in turn, passing over those that fail.

use std::{
    collections::HashMap,
    future::Future,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use roomcast_proto::{fault, pubsub::controller_service_client::ControllerServiceClient};
use roomcast_registry::Roster;
use roomcast_types::{Code, Fault};
use tokio::time::{Instant, timeout};
use tonic::{
    Response, Status,
    transport::{Channel, Endpoint},
};

/// How long a controller that did not answer is passed over. Then the next question tries it again.
const PASSED_OVER: Duration = Duration::from_millis(500);
/// How long a connection may take.
const CONNECT: Duration = Duration::from_millis(500);
/// Replies are pages of at most 1,000 rows.
const REPLY_BYTES_MAX: usize = 8 << 20;

/// A connection to one controller.
pub type Client = ControllerServiceClient<Channel>;

/// All controllers.
#[derive(Debug)]
pub struct Controllers {
    /// From the configuration; empty: those of the registry.
    fixed: Vec<String>,
    roster: Roster,
    peers: Mutex<Peers>,
}

#[derive(Debug, Default)]
struct Peers {
    by_address: HashMap<String, Peer>,
    /// The one that answered last is asked first.
    preferred: String,
}

#[derive(Debug)]
struct Peer {
    client: Client,
    passed_over_until: Option<Instant>,
}

impl Controllers {
    /// Asks `fixed` addresses, or those of `roster` when there are none.
    pub fn new(fixed: Vec<String>, roster: Roster) -> Self {
        Self { fixed, roster, peers: Mutex::default() }
    }

    /// Asks one controller after the other, each for at most `limit`, until one answers; an error of its own is an
    /// answer unless it is UNAVAILABLE.
    pub async fn ask<R, F>(&self, limit: Duration, call: impl Fn(Client) -> F) -> Result<R, Fault>
    where
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let addresses = self.addresses();
        if addresses.is_empty() {
            return Err(unavailable("no controller is registered"));
        }
        let mut last = None;
        for address in addresses {
            let Some(client) = self.client(&address) else { continue };
            let status = match timeout(limit, call(client)).await {
                Ok(Ok(reply)) => {
                    self.answered(&address);
                    return Ok(reply.into_inner());
                }
                Ok(Err(status)) => status,
                Err(_) => Status::deadline_exceeded("no answer in time"),
            };
            let found = fault(&status);
            let is_own_word = status.message().starts_with(found.code.as_str());
            if is_own_word {
                self.answered(&address);
            }
            match found.code {
                Code::Unavailable if is_own_word => last = Some(found),
                // Of the connection: the controller itself said nothing.
                Code::Unavailable | Code::Internal if !is_own_word => {
                    tracing::debug!(address, error = %found, "a controller did not answer");
                    self.failed(&address);
                }
                _ => return Err(found),
            }
        }
        Err(last.unwrap_or_else(|| unavailable("no controller answers")))
    }

    /// Addresses to try, in order: the preferred one first, without those passed over.
    fn addresses(&self) -> Vec<String> {
        let mut addresses = self.fixed.clone();
        if addresses.is_empty() {
            let listing = self.roster.current();
            addresses = listing.registrations.iter().map(|own| own.grpc_address.clone()).collect();
        }
        let peers = self.lock();
        addresses.sort_by_key(|address| *address != peers.preferred);
        addresses
    }

    /// A client for this address unless it is passed over now.
    fn client(&self, address: &str) -> Option<Client> {
        let mut peers = self.lock();
        if let Some(peer) = peers.by_address.get(address) {
            let is_open = peer.passed_over_until.is_some_and(|until| until > Instant::now());
            return (!is_open).then(|| peer.client.clone());
        }
        let endpoint = Endpoint::from_shared(format!("http://{address}")).ok()?;
        let channel = endpoint.tcp_nodelay(true).connect_timeout(CONNECT).connect_lazy();
        let client = Client::new(channel).max_decoding_message_size(REPLY_BYTES_MAX);
        self.forget_others(&mut peers);
        peers.by_address.insert(address.to_owned(), Peer { client: client.clone(), passed_over_until: None });
        Some(client)
    }

    /// Controllers come and go: connections to those that went are closed when a new one is met.
    fn forget_others(&self, peers: &mut Peers) {
        let listing = self.roster.current();
        peers.by_address.retain(|address, _| {
            self.fixed.contains(address)
                || listing.registrations.iter().any(|own| own.grpc_address == *address)
        });
    }

    fn answered(&self, address: &str) {
        let mut peers = self.lock();
        if peers.preferred != address {
            address.clone_into(&mut peers.preferred);
        }
        if let Some(peer) = peers.by_address.get_mut(address) {
            peer.passed_over_until = None;
        }
    }

    fn failed(&self, address: &str) {
        if let Some(peer) = self.lock().by_address.get_mut(address) {
            peer.passed_over_until = Some(Instant::now() + PASSED_OVER);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Peers> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unavailable(message: &str) -> Fault {
    Fault::unavailable(message, PASSED_OVER)
}
