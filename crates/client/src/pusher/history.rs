//! Reads the logs of rooms and users.

use roomcast_proto::pubsub::{GetHistoryReply, GetHistoryRequest, get_history_request};
use roomcast_types::{RoomId, UserId};

use super::{Pusher, client};
use crate::error::Error;

/// Whose log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogOf {
    /// Of the room with this id.
    Room(String),
    /// Of messages to the user with this id, and to nobody else.
    User(String),
}

/// Which part of a log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Page {
    /// The newest messages.
    #[default]
    Newest,
    /// Messages after this offset, the nearest ones.
    After(u64),
    /// Messages before this offset, the nearest ones.
    Before(u64),
}

impl Pusher {
    /// One page of a log, oldest first: at most `limit` messages (1 to 1,000; 0 means 100) and 1 MiB of content. The reply's
    /// `has_more` says whether there are further ones in the direction of the page: `Page::After` goes on from its last offset,
    /// `Page::Newest` and `Page::Before` from its first.
    pub async fn history(&self, log: LogOf, page: Page, limit: u32) -> Result<GetHistoryReply, Error> {
        let log = match log {
            LogOf::Room(room_id) => get_history_request::Log::RoomId(RoomId::new(room_id)?.into()),
            LogOf::User(user_id) => get_history_request::Log::UserId(UserId::new(user_id)?.into()),
        };
        let (after, before) = match page {
            Page::Newest => (None, None),
            Page::After(offset) => (Some(offset), None),
            Page::Before(offset) => (None, Some(offset)),
        };
        let request = GetHistoryRequest { log: Some(log), after, before, limit };
        self.servers
            .call(request, &self.question(), |channel, request| async move {
                client(channel).get_history(request).await
            })
            .await
    }
}
