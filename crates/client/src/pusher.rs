//! Pushes to rooms and users.

mod explain;
mod history;
mod request;
mod stream;

use std::time::Duration;

pub use self::{
    history::{LogOf, Page},
    stream::PushStream,
};
use roomcast_proto::pubsub::{
    self, AuditReply, AuditRequest, PushReply, WatchPushReply, WatchPushRequest,
    push_manager_service_client::PushManagerServiceClient,
};
pub use roomcast_proto::pubsub::{
    content::Class,
    push_options::{Offline, Wait},
};
use tonic::{Streaming, transport::Channel};

use crate::{
    content::Content,
    error::Error,
    rpc::{CallOptions, Failure, REPLY_BYTES_MAX, Servers},
};

/// Time for a push, all attempts together, unless told otherwise.
const DEADLINE: Duration = Duration::from_secs(5);

/// How one push is made.
#[derive(Debug, Clone, Default)]
pub struct PushOptions {
    /// Users that do not get this push; at most 1,000.
    pub exclude_user_ids: Vec<String>,
    /// How far the push gets before its answer.
    pub wait: Wait,
    /// How long at most: up to 30 s; 1 s when absent. The push-manager answers 50 ms before the deadline at the latest.
    pub wait_for: Option<Duration>,
    /// Clients confirm the message.
    pub ack: bool,
    /// Instead of what the type says.
    pub class: Class,
    /// LATEST: what it replaces; at most 128 bytes.
    pub key: String,
    /// EXPIRING and LATEST: dropped after this time, at most a day.
    pub ttl: Option<Duration>,
    /// Makes the push one and the same however often it is sent to the same target within 5 minutes; at most 128 bytes. With
    /// it a push whose answer was lost is tried again.
    pub idempotency_key: String,
    /// Whether it enters the log of its target, where that keeps one. `None`: classes ORDERED and CRITICAL do.
    pub log: Option<bool>,
    /// For users without a session.
    pub offline: Offline,
    /// Instead of the pusher's own deadline.
    pub deadline: Option<Duration>,
    /// W3C trace context that this push belongs to.
    pub traceparent: Option<String>,
}

/// Pushes through one of several push-managers, the one that answered last first. Connects on first use; one value
/// serves any number of tasks.
///
/// **When a push is tried again**, at another address if there is one: when no connection could be made, when the
/// connection closed before the request was written to it, and when a push-manager answered UNAVAILABLE, which it does
/// only before it accepts. After the request went out and the connection broke before the answer, that push may have been
/// accepted: it is tried again with [`PushOptions::idempotency_key`] only, and without one the caller gets
/// [`Error::Interrupted`]. [`Error::Deadline`] says as little (see [`Error::is_outcome_unknown`]): a caller that has a key calls
/// again with it. So one call never pushes twice. Each address is tried at most twice (see [`Pusher::attempts_per_address`]).
pub struct Pusher {
    servers: Servers,
    deadline: Duration,
}

impl Pusher {
    /// Takes `host:port` addresses of push-managers. Does not connect.
    pub fn new<A: AsRef<str>>(addresses: impl IntoIterator<Item = A>) -> Result<Self, Error> {
        Ok(Self { servers: Servers::new(addresses)?, deadline: DEADLINE })
    }

    /// Time for each push, over all attempts (5 s by default); the push-manager is told what is left of it.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// How often an address is tried at most for one push (2 by default, at least 1).
    pub fn attempts_per_address(mut self, attempts: u32) -> Self {
        self.servers.set_rounds(attempts);
        self
    }

    /// To every session in a room.
    pub async fn push_to_room(
        &self,
        room_id: &str,
        content: Content,
        options: &PushOptions,
    ) -> Result<PushReply, Error> {
        let message = request::to_room(room_id, content, options)?;
        self.servers
            .call(message, &self.call_options(options), |channel, request| async move {
                client(channel).push_to_room(request).await
            })
            .await
    }

