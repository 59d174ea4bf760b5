//! What business servers and nodes ask of logs and inboxes.

use roomcast_proto::pubsub::{
    AckInboxReply, AckInboxRequest, GetHistoryReply, GetHistoryRequest, ReadLogReply, ReadLogRequest,
};
use roomcast_store::log::LogKey;
use roomcast_types::{Fault, LogPolicy};

use super::{Pusher, request::Target};
use crate::archive::Which;

impl Pusher {
    /// A page of a log. NOT_FOUND for an unknown room, UNAVAILABLE when the log does not answer.
    pub async fn history(&self, request: GetHistoryRequest) -> Result<GetHistoryReply, Fault> {
        let which = Which::checked(request)?;
        let policy = match &which.key {
            LogKey::Room(room_id) => self.look_up(&Target::Room(room_id.clone())).await?.card.log,
            LogKey::User(_) => self.archive.user_policy(),
            LogKey::Unaddressed => LogPolicy::None,
        };
        self.archive.history(policy, which).await
    }

    /// Positions and parts of logs, and inboxes, for a node.
    pub async fn read_log(&self, request: ReadLogRequest) -> Result<ReadLogReply, Fault> {
        self.archive.read_log(request).await
    }

    /// Messages that sessions acknowledged leave their inboxes.
    pub async fn ack_inbox(&self, request: AckInboxRequest) -> Result<AckInboxReply, Fault> {
        self.archive.ack_inbox(request).await
    }
}
