//! The beginning of a report stream: who reports, and what becomes of the stream before it.

use std::{sync::Arc, time::Duration};

use roomcast_proto::{
    pubsub::{ControllerReply, NodeReport},
    status,
};
use roomcast_store::presence::NodeRef;
use roomcast_types::{Fault, Incarnation, NodeId};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::stream::{End, Stream};
use crate::controller::Controller;

/// What goes down to the node.
pub(crate) type Replies = ReceiverStream<Result<ControllerReply, Status>>;

/// How long a node may take to say who it is.
const HELLO_WAIT: Duration = Duration::from_secs(5);
/// How long an older stream of the node may take to let go. A node waits 2 s for its first reply.
const HANDOVER_WAIT: Duration = Duration::from_secs(1);
/// Replies that wait for the network.
const REPLIES_WAITING: usize = 16;

/// Takes a stream up: a task of its own reads the hello and serves the rest. A refusal is its first reply.
pub(crate) fn open(controller: &Arc<Controller>, mut reports: Streaming<NodeReport>) -> Replies {
    let (replies, stream) = mpsc::channel(REPLIES_WAITING);
    let owner = controller.clone();
    controller.tasks.spawn(async move {
        match hello(&mut reports).await {
            Ok((node, first)) => serve(owner, node, reports, first, replies).await,
            Err(refused) => {
                // The node may be gone already.
                let _ = replies.send(Err(refused)).await;
            }
        }
    });
    ReceiverStream::new(stream)
}

async fn hello(reports: &mut Streaming<NodeReport>) -> Result<(NodeRef, NodeReport), Status> {
    let refuse = |message: &str| status(&Fault::bad_request(message));
    let first = match timeout(HELLO_WAIT, reports.message()).await {
        Ok(first) => first?.ok_or_else(|| refuse("the stream ended before its hello"))?,
        Err(_) => return Err(refuse("no hello came within 5 s")),
    };
    let node = read_hello(&first).map_err(|fault| status(&fault))?;
    Ok((node, first))
}

async fn serve(
    controller: Arc<Controller>,
    node: NodeRef,
    reports: Streaming<NodeReport>,
    first: NodeReport,
    replies: mpsc::Sender<Result<ControllerReply, Status>>,
) {
    let (registered, replaced) = controller.streams.open(node.clone());
    controller.suspects.reports(&node);
    if let Some(older) = replaced {
        // What the older stream still applies must not mix with what comes now.
        let _ = timeout(HANDOVER_WAIT, older.ended.cancelled()).await;
        if older.node != node {
            controller.suspects.died(older.node);
        }
    }
    tracing::info!(node_id = %node.node_id, incarnation = %node.incarnation, "a node reports");
    let stream = Stream::new(controller.clone(), node.clone(), registered, replies).await;
    if let End::Broken(why) = stream.run(reports, first).await {
        tracing::info!(node_id = %node.node_id, why, "the reports of a node broke off");
        controller.suspects.look_at(node);
    }
}

fn read_hello(first: &NodeReport) -> Result<NodeRef, Fault> {
    let Some(hello) = &first.hello else {
        return Err(Fault::bad_request("hello is missing in the first message"));
    };
    let incarnation = Incarnation::from_u64(hello.incarnation)
        .ok_or_else(|| Fault::bad_request("hello.incarnation is 0; it takes a random number above it"))?;
    Ok(NodeRef { node_id: NodeId::new(&hello.node_id)?, incarnation })
}
