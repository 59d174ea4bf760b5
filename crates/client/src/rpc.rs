//! Calls to one of several equal servers: lazy connections, a deadline, and repeats only where they are safe.

mod address;
mod failure;

use std::{
    future::Future,
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;
use tonic::{
    Request, Response, Status,
    transport::{Channel, Endpoint},
};

pub use self::failure::Failure;
use crate::error::Error;

/// Given up on one address after this long, so that the next one gets its turn within the default deadline.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Between two rounds over all addresses: long enough for a listener to come back, drawn with full jitter.
const ROUND_WAIT: Duration = Duration::from_millis(200);
/// Largest reply taken: receipts of 1,000 users with their sessions, pages of 1,000 rooms.
pub const REPLY_BYTES_MAX: usize = 16 << 20;

/// How one call is made.
#[derive(Debug, Clone)]
pub struct CallOptions {
    /// Over all attempts.
    pub deadline: Duration,
    /// W3C trace context to hand on.
    pub traceparent: Option<String>,
    /// Whether making the call twice is the same as making it once: such a call is repeated after a broken
    /// connection as well.
    pub is_idempotent: bool,
}

/// Equal servers. The one that answered last is asked first.
pub struct Servers {
    servers: Vec<Server>,
    preferred: AtomicUsize,
    rounds: u32,
}

struct Server {
    address: String,
    endpoint: Endpoint,
    channel: OnceLock<Channel>,
}

impl Servers {
    /// Checks the addresses; connects nowhere yet.
    pub fn new<A: AsRef<str>>(addresses: impl IntoIterator<Item = A>) -> Result<Self, Error> {
        let servers = addresses.into_iter().map(|address| Server::new(address.as_ref()));
        let servers = servers.collect::<Result<Vec<_>, _>>()?;
        if servers.is_empty() {
            return Err(Error::InvalidOption("no server address was given; it takes at least one".into()));
        }
        Ok(Self { servers, preferred: AtomicUsize::new(0), rounds: 2 })
    }

    /// The address that is asked first: the one that answered last.
    pub fn preferred(&self) -> &str {
        &self.servers[self.preferred.load(Ordering::Relaxed) % self.servers.len()].address
    }

    /// How often each address is tried at most.
    pub fn set_rounds(&mut self, rounds: u32) {
        self.rounds = rounds.max(1);
    }

    /// Makes a call; `send` is run once for each attempt with a request that carries the deadline and the trace.
    pub async fn call<M, R, F>(
        &self,
        message: M,
        options: &CallOptions,
        send: impl Fn(Channel, Request<M>) -> F,
    ) -> Result<R, Error>
    where
        M: Clone,
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let ends_at = Instant::now() + options.deadline;
        let attempts = self.attempts(message, options, ends_at, send);
        match tokio::time::timeout_at(ends_at, attempts).await {
            Ok(result) => result,
            Err(_) => Err(Error::Deadline { after: options.deadline }),
        }
    }

    async fn attempts<M, R, F>(
        &self,
        message: M,
        options: &CallOptions,
        ends_at: Instant,
        send: impl Fn(Channel, Request<M>) -> F,
    ) -> Result<R, Error>
    where
        M: Clone,
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let mut attempts_left = self.rounds as usize * self.servers.len();
        loop {
            let place = self.preferred.load(Ordering::Relaxed) % self.servers.len();
            let server = &self.servers[place];
            let request = request(message.clone(), options, ends_at)?;
            let failure = match send(server.channel(), request).await {
                Ok(response) => return Ok(response.into_inner()),
                Err(status) => Failure::from(status),
            };
            attempts_left -= 1;
            if !failure.may_repeat(options.is_idempotent) || attempts_left == 0 {
                return Err(failure.into_error(&server.address, options.deadline));
            }
            tracing::debug!(address = server.address, %failure, "trying again");
            let _ = self.preferred.compare_exchange(
                place,
                (place + 1) % self.servers.len(),
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
            if attempts_left.is_multiple_of(self.servers.len()) {
                tokio::time::sleep(ROUND_WAIT.mul_f64(rand::random())).await;
            }
        }
    }
}

impl Server {
    fn new(text: &str) -> Result<Self, Error> {
        let address = address::parse(text)?;
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .map_err(|_| Error::InvalidAddress { address: text.to_owned() })?
            .tcp_nodelay(true)
            .connect_timeout(CONNECT_TIMEOUT)
            .user_agent(concat!("roomcast-client/", env!("CARGO_PKG_VERSION")))
            .expect("a version is a header value");
        Ok(Self { address, endpoint, channel: OnceLock::new() })
    }

    /// Made on first use, because a channel spawns its task on the runtime of whoever makes it.
    fn channel(&self) -> Channel {
        self.channel.get_or_init(|| self.endpoint.connect_lazy()).clone()
    }
}

fn request<M>(message: M, options: &CallOptions, ends_at: Instant) -> Result<Request<M>, Error> {
    let mut request = Request::new(message);
    request.set_timeout(ends_at.saturating_duration_since(Instant::now()));
    if let Some(traceparent) = &options.traceparent {
        let value = traceparent
            .parse()
            .map_err(|_| Error::InvalidOption(format!("traceparent {traceparent:?} is no header value")))?;
        request.metadata_mut().insert("traceparent", value);
    }
    Ok(request)
}
