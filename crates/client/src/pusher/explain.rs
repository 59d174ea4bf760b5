//! Questions why a message did or did not arrive.

use roomcast_proto::pubsub::{ExplainRoomRequest, ExplainUserRequest, Explanation, TraceMessageRequest};

use super::{Pusher, client};
use crate::error::Error;

impl Pusher {
    /// Why messages did or did not reach a user.
    pub async fn explain_user(&self, request: ExplainUserRequest) -> Result<Explanation, Error> {
        self.servers
            .call(request, &self.question(), |channel, request| async move {
                client(channel).explain_user(request).await
            })
            .await
    }

    /// Why messages did or did not reach the members of a room.
    pub async fn explain_room(&self, request: ExplainRoomRequest) -> Result<Explanation, Error> {
        self.servers
            .call(request, &self.question(), |channel, request| async move {
                client(channel).explain_room(request).await
            })
            .await
    }

    /// The way of one message, hop by hop. NOT_FOUND when no part knows it any longer.
    pub async fn trace_message(&self, message_id: &str) -> Result<Explanation, Error> {
        let request =
            TraceMessageRequest { message_id: message_id.to_owned(), ..TraceMessageRequest::default() };
        self.servers
            .call(request, &self.question(), |channel, request| async move {
                client(channel).trace_message(request).await
            })
            .await
    }
}
