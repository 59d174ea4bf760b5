//! Inboxes: rows that wait until a session of their user has acknowledged them.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use roomcast_proto::pubsub::{AckInboxReply, AckInboxRequest};
use roomcast_store::log::{Put, Stored};
use roomcast_types::{Fault, MessageId, StoreTime, UserId, unix_millis};

use super::Archive;

/// Users, and messages of one user, that one call acknowledges.
const USERS_MAX: usize = 256;
const MESSAGES_MAX: usize = 1_000;
/// Inboxes that are written at once.
const AT_ONCE: usize = 16;

impl Archive {
    /// Puts a message into the inboxes of users, for `ttl` at most; for each whether it lies there. UNAVAILABLE when the
    /// store does not answer.
    pub async fn store(
        &self,
        users: &[UserId],
        message_id: MessageId,
        payload: Bytes,
        ttl: Option<Duration>,
    ) -> Result<Vec<bool>, Fault> {
        let now = StoreTime::from_millis(unix_millis());
        let age = ttl.map_or(self.inbox_age, |ttl| ttl.min(self.inbox_age));
        let message = Stored { message_id, payload, expires_at: now.plus(age) };
        let put = self.logs.inbox.put(users, &message, self.inbox_messages, now);
        let put = super::answer(&self.gates.inbox, put).await;
        let put = put.map_err(|fault| Fault {
            message: format!("the inbox does not answer: {}", fault.message),
            ..fault
        })?;
        let stored: Vec<_> = put.into_iter().map(|put| put == Put::Stored).collect();
        self.metrics.stored(stored.iter().filter(|is_stored| **is_stored).count());
        Ok(stored)
    }

    /// How many messages may wait for one user.
    pub fn inbox_messages(&self) -> u32 {
        self.inbox_messages
    }

    /// Takes out what sessions acknowledged.
    pub async fn ack_inbox(&self, request: AckInboxRequest) -> Result<AckInboxReply, Fault> {
        let count = request.acks.len();
        if count > USERS_MAX {
            let message = format!("acks has {count} entries; at most {USERS_MAX} are allowed");
            return Err(Fault::bad_request(message));
        }
        let mut acks = Vec::with_capacity(count);
        for (index, ack) in request.acks.into_iter().enumerate() {
            let count = ack.message_ids.len();
            if count > MESSAGES_MAX {
                let message = format!(
                    "acks[{index}].message_ids has {count} entries; at most {MESSAGES_MAX} are allowed"
                );
                return Err(Fault::bad_request(message));
            }
            let ids = ack.message_ids.iter().map(|id| MessageId::from_bytes(id)).collect::<Option<Vec<_>>>();
            let ids = ids.ok_or_else(|| {
                Fault::bad_request(format!("acks[{index}].message_ids has one that has not 16 bytes"))
            })?;
            acks.push((UserId::new(ack.user_id)?, ids));
        }
        let taking = acks.into_iter().map(|(user_id, ids)| async move {
            let taken = super::answer(&self.gates.inbox, self.logs.inbox.take(&user_id, &ids)).await?;
            self.metrics.taken.increment(taken);
            Ok::<_, Fault>(())
        });
        let all: Vec<()> = stream::iter(taking).buffer_unordered(AT_ONCE).try_collect().await?;
        drop(all);
        Ok(AckInboxReply {})
    }
}
