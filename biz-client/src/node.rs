//! Questions about connect-nodes, and orders to them.

mod drain;

use roomcast_client::Controller;
use roomcast_proto::pubsub::{
    ListNodesReply, ListNodesRequest, ListSessionsReply, ListSessionsRequest, SelectConnectNodeRequest,
};
use roomcast_types::NodeId;

use crate::{
    args::{NodeQuestion, Servers},
    degraded::{self, Degraded},
    failure::Failure,
    output::{Output, list, pairs, yes},
    room::{controller, more, refused},
};

const PAGE_MAX: u32 = 1_000;

/// Asks and shows the answer.
pub async fn run(servers: &Servers, question: NodeQuestion, output: &mut Output) -> Result<(), Failure> {
    let controller = controller(servers)?;
    match question {
        NodeQuestion::List => {
            let reply = controller.list_nodes(ListNodesRequest {}).await.map_err(refused)?;
            output.show(&reply, describe_nodes)
        }
        NodeQuestion::Select { exclude } => {
            let exclude_node_ids = exclude.into_iter().map(String::from).collect();
            let request = SelectConnectNodeRequest { exclude_node_ids };
            let reply = controller.select_connect_node(request).await.map_err(refused)?;
            output.show(&reply, |node| {
                pairs([
                    ("node", node.node_id.clone()),
                    ("url", node.url.clone()),
                    ("address", node.node_address.clone()),
                    Degraded(&node.degraded).line(),
                ])
            })
        }
        NodeQuestion::Drain { node } => drain::run(&controller, servers.timeout, &node, output).await,
        NodeQuestion::Sessions { node, limit } => {
            let reply = sessions(&controller, &node, limit).await?;
            output.show(&reply, describe_sessions)
        }
    }
}

async fn sessions(controller: &Controller, node: &NodeId, limit: u32) -> Result<ListSessionsReply, Failure> {
    let mut all = ListSessionsReply::default();
    loop {
        let page_size = (limit - all.sessions.len() as u32).min(PAGE_MAX);
        let request =
            ListSessionsRequest { node_id: node.to_string(), page_size, page_token: all.next_page_token };
        let page = controller.list_sessions(request).await.map_err(refused)?;
        all.sessions.extend(page.sessions);
        degraded::add(&mut all.degraded, page.degraded);
        all.next_page_token = page.next_page_token;
        if all.next_page_token.is_empty() || all.sessions.len() as u32 >= limit {
            return Ok(all);
        }
    }
}

fn describe_nodes(reply: &ListNodesReply) -> String {
    let rows = reply.nodes.iter().map(|node| {
        let (sessions, rooms) = if node.reporting {
            (format!("{} of {}", node.sessions, node.sessions_max), node.rooms.to_string())
        } else {
            ("unknown".to_owned(), "unknown".to_owned())
        };
        let (state, url) = (node.state.clone(), node.url.clone());
        [node.node_id.clone(), state, sessions, rooms, yes(node.reporting), url]
    });
    let list = list(["node", "state", "sessions", "rooms", "reporting", "url"], rows);
    format!("{list}{}", pairs([Degraded(&reply.degraded).line()]))
}

fn describe_sessions(reply: &ListSessionsReply) -> String {
    let rows = reply.sessions.iter().map(|session| {
        let rooms = session.room_ids.join(", ");
        let (id, client) = (session.session_id.clone(), session.client_id.clone());
        [id, session.user_id.clone(), session.user_name.clone(), client, rooms]
    });
    let list = list(["session", "user", "name", "client", "rooms"], rows);
    let degraded = pairs([Degraded(&reply.degraded).line()]);
    format!("{list}{degraded}{}", more(&reply.next_page_token))
}

#[cfg(test)]
mod tests {
    use roomcast_proto::pubsub::NodeInfo;

    use super::*;

    #[test]
    fn a_node_that_does_not_report_is_not_shown_as_empty() {
        let node = |node_id: &str, reporting| {
            let (sessions, sessions_max) = if reporting { (3, 50) } else { (0, 0) };
            NodeInfo { node_id: node_id.into(), sessions, sessions_max, reporting, ..NodeInfo::default() }
        };
        let degraded = vec!["PRESENCE_UNAVAILABLE".to_owned()];
        let shown =
            describe_nodes(&ListNodesReply { nodes: vec![node("a", true), node("b", false)], degraded });
        let row = |id: &str| shown.lines().find(|line| line.contains(id)).unwrap().to_owned();
        assert!(row(" a ").contains("3 of 50") && row(" b ").contains("unknown"), "{shown}");
        assert!(!shown.contains("0 of 0") && shown.ends_with("degraded  PRESENCE_UNAVAILABLE\n"), "{shown}");
    }
}
