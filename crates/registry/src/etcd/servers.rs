//! The servers of one etcd: which of them is asked, for how long, and what an error means.

use std::{
    error::Error as _,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use etcd_client::{Client, Error as DriverError};
use roomcast_runtime::config::EtcdServers;
use tokio::time::{Instant, timeout};
use tonic::Code;

use super::{connect, login::Login};
use crate::{Error, OpenError, Result};

/// For all servers together. Under the bound of those who call the registry, so that they get an error that tells
/// which server did what.
const ANSWER_WITHIN: Duration = Duration::from_millis(1_800);

/// A server that is asked before others gets a share of the time: two that are frozen leave enough for a third.
const SHARES_MAX: u32 = 3;

/// All servers. The one that answered last is asked first; one that does not is passed over.
pub(super) struct Servers {
    servers: Vec<Server>,
    /// Which one is asked first.
    first: AtomicUsize,
    /// For one server.
    answer_within: Duration,
}

struct Server {
    address: String,
    client: Client,
    login: Option<Login>,
}

impl Servers {
    pub(super) fn open(servers: &EtcdServers) -> std::result::Result<Self, OpenError> {
        let shares = u32::try_from(servers.endpoints.len()).unwrap_or(u32::MAX).clamp(1, SHARES_MAX);
        let answer_within = ANSWER_WITHIN / shares;
        let open = |(host, port): &(String, u16)| {
            let address = format!("{host}:{port}");
            // TCP, then TLS: a connection under way is judged before the call that waits for it is given up, else
            // the next call would hear of it.
            let client = connect::client(&address, servers, answer_within * 2 / 5)?;
            let login = (!servers.user.is_empty()).then(|| Login::new(&servers.user, &servers.password));
            Ok(Server { address, client, login })
        };
        let servers = servers.endpoints.iter().map(open).collect::<std::result::Result<_, _>>()?;
        Ok(Self { servers, first: AtomicUsize::new(0), answer_within })
    }

    /// Makes a call to the first server that answers. It may be made on several, so it has to bear repetition.
    pub(super) async fn call<T, F>(&self, context: &str, call: impl Fn(Client) -> F) -> Result<T>
    where
        F: Future<Output = std::result::Result<T, DriverError>>,
    {
        let started = Instant::now();
        let first = self.first.load(Ordering::Relaxed);
        let mut outages = Outages::default();
        for turn in first..first + self.servers.len() {
            let number = turn % self.servers.len();
            let server = &self.servers[number];
            let left = ANSWER_WITHIN.saturating_sub(started.elapsed());
            match timeout(self.answer_within.min(left), server.call(&call)).await {
                Ok(Err(error)) if is_outage(&error) => outages.add(server, reason(&error)),
                Ok(answer) => {
                    self.first.store(number, Ordering::Relaxed);
                    return answer.map_err(|error| refusal(context, server, error));
                }
                Err(_) => {
                    outages.add(server, format!("no answer within {} ms", self.answer_within.as_millis()));
                    // The next call begins with another one.
                    self.first.store((number + 1) % self.servers.len(), Ordering::Relaxed);
                }
            }
        }
        Err(outages.into_error(context))
    }
}

impl Server {
    async fn call<T, F>(&self, call: &impl Fn(Client) -> F) -> std::result::Result<T, DriverError>
    where
        F: Future<Output = std::result::Result<T, DriverError>>,
    {
        match &self.login {
            Some(login) => login.call(&self.client, call).await,
            None => call(self.client.clone()).await,
        }
    }
}

/// What the servers did that did not answer.
#[derive(Default)]
struct Outages {
    told: Vec<String>,
}

impl Outages {
    fn add(&mut self, server: &Server, what: String) {
        self.told.push(format!("etcd {}: {what}", server.address));
    }

    fn into_error(self, context: &str) -> Error {
        let context = format!("{context}: {}", self.told.join("; "));
        // Nothing behind it: the driver would say the same once more, at several times the length.
        Error::Unavailable { context, source: None }
    }
}

/// Whether another server may give another answer.
fn is_outage(error: &DriverError) -> bool {
    match error {
        DriverError::GRpcStatus(status) => !matches!(
            status.code(),
            Code::NotFound
                | Code::InvalidArgument
                | Code::FailedPrecondition
                | Code::PermissionDenied
                | Code::Unauthenticated
                | Code::ResourceExhausted
                | Code::OutOfRange
        ),
        DriverError::LeaseKeepAliveError(_) => false,
        _ => true,
    }
}

fn refusal(context: &str, server: &Server, error: DriverError) -> Error {
    if is_lease_lost(&error) {
        return Error::LeaseLost;
    }
    let context = format!("{context}: etcd {}: {}", server.address, reason(&error));
    if is_denied(&error) {
        return Error::Denied { context };
    }
    Error::Unavailable { context, source: None }
}

/// Wrong user or password, none where one is needed, or no right to these keys. A token that is not taken any more is
/// none of these.
fn is_denied(error: &DriverError) -> bool {
    const MESSAGES: [&str; 2] = ["authentication failed", "user name is empty"];
    match error {
        DriverError::GRpcStatus(status) => {
            status.code() == Code::PermissionDenied
                || MESSAGES.iter().any(|message| status.message().contains(message))
        }
        _ => false,
    }
}

fn is_lease_lost(error: &DriverError) -> bool {
    match error {
        DriverError::GRpcStatus(status) => {
            status.code() == Code::NotFound && status.message().contains("lease not found")
        }
        // The driver's word for a keep-alive that was answered with no time left.
        DriverError::LeaseKeepAliveError(message) => message == "lease not found",
        _ => false,
    }
}

/// In a few words; of a broken connection the innermost cause, which names it.
fn reason(error: &DriverError) -> String {
    let DriverError::GRpcStatus(status) = error else { return error.to_string() };
    let mut innermost: &dyn std::error::Error = status;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    match status.source() {
        Some(_) => format!("{}: {innermost}", status.message()),
        None => status.message().to_owned(),
    }
}
