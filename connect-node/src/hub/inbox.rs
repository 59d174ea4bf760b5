//! Messages that were stored while a user was away: read page by page, the next one when the former is acknowledged.

use std::{sync::Arc, time::Duration};

use roomcast_proto::pubsub::{Deliver, InboxAck, LogAnswer, LogQuery, log_query};
use roomcast_types::{MessageId, UserId};

use super::Core;
use crate::{
    log::reader::Unlinked,
    ports::{SessionKey, ToShard},
    wire::{Push, ServerFrame},
};

/// What one page holds at most: half of what may wait for a reader.
const PAGE_MESSAGES: u32 = 64;
const PAGE_BYTES: u32 = 128 << 10;
/// When an inbox that could not be read is tried again: between this and twice this.
const AGAIN_AFTER: Duration = Duration::from_secs(5);

/// What of the inbox was sent to a session.
#[derive(Debug)]
pub struct Page {
    /// Not acknowledged yet.
    open: Vec<MessageId>,
    /// The last one of the page.
    last: MessageId,
    has_more: bool,
}

impl Core {
    /// Sends what lies in the inbox behind `after`, as far as a page goes.
    pub(super) fn read_inbox(self: &Arc<Self>, key: SessionKey, user: UserId, after: Option<MessageId>) {
        self.tasks.spawn(self.clone().reading_inbox(key, user, after));
    }

    async fn reading_inbox(self: Arc<Self>, key: SessionKey, user: UserId, after: Option<MessageId>) {
        let query = LogQuery {
            log: Some(log_query::Log::InboxUserId(user.to_string())),
            limit: PAGE_MESSAGES,
            bytes_max: PAGE_BYTES,
            after_message: after.map(|after| after.to_bytes().to_vec()).unwrap_or_default(),
            ..LogQuery::default()
        };
        loop {
            if let Some(answer) = self.reader.ask(query.clone(), Unlinked::Fails).await {
                return self.send_page(key, &answer).await;
            }
            tokio::time::sleep(AGAIN_AFTER.mul_f64(rand::random_range(1.0..2.0))).await;
            if !self.state().sessions.contains_key(&key) {
                return;
            }
        }
    }

    async fn send_page(&self, key: SessionKey, answer: &LogAnswer) {
        let Some(encoding) = self.state().sessions.get(&key).map(|session| session.encoding) else { return };
        let message = |message: &Deliver| {
            let frame = ServerFrame::Push(Push::from(message)).encode(encoding);
            Some((MessageId::parse(&message.message_id)?, frame))
        };
        let messages: Vec<_> = answer.messages.iter().filter_map(message).collect();
        let Some((last, _)) = messages.last() else { return };
        let open = messages.iter().map(|(id, _)| *id).collect();
        let page = Page { open, last: *last, has_more: answer.has_more };
        self.metrics.catch_up.increment(messages.len() as u64);
        {
            let mut state = self.state();
            let Some(session) = state.sessions.get_mut(&key) else { return };
            session.inbox = Some(Box::new(page));
        }
        self.send(key, ToShard::Inbox { session: key, messages }).await;
    }

    /// A session acknowledged messages that lie in its user's inbox.
    pub(super) fn inbox_acknowledged(self: &Arc<Self>, key: SessionKey, messages: &[MessageId]) {
        let (user, next) = {
            let mut state = self.state();
            let Some(session) = state.sessions.get_mut(&key) else { return };
            let mut next = None;
            if let Some(page) = &mut session.inbox {
                page.open.retain(|open| !messages.contains(open));
                if page.open.is_empty() {
                    next = page.has_more.then_some(page.last);
                    session.inbox = None;
                }
            }
            (session.user.clone(), next)
        };
        let message_ids = messages.iter().map(|message| message.to_bytes().to_vec()).collect();
        self.reader.acknowledge(InboxAck { user_id: user.to_string(), message_ids });
        if let Some(last) = next {
            self.read_inbox(key, user, Some(last));
        }
    }
}
