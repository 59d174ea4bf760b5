//! What follows from what the parts said: one sentence, and the first hop that failed. Pure: it asks nobody.
//!
//! The hops in their order: the request itself (was it for this user at all), the push-manager that accepted it, the
//! room, the user's presence in it, the user's sessions, routes, lanes, nodes, the session's queue, the client.

mod message;
mod node;
mod room;
#[cfg(test)]
mod tests;
mod user;
mod words;

use std::collections::BTreeSet;

use roomcast_proto::pubsub::{Explanation, InspectReply, NodeEvidence};

/// Where a message got to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hop {
    /// The push was not meant for it.
    Request,
    /// Whoever accepted the push does not know it any more.
    PushManager,
    /// The room is not there, or nobody is in it.
    Room,
    /// The user is not in the room, or was not at that moment.
    Seat,
    /// The user has no session, or had none at that moment.
    User,
    /// What is known of the node's sessions may be old.
    Route,
    /// The way to the node.
    Lane,
    /// The node.
    Node,
    /// The session's queue.
    Session,
    /// The client.
    Client,
    /// Everything arrived.
    None,
}

impl Hop {
    /// The word of the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Request => "REQUEST",
            Self::PushManager => "PUSH_MANAGER",
            Self::Room => "ROOM",
            Self::Seat => "SEAT",
            Self::User => "USER",
            Self::Route => "ROUTE",
            Self::Lane => "LANE",
            Self::Node => "NODE",
            Self::Session => "SESSION",
            Self::Client => "CLIENT",
            Self::None => "NONE",
        }
    }
}

/// What follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The first hop that failed.
    pub hop: Hop,
    /// For people.
    pub sentence: String,
}

impl Verdict {
    fn new(hop: Hop, sentence: impl Into<String>) -> Self {
        Self { hop, sentence: sentence.into() }
    }
}

/// What follows from this evidence.
pub fn diagnose(evidence: &Explanation) -> Verdict {
    match (evidence.message_id.as_str(), evidence.user_id.as_str()) {
        ("", "") => room::room(evidence),
        ("", _) => user::user(evidence),
        (message_id, _) => message::message(evidence, message_id),
    }
}

/// The nodes that answered, with their answers.
fn answers(evidence: &Explanation) -> impl Iterator<Item = (&NodeEvidence, &InspectReply)> {
    evidence.nodes.iter().filter_map(|node| Some((node, node.said.as_ref()?)))
}

/// Messages that any part knows, newest first: ids begin with the time.
fn messages(evidence: &Explanation) -> Vec<&str> {
    let at_nodes = answers(evidence).flat_map(|(_, said)| &said.messages);
    let at_nodes = at_nodes.map(|message| message.message_id.as_str());
    let accepted = evidence.pushes.iter().map(|push| push.message_id.as_str());
    let ids: BTreeSet<&str> = accepted.chain(at_nodes).collect();
    ids.into_iter().rev().collect()
}

/// What the parts that did not answer leave open.
fn as_far_as_known(evidence: &Explanation) -> String {
    let parts: Vec<&str> = evidence.missing.iter().map(|missing| missing.part.as_str()).collect();
    if parts.is_empty() { String::new() } else { format!(" (no answer from {})", parts.join(", ")) }
}