    /// To every session of a user. A user without a session is a success that counts OFFLINE.
    pub async fn push_to_user(
        &self,
        user_id: &str,
        content: Content,
        options: &PushOptions,
    ) -> Result<PushReply, Error> {
        let message = request::to_user(user_id, content, options)?;
        self.servers
            .call(message, &self.call_options(options), |channel, request| async move {
                client(channel).push_to_user(request).await
            })
            .await
    }

    /// To every session of up to 1,000 users.
    pub async fn push_to_users<U: AsRef<str>>(
        &self,
        user_ids: impl IntoIterator<Item = U>,
        content: Content,
        options: &PushOptions,
    ) -> Result<PushReply, Error> {
        let message = request::to_users(user_ids, content, options)?;
        self.servers
            .call(message, &self.call_options(options), |channel, request| async move {
                client(channel).push_to_users(request).await
            })
            .await
    }

    /// To every session on every node.
    pub async fn broadcast(&self, content: Content, options: &PushOptions) -> Result<PushReply, Error> {
        let message = request::to_all(content, options);
        self.servers
            .call(message, &self.call_options(options), |channel, request| async move {
                client(channel).broadcast(request).await
            })
            .await
    }

    /// Whether every target of the pushes of the last `since` is accounted for: 1 minute to 24 hours. Compares all nodes
    /// with all push-managers.
    pub async fn audit(&self, since: Duration) -> Result<AuditReply, Error> {
        let since_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        let options = CallOptions { deadline: self.deadline, traceparent: None, is_idempotent: true };
        self.servers
            .call(AuditRequest { since_ms, own: false }, &options, |channel, request| async move {
                client(channel).audit(request).await
            })
            .await
    }

    /// What becomes of a push: its receipt as it is now, then with each change until `until` is reached. Without
    /// `until`: ACKED for a push with acknowledgements, else SETTLED. Any push-manager answers for any other;
    /// NOT_FOUND when the receipt is forgotten, which happens after a few minutes.
    pub async fn watch(&self, message_id: &str, until: Option<Wait>) -> Result<Watch, Error> {
        let message =
            WatchPushRequest { message_id: message_id.to_owned(), until: until.map(i32::from), once: false };
        let options = CallOptions { deadline: self.deadline, traceparent: None, is_idempotent: true };
        let replies =
            self.servers
                .call(message, &options, |channel, request| async move {
                    client(channel).watch_push(request).await
                })
                .await?;
        Ok(Watch { replies, address: self.servers.preferred().to_owned(), deadline: self.deadline })
    }

    fn question(&self) -> CallOptions {
        CallOptions { deadline: self.deadline, traceparent: None, is_idempotent: true }
    }

    fn call_options(&self, options: &PushOptions) -> CallOptions {
        CallOptions {
            deadline: options.deadline.unwrap_or(self.deadline),
            traceparent: options.traceparent.clone(),
            is_idempotent: !options.idempotency_key.is_empty(),
        }
    }
}

/// Receipts of one push, the younger after the older.
#[derive(Debug)]
pub struct Watch {
    replies: Streaming<WatchPushReply>,
    address: String,
    deadline: Duration,
}

impl Watch {
    /// The next one; `None` when nothing changes any more, or the receipt is no longer kept: the last one says which.
    pub async fn next(&mut self) -> Result<Option<WatchPushReply>, Error> {
        self.replies
            .message()
            .await
            .map_err(|status| Failure::from(status).into_error(&self.address, self.deadline))
    }
}

impl From<&PushOptions> for pubsub::PushOptions {
    fn from(options: &PushOptions) -> Self {
        let millis = |duration: Duration| u32::try_from(duration.as_millis()).unwrap_or(u32::MAX);
        Self {
            exclude_user_ids: options.exclude_user_ids.clone(),
            wait: options.wait.into(),
            wait_ms: options.wait_for.map(millis),
            ack: options.ack,
            class: options.class.into(),
            key: options.key.clone(),
            ttl_ms: options.ttl.map(millis),
            idempotency_key: options.idempotency_key.clone(),
            log: options.log,
            offline: options.offline.into(),
        }
    }
}

fn client(channel: Channel) -> PushManagerServiceClient<Channel> {
    PushManagerServiceClient::new(channel).max_decoding_message_size(REPLY_BYTES_MAX)
}
