//! Asks the controllers: those of the configuration or of the registry, in turn, passing over those that do not answer.

use std::{
    collections::HashMap,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use roomcast_proto::{fault, pubsub::controller_service_client::ControllerServiceClient};
use roomcast_registry::{Roster, State};
use roomcast_runtime::{Gate, GateSettings};
use roomcast_types::{Code, Fault};
use tokio::time::{Instant, timeout_at};
use tonic::{
    Response, Status,
    transport::{Channel, Endpoint},
};

/// Before each controller. One question without an answer, and it is passed over; then one question at a time tries it
/// again, while the others go to another controller or are refused at once. A push that needs a controller
/// waits for none that is away, and one that came back is used within 2 s.
const GATE: GateSettings = GateSettings {
    name: "a controller",
    calls_max: 4_096,
    // Above what any question allows; each brings its own.
    deadline: Duration::from_secs(10),
    failures: 1,
    pause_min: Duration::from_millis(500),
    pause_max: Duration::from_secs(2),
};
/// No further controller is asked when so many could have taken their whole time.
const ASKED_IN_FULL: u32 = 2;
/// Asks a silent connection whether its process still runs.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
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
    gate: Arc<Gate>,
}

impl Controllers {
    /// Asks `fixed` addresses, or those of `roster` when there are none.
    pub fn new(fixed: Vec<String>, roster: Roster) -> Self {
        Self { fixed, roster, peers: Mutex::default() }
    }

    /// Asks one controller after the other, each for at most `limit`, and none after twice that, until one answers;
    /// an error of its own is an answer unless it is UNAVAILABLE.
    pub async fn ask<R, F>(&self, limit: Duration, call: impl Fn(Client) -> F) -> Result<R, Fault>
    where
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let addresses = self.addresses();
        if addresses.is_empty() {
            return Err(unavailable("no controller is registered"));
        }
        let (mut last, end) = (None, Instant::now() + limit * ASKED_IN_FULL);
        for address in addresses {
            let Some((client, gate)) = self.client(&address) else { continue };
            if Instant::now() >= end {
                break;
            }
            let until = Instant::now() + limit;
            let question = async {
                let answer = timeout_at(until, call(client)).await;
                answer.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer in time")))
            };
            let status = match gate.pass(question, |status| !is_own_word(status)).await {
                Ok(Ok(reply)) => {
                    self.prefer(&address);
                    return Ok(reply.into_inner());
                }
                Ok(Err(status)) => status,
                Err(_) => continue,
            };
            let found = fault(&status);
            match found.code {
                Code::Unavailable if is_own_word(&status) => {
                    self.prefer(&address);
                    last = Some(found);
                }
                // Of the connection: the controller itself said nothing.
                Code::Unavailable | Code::Internal if !is_own_word(&status) => {
                    tracing::debug!(address, error = %found, "a controller did not answer");
                }
                _ => return Err(found),
            }
        }
        Err(last.unwrap_or_else(|| unavailable("no controller answers")))
    }

    /// Controllers that are passed over at present.
    pub fn passed_over(&self) -> usize {
        self.lock().by_address.values().filter(|peer| peer.gate.is_open()).count()
    }

    /// Addresses to try, in order: the preferred one first, without those passed over.
    fn addresses(&self) -> Vec<String> {
        let mut addresses = self.fixed.clone();
        if addresses.is_empty() {
            let listing = self.roster.current();
            let peers = self.lock();
            let mut listed: Vec<_> = listing.registrations.iter().collect();
            // One that drains refuses soon; it is asked when no other answers.
            listed.sort_by_key(|own| (own.state == State::Draining, own.grpc_address != peers.preferred));
            return listed.into_iter().map(|own| own.grpc_address.clone()).collect();
        }
        let peers = self.lock();
        addresses.sort_by_key(|address| *address != peers.preferred);
        addresses
    }

    /// A client for this address and the gate before it; `None` when it is no address.
    fn client(&self, address: &str) -> Option<(Client, Arc<Gate>)> {
        let mut peers = self.lock();
        if let Some(peer) = peers.by_address.get(address) {
            return Some((peer.client.clone(), peer.gate.clone()));
        }
        let endpoint = Endpoint::from_shared(format!("http://{address}")).ok()?;
        let channel = endpoint
            .tcp_nodelay(true)
            .connect_timeout(CONNECT)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .keep_alive_while_idle(true)
            .connect_lazy();
        let client = Client::new(channel).max_decoding_message_size(REPLY_BYTES_MAX);
        let gate = Arc::new(Gate::new(GATE));
        self.forget_others(&mut peers);
        peers.by_address.insert(address.to_owned(), Peer { client: client.clone(), gate: gate.clone() });
        Some((client, gate))
    }

    /// Controllers come and go: connections to those that went are closed when a new one is met.
    fn forget_others(&self, peers: &mut Peers) {
        let listing = self.roster.current();
        peers.by_address.retain(|address, _| {
            self.fixed.contains(address)
                || listing.registrations.iter().any(|own| own.grpc_address == *address)
        });
    }

    fn prefer(&self, address: &str) {
        let mut peers = self.lock();
        if peers.preferred != address {
            address.clone_into(&mut peers.preferred);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Peers> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a server said this, and not the connection to it.
pub fn is_own_word(status: &Status) -> bool {
    let word = fault(status).code.as_str();
    status.message().starts_with(word)
}

/// Drawn anew each time, so that those who were refused together do not come back together.
fn unavailable(message: &str) -> Fault {
    Fault::unavailable(message, Duration::from_millis(rand::random_range(500..1_500)))
}
