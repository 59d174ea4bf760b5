//! What operators ask of one connect-node.

use std::time::Duration;

use roomcast_proto::pubsub::{
    DrainReply, DrainRequest, connect_node_service_client::ConnectNodeServiceClient,
};

use crate::{
    error::Error,
    rpc::{CallOptions, Servers},
};

const DEADLINE: Duration = Duration::from_secs(5);

/// Talks to one connect-node. Connects on first use.
pub struct Node {
    servers: Servers,
    deadline: Duration,
}

impl Node {
    /// Takes the node's gRPC address, `host:port`: ListNodes names it. Does not connect.
    pub fn new(address: &str) -> Result<Self, Error> {
        Ok(Self { servers: Servers::new([address])?, deadline: DEADLINE })
    }

    /// Time for each call, over all attempts (5 s by default).
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Drains the node: its sessions are sent to other nodes, then its process ends. Answers at once with how far the
    /// drain has come; asking again only asks that. Only the life of the node that `incarnation` names (ListNodes says
    /// it): another one that listens there now is not drained, and answers NOT_FOUND.
    pub async fn drain(&self, incarnation: &str) -> Result<DrainReply, Error> {
        let request = DrainRequest { incarnation: incarnation.to_owned() };
        let options = CallOptions { deadline: self.deadline, traceparent: None, is_idempotent: true };
        let call = self.servers.call(request, &options, |channel, request| async move {
            ConnectNodeServiceClient::new(channel).drain(request).await
        });
        call.await
    }
}
