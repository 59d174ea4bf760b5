//! Empties a node and waits until it has ended.

use std::time::Duration;

use roomcast_client::{Controller, DrainReply, Error, Node};
use roomcast_proto::pubsub::{ListNodesRequest, NodeInfo};
use roomcast_types::NodeId;
use tokio::time::{Instant, sleep};

use crate::{failure::Failure, output::Output, room::refused};

/// Between two looks at how far it has come.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Finds the node, has it drain, and shows each change until its registration is gone.
pub async fn run(
    controller: &Controller,
    timeout: Duration,
    node: &NodeId,
    output: &mut Output,
) -> Result<(), Failure> {
    let Some(found) = find(controller, node).await.map_err(refused)? else {
        return Err(Failure::Refused(format!(
            "node {node} is not registered; `biz-client node list` names those that are"
        )));
    };
    let client = Node::new(&found.grpc_address).map_err(|error| unanswered(node, &found, &error))?;
    let client = client.deadline(timeout);
    let mut last =
        client.drain(&found.incarnation).await.map_err(|error| unanswered(node, &found, &error))?;
    let until = Instant::now() + Duration::from_millis(last.limit_ms) + timeout;
    show(&last, output)?;
    loop {
        sleep(LOOK_EVERY).await;
        match client.drain(&found.incarnation).await {
            Ok(reply) if reply == last => {}
            Ok(reply) => {
                show(&reply, output)?;
                last = reply;
            }
            // Nobody listens any more, or another life of it.
            Err(_) if has_ended(controller, node, &found).await => return end(&last, output),
            Err(_) => {}
        }
        if Instant::now() >= until {
            let (sessions, limit) = (last.sessions, Duration::from_millis(last.limit_ms));
            return Err(Failure::Refused(format!(
                "node {node} has not ended within its limit of {limit:?}; {sessions} sessions were left when it last answered"
            )));
        }
    }
}

async fn find(controller: &Controller, node: &NodeId) -> Result<Option<NodeInfo>, Error> {
    let nodes = controller.list_nodes(ListNodesRequest {}).await?.nodes;
    Ok(nodes.into_iter().find(|found| found.node_id == node.as_str()))
}

/// Whether the registration of this life is gone. A controller that does not answer does not know.
async fn has_ended(controller: &Controller, node: &NodeId, life: &NodeInfo) -> bool {
    match find(controller, node).await {
        Ok(found) => found.is_none_or(|found| found.incarnation != life.incarnation),
        Err(_) => false,
    }
}

fn show(reply: &DrainReply, output: &mut Output) -> Result<(), Failure> {
    if output.is_json() { output.compact(reply) } else { output.line(&line(reply)) }
}

fn line(reply: &DrainReply) -> String {
    let DrainReply { sessions, told, moved, closed, lost, .. } = reply;
    format!("{sessions} sessions  {told} told to go  {moved} moved  {closed} closed  {lost} messages lost")
}

/// In JSON the last reply stands for itself.
fn end(last: &DrainReply, output: &mut Output) -> Result<(), Failure> {
    if output.is_json() {
        return Ok(());
    }
    let left = match last.sessions {
        0 => String::new(),
        left => format!(" ({left} sessions were left when it last answered; its log has the last word)"),
    };
    output.line(&format!("{} has ended{left}", last.node_id))
}

fn unanswered(node: &NodeId, found: &NodeInfo, error: &Error) -> Failure {
    let cause = error.cause().map(|cause| format!(" ({cause})")).unwrap_or_default();
    Failure::Refused(format!("node {node} at {} did not take the order: {error}{cause}", found.grpc_address))
}
