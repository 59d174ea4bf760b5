//! The other push-managers: a question about a message goes to the one that took it, and is passed on once.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use roomcast_proto::{fault, pubsub::push_manager_service_client::PushManagerServiceClient};
use roomcast_registry::Roster;
use roomcast_types::{Code, Fault, Incarnation, MessageId};
use tokio::time::{Instant, timeout};
use tonic::{
    Request, Status,
    metadata::{MetadataMap, MetadataValue},
    transport::{Channel, Endpoint},
};

use crate::controllers::is_own_word;

/// Marks a question that was passed on: it is answered where it arrives, or not at all.
const PASSED_ON: &str = "pubsub-passed-on";
/// How long the registry may take to list the push-managers anew.
const LIST: Duration = Duration::from_secs(1);
/// A list this young is believed when it does not name an instance: ids that nobody made must not keep the registry busy.
const FRESH: Duration = Duration::from_millis(250);
/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(1);
/// How long the first answer may take.
const ANSWER: Duration = Duration::from_secs(2);
/// Asks the process behind an answer that goes on whether it still runs.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// Receipts of 1,000 users with their sessions.
const REPLY_BYTES_MAX: usize = 16 << 20;

/// A connection to one push-manager.
pub type Client = PushManagerServiceClient<Channel>;

/// All push-managers.
#[derive(Debug)]
pub struct Peers {
    own: Incarnation,
    roster: Arc<Roster>,
    /// By address; connected on first use.
    clients: Mutex<HashMap<String, Client>>,
}

impl Peers {
    /// Those of `roster`; `own` is this life of ours.
    pub fn new(own: Incarnation, roster: Arc<Roster>) -> Self {
        Self { own, roster, clients: Mutex::default() }
    }

    /// The push-manager that took a message; `None`: we did. NOT_FOUND when it is gone, or when `is_passed_on` and it was
    /// not us after all; UNAVAILABLE when the registry would have to say who it is and does not answer.
    pub async fn of(&self, message_id: MessageId, is_passed_on: bool) -> Result<Option<Client>, Fault> {
        if message_id.instance() == instance(self.own) {
            return Ok(None);
        }
        if is_passed_on {
            return Err(gone(message_id));
        }
        if let Some(address) = self.address(message_id) {
            return self.client(&address).map(Some);
        }
        let asked = Instant::now();
        let is_fresh = |oldest: Instant| self.roster.current().listed_at.is_some_and(|at| at >= oldest);
        if !is_fresh(asked.checked_sub(FRESH).unwrap_or(asked)) {
            let _ = timeout(LIST, self.roster.refresh()).await;
            if !is_fresh(asked) {
                let message = format!(
                    "which push-manager took message {message_id} is not known: the registry is away"
                );
                return Err(Fault::unavailable(message, LIST));
            }
        }
        let address = self.address(message_id).ok_or_else(|| gone(message_id))?;
        self.client(&address).map(Some)
    }

    fn address(&self, message_id: MessageId) -> Option<String> {
        let listing = self.roster.current();
        let named = |own: &Incarnation| instance(*own) == message_id.instance();
        let own = listing.registrations.iter().find(|own| named(&own.incarnation))?;
        Some(own.grpc_address.clone())
    }

    fn client(&self, address: &str) -> Result<Client, Fault> {
        let mut clients = self.lock();
        if let Some(client) = clients.get(address) {
            return Ok(client.clone());
        }
        let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|_| silent())?;
        let channel = endpoint
            .tcp_nodelay(true)
            .connect_timeout(CONNECT)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .connect_lazy();
        let client = Client::new(channel).max_decoding_message_size(REPLY_BYTES_MAX);
        // Push-managers come and go: connections to those that went are closed when a new one is met.
        let listing = self.roster.current();
        clients.retain(|address, _| listing.registrations.iter().any(|own| own.grpc_address == *address));
        clients.insert(address.to_owned(), client.clone());
        Ok(client)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Client>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a question was passed on by another push-manager.
pub fn is_passed_on(metadata: &MetadataMap) -> bool {
    metadata.contains_key(PASSED_ON)
}

/// A question on its way to the push-manager that it is for.
pub fn pass_on<T>(question: T) -> Request<T> {
    let mut request = Request::new(question);
    request.metadata_mut().insert(PASSED_ON, MetadataValue::from_static("1"));
    request
}

/// The first answer of another push-manager: its own error, or UNAVAILABLE when it says nothing in time.
pub async fn answer<T>(asking: impl Future<Output = Result<T, Status>>) -> Result<T, Fault> {
    match timeout(ANSWER, asking).await {
        Ok(answer) => answer.map_err(|status| broken(&status)),
        Err(_) => Err(silent()),
    }
}

/// What an answer that ends with this status says.
pub fn broken(status: &Status) -> Fault {
    if is_own_word(status) {
        return fault(status);
    }
    tracing::debug!(error = status.message(), "another push-manager did not answer");
    silent()
}

/// The half of an incarnation that message ids carry.
fn instance(incarnation: Incarnation) -> u32 {
    incarnation.as_u64() as u32
}

fn gone(message_id: MessageId) -> Fault {
    let message =
        format!("the push-manager that took message {message_id} is gone, and its receipts with it");
    Fault::new(Code::NotFound, message)
}

fn silent() -> Fault {
    Fault::unavailable("the push-manager that took the message does not answer", Duration::from_secs(1))
}
