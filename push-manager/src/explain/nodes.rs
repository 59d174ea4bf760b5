//! What is known of every node, and what each says itself.

use std::{collections::BTreeMap, time::Duration};

use futures_util::{StreamExt, stream};
use roomcast_proto::{
    fault,
    pubsub::{
        InspectReply, InspectRequest, MissingPart, NodeEvidence,
        connect_node_service_client::ConnectNodeServiceClient,
    },
};
use roomcast_types::{RoomId, UserId};
use tokio::time::timeout;
use tonic::transport::Endpoint;

use super::{Explainer, PART, Question};
use crate::{
    lane::{Lane, Stance},
    routes::{Departure, Share, Table},
};

/// Nodes that are asked, and how many at a time. A session that ended may have been on any of them.
const NODES_MAX: usize = 256;
const AT_ONCE: usize = 32;
/// How long a connection may take.
const CONNECT: Duration = Duration::from_millis(500);
/// An answer has at most 100 sessions, and 100 messages with as many sessions each.
const REPLY_BYTES_MAX: usize = 8 << 20;

impl Explainer {
    pub(super) async fn nodes(
        &self,
        question: &Question,
        room: Option<&RoomId>,
    ) -> (Vec<NodeEvidence>, Vec<MissingPart>) {
        let mut nodes: BTreeMap<String, (NodeEvidence, Option<String>)> = BTreeMap::new();
        let now_us = self.context.clock.now_us();
        for lane in self.fleet.lanes().iter() {
            let evidence = self.lane(lane, now_us, question.user.as_ref(), room);
            nodes.insert(evidence.node_id.clone(), (evidence, None));
        }
        let departed = self.context.routes.departed.holders(question.user.as_ref(), room);
        for (node_id, Departure { age, held_user, held_room }) in departed {
            let age_ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
            let (node, _) = nodes.entry(node_id.to_string()).or_default();
            node.node_id = node_id.to_string();
            node.user_died_ms_ago = held_user.then_some(age_ms);
            node.room_died_ms_ago = held_room.then_some(age_ms);
        }
        for registration in &self.fleet.listing().registrations {
            let id = registration.id.to_string();
            let (node, address) = nodes.entry(id.clone()).or_default();
            (node.node_id, node.registered) = (id, true);
            node.state = registration.state.as_str().to_owned();
            node.incarnation = registration.incarnation.to_string();
            *address = Some(registration.grpc_address.clone());
        }
        let request = question.inspection();
        let asked = stream::iter(nodes.into_values().enumerate()).map(|(place, (mut node, address))| {
            let request = request.clone();
            let address_is_unknown = address.is_none();
            async move {
                let said = match address {
                    None => Err("it is not registered, so where to ask is not known".to_owned()),
                    Some(_) if place >= NODES_MAX => Err(format!("no more than {NODES_MAX} nodes are asked")),
                    Some(address) => inspect(&address, request).await,
                };
                // What is known to be dead is not missing.
                let is_gone = address_is_unknown && node.lane.is_empty();
                let missing = said.map(|said| node.said = Some(said)).err().filter(|_| !is_gone);
                let missing = missing.map(|why| MissingPart { part: node.node_id.clone(), why });
                (node, missing)
            }
        });
        let answers: Vec<_> = asked.buffered(AT_ONCE).collect().await;
        let (nodes, missing): (Vec<_>, Vec<_>) = answers.into_iter().unzip();
        let mut missing: Vec<MissingPart> = missing.into_iter().flatten().collect();
        missing.extend(nodes.iter().flat_map(silent_shards));
        (nodes, missing)
    }

    fn lane(&self, lane: &Lane, now_us: u64, user: Option<&UserId>, room: Option<&RoomId>) -> NodeEvidence {
        let routes = &self.context.routes;
        let user = user.and_then(|user| share(&routes.users, user.as_str(), lane));
        let room = room.and_then(|room| share(&routes.rooms, room.as_str(), lane));
        let echo_age = lane.echo_age(now_us);
        NodeEvidence {
            node_id: lane.node_id().to_string(),
            lane: lane.phase().as_str().to_owned(),
            trusted: lane.stance(now_us) == Stance::Trusted,
            echo_age_ms: echo_age.map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
            queued: lane.queued() as u64,
            user_sessions: user.map(|share| share.sessions.into()),
            room_sessions: room.map(|share| share.sessions.into()),
            ..NodeEvidence::default()
        }
    }
}

fn share<K, S>(table: &Table<K, S>, key: &str, lane: &Lane) -> Option<S>
where
    K: std::hash::Hash + Eq + Clone + std::borrow::Borrow<str>,
    S: Share,
{
    table.read(key, |shares| shares.iter().copied().find(|share| share.node() == lane.index()))
}

async fn inspect(address: &str, request: InspectRequest) -> Result<InspectReply, String> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|error| error.to_string())?;
    let asking = async {
        let channel = endpoint.tcp_nodelay(true).connect_timeout(CONNECT).connect().await;
        let channel = channel.map_err(|error| innermost(&error))?;
        let mut client = ConnectNodeServiceClient::new(channel).max_decoding_message_size(REPLY_BYTES_MAX);
        let reply = client.inspect(request).await;
        reply.map(tonic::Response::into_inner).map_err(|status| fault(&status).message)
    };
    timeout(PART, asking).await.unwrap_or_else(|_| Err(format!("no answer within {PART:?}")))
}

fn innermost(error: &dyn std::error::Error) -> String {
    let mut inner = error;
    while let Some(cause) = inner.source() {
        inner = cause;
    }
    inner.to_string()
}

fn silent_shards(node: &NodeEvidence) -> Vec<MissingPart> {
    let shards = node.said.iter().flat_map(|said| &said.silent_shards);
    let missing = |shard: &u32| MissingPart {
        part: format!("{} shard {shard}", node.node_id),
        why: "no answer in time".to_owned(),
    };
    shards.map(missing).collect()
}
