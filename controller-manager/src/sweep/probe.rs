//! Asks a node for a sign of life.

use std::io::ErrorKind;

use roomcast_proto::pubsub::GetNodeStatsRequest;
use roomcast_store::presence::NodeRef;
use tokio::{net::TcpStream, time::timeout};

use super::verdict::Probe;
use crate::{controller::Controller, peers::CONNECT_WAIT};

/// Whether nobody listens at this address.
pub(crate) async fn refuses(address: &str) -> bool {
    let answer = timeout(CONNECT_WAIT, TcpStream::connect(address)).await;
    matches!(answer, Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused)
}

/// Takes two seconds at most: a process that is frozen still accepts connections, in its kernel.
pub(super) async fn probe(controller: &Controller, node: &NodeRef, address: &str) -> Probe {
    // Apart from the call below: there a refusal cannot be told from other failures.
    match timeout(CONNECT_WAIT, TcpStream::connect(address)).await {
        Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused => return Probe::Refused,
        Ok(Ok(_)) => {}
        Ok(Err(_)) | Err(_) => return Probe::NoAnswer,
    }
    let Some(mut client) = controller.peers.node(address) else { return Probe::NoAnswer };
    match timeout(CONNECT_WAIT, client.get_node_stats(GetNodeStatsRequest {})).await {
        Ok(Ok(reply)) if reply.get_ref().incarnation == node.incarnation.to_string() => Probe::Same,
        Ok(Ok(reply)) if !reply.get_ref().incarnation.is_empty() => Probe::OtherLife,
        _ => Probe::NoAnswer,
    }
}
