//! Connections to the gRPC ports of nodes and push-managers, one per address.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use roomcast_proto::pubsub::{
    connect_node_service_client::ConnectNodeServiceClient,
    push_manager_service_client::PushManagerServiceClient,
};
use tonic::transport::{Channel, Endpoint};

/// How long a peer may take to accept a connection.
pub(crate) const CONNECT_WAIT: Duration = Duration::from_secs(1);
/// Addresses kept; past it all are let go and dialled again when needed. Addresses of processes long gone are most.
const KEPT: usize = 1_024;
/// Largest reply a peer may send; its replies are small.
const REPLY_BYTES_MAX: usize = 1 << 20;

/// Channels by address, dialled when first used.
#[derive(Default)]
pub(crate) struct Peers(Mutex<HashMap<String, Channel>>);

impl Peers {
    /// The interface of a node; `None` when the address is none.
    pub(crate) fn node(&self, address: &str) -> Option<ConnectNodeServiceClient<Channel>> {
        let client = ConnectNodeServiceClient::new(self.channel(address)?);
        Some(client.max_decoding_message_size(REPLY_BYTES_MAX))
    }

    /// The interface of a push-manager; `None` when the address is none.
    pub(crate) fn push_manager(&self, address: &str) -> Option<PushManagerServiceClient<Channel>> {
        let client = PushManagerServiceClient::new(self.channel(address)?);
        Some(client.max_decoding_message_size(REPLY_BYTES_MAX))
    }

    fn channel(&self, address: &str) -> Option<Channel> {
        let mut channels = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(channel) = channels.get(address) {
            return Some(channel.clone());
        }
        if channels.len() >= KEPT {
            channels.clear();
        }
        let endpoint = Endpoint::from_shared(format!("http://{address}")).ok()?;
        let channel = endpoint.tcp_nodelay(true).connect_timeout(CONNECT_WAIT).connect_lazy();
        channels.insert(address.to_owned(), channel.clone());
        Some(channel)
    }
}
