//! The receipt of a push as it grows.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures_util::{Stream, StreamExt, stream};
use roomcast_proto::pubsub::{WatchPushReply, WatchPushRequest};
use roomcast_types::{Code, Fault, MessageId};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep_until, timeout_at},
};

use super::{
    Level, Receipts,
    receipt::{compose, degraded},
    record::Record,
};
use crate::peers::{Client, Peers, answer, broken, pass_on};

/// Watches at once.
const WATCHES_MAX: usize = 4_096;
/// Between two answers.
const PACE: Duration = Duration::from_millis(50);

/// One watch.
struct Watch {
    receipts: Arc<Receipts>,
    record: Arc<Record>,
    until: Level,
    once: bool,
    /// Changes that the last answer told.
    seen: u64,
    /// When the last answer was given.
    answered_at: Option<Instant>,
    ends_at: Instant,
    is_over: bool,
    _place: OwnedSemaphorePermit,
}

/// Receipts of one push until they end; an error is the last.
pub type Replies = Pin<Box<dyn Stream<Item = Result<WatchPushReply, Fault>> + Send>>;

/// Where recent pushes are watched.
#[derive(Debug)]
pub struct Watches {
    receipts: Arc<Receipts>,
    peers: Arc<Peers>,
    places: Arc<Semaphore>,
}

impl Watches {
    /// Of pushes with these receipts, and of those that others took.
    pub fn new(receipts: Arc<Receipts>, peers: Arc<Peers>) -> Self {
        Self { receipts, peers, places: Arc::new(Semaphore::new(WATCHES_MAX)) }
    }

    /// The receipt of a recent push as it grows, of whichever push-manager took it. `is_passed_on`: another one asks.
    pub async fn watch(&self, request: WatchPushRequest, is_passed_on: bool) -> Result<Replies, Fault> {
        let message_id = message_id(&request)?;
        let place = self.places.clone().try_acquire_owned().map_err(|_| {
            let message = format!("{WATCHES_MAX} pushes are watched already; try again later");
            Fault { retry_after: Some(Duration::from_secs(1)), ..Fault::new(Code::RateLimited, message) }
        })?;
        match self.peers.of(message_id, is_passed_on).await? {
            None => local(&self.receipts, message_id, &request, place),
            Some(peer) => passed_on(peer, request, place).await,
        }
    }
}

/// As another push-manager says, which took the push.
async fn passed_on(
    mut peer: Client,
    request: WatchPushRequest,
    place: OwnedSemaphorePermit,
) -> Result<Replies, Fault> {
    let asking = async {
        let mut replies = peer.watch_push(pass_on(request)).await?.into_inner();
        Ok((replies.message().await?, replies))
    };
    let (first, others) = answer(asking).await?;
    let others = others.map(move |reply| {
        let _held = &place;
        reply.map_err(|status| broken(&status))
    });
    Ok(Box::pin(stream::iter(first.map(Ok)).chain(others)))
}

/// The receipt as it is now, then with each change until it is complete, cannot change any more, or is no longer kept.
fn local(
    receipts: &Arc<Receipts>,
    message_id: MessageId,
    request: &WatchPushRequest,
    place: OwnedSemaphorePermit,
) -> Result<Replies, Fault> {
    let record = receipts.find(message_id)?;
    let until = match request.until {
        Some(number) => Level::from_wire("until", number)?,
        None if record.wants_ack => Level::Acked,
        None => Level::Settled,
    };
    let watch = Watch {
        receipts: receipts.clone(),
        until,
        once: request.once,
        seen: 0,
        answered_at: None,
        ends_at: record.accepted + receipts.ttl(),
        is_over: false,
        record,
        _place: place,
    };
    Ok(Box::pin(stream::unfold(watch, |mut watch| async move {
        let reply = watch.next().await?;
        Some((Ok(reply), watch))
    })))
}

/// The message that a request names.
fn message_id(request: &WatchPushRequest) -> Result<MessageId, Fault> {
    MessageId::parse(&request.message_id).ok_or_else(|| {
        Fault::bad_request("message_id is none of ours; it takes the 26 characters of a push's answer")
    })
}

impl Watch {
    async fn next(&mut self) -> Option<WatchPushReply> {
        if self.is_over {
            return None;
        }
        if let Some(at) = self.answered_at {
            // Running out is no error: the last answer says that the receipt is not complete.
            let receipts = self.receipts.clone();
            tokio::select! {
                _ = timeout_at(self.ends_at, self.record.change_after(self.seen)) => sleep_until(at + PACE).await,
                () = receipts.ended() => self.once = true,
            }
        }
        let state = self.record.state();
        self.seen = state.changes;
        let receipt = compose(&self.record, &state, self.until);
        let is_settled = receipt.complete || self.record.is_final(&state);
        self.is_over = is_settled || self.once || Instant::now() >= self.ends_at;
        self.answered_at = Some(Instant::now());
        let reply = WatchPushReply {
            message_id: self.record.message_id.to_string(),
            receipt: Some(receipt),
            degraded: degraded(&self.record, &state, self.until),
            age_ms: u64::try_from(self.record.accepted.elapsed().as_millis()).unwrap_or(u64::MAX),
        };
        Some(reply)
    }
}
