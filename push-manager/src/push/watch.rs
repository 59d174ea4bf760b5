//! The receipt of a push as it grows.

use std::{sync::Arc, time::Duration};

use futures_util::{Stream, stream};
use roomcast_proto::pubsub::{WatchPushReply, WatchPushRequest};
use roomcast_types::{Fault, MessageId};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout_at},
};

use super::{
    Level, Receipts,
    receipt::{compose, degraded},
    record::Record,
};

/// Between two answers.
const PACE: Duration = Duration::from_millis(50);

/// One watch.
struct Watch {
    record: Arc<Record>,
    until: Level,
    once: bool,
    changes: watch::Receiver<u64>,
    /// When the last answer was given.
    answered_at: Option<Instant>,
    ends_at: Instant,
    is_over: bool,
}

/// The receipt as it is now, then with each change until it is complete or no longer kept.
pub fn watch(
    receipts: &Receipts,
    request: &WatchPushRequest,
) -> Result<impl Stream<Item = WatchPushReply> + use<>, Fault> {
    let record = receipts.find(message_id(request)?)?;
    let until = match request.until {
        Some(number) => Level::from_wire("until", number)?,
        None if record.wants_ack => Level::Acked,
        None => Level::Settled,
    };
    let watch = Watch {
        until,
        once: request.once,
        changes: record.subscribe(),
        answered_at: None,
        ends_at: record.accepted + receipts.ttl(),
        is_over: false,
        record,
    };
    Ok(stream::unfold(watch, |mut watch| async move {
        let reply = watch.next().await?;
        Some((reply, watch))
    }))
}

/// The message that a request names.
pub fn message_id(request: &WatchPushRequest) -> Result<MessageId, Fault> {
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
            let _ = timeout_at(self.ends_at, self.changes.changed()).await;
            sleep_until(at + PACE).await;
        }
        self.changes.mark_unchanged();
        let state = self.record.state();
        let receipt = compose(&self.record, &state, self.until);
        self.is_over = receipt.complete || self.once || Instant::now() >= self.ends_at;
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
