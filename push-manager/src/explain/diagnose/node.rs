//! Nodes and the lanes to them: which of them keep a message or a push from going on.

use roomcast_proto::pubsub::{Explanation, NodeEvidence, PushEvidence, PushHop};

use super::{Hop, Verdict, words};

/// Whether the node holds sessions that are asked about, as far as anybody knows.
pub fn is_holder(evidence: &Explanation, node: &NodeEvidence) -> bool {
    let is_reported = evidence
        .user
        .as_ref()
        .is_some_and(|user| user.sessions.iter().any(|session| session.node_id == node.node_id));
    let is_routed = if evidence.user_id.is_empty() { node.room_sessions } else { node.user_sessions };
    is_reported || is_routed.is_some()
}

/// How long ago a life of the node died that held sessions asked about.
pub fn died_ms_ago(evidence: &Explanation, node: &NodeEvidence) -> Option<u64> {
    if evidence.user_id.is_empty() { node.room_died_ms_ago } else { node.user_died_ms_ago }
}

/// The node that died last of those that held sessions asked about.
pub fn last_dead(evidence: &Explanation) -> Option<(&NodeEvidence, u64)> {
    let dead = evidence.nodes.iter().filter_map(|node| Some((node, died_ms_ago(evidence, node)?)));
    dead.min_by_key(|(_, age)| *age)
}

/// What is wrong with a node now, or with the way to it.
pub fn trouble(node: &NodeEvidence) -> Option<(Hop, String)> {
    let id = &node.node_id;
    let echo = match node.echo_age_ms {
        Some(age) => format!("its youngest echo is {} old", words::span(age)),
        None => "it has sent no echo".to_owned(),
    };
    match (node.lane.as_str(), &node.said) {
        ("refused", _) => Some((Hop::Node, format!("{id} is dead: it refuses connections"))),
        ("broken", None) => {
            Some((Hop::Lane, format!("the lane to {id} is broken, and {id} does not answer")))
        }
        ("broken", Some(_)) => {
            Some((Hop::Lane, format!("the lane to {id} is broken, while {id} itself answers")))
        }
        ("new" | "syncing", None) => {
            Some((Hop::Lane, format!("the lane to {id} is not in sync, and {id} does not answer")))
        }
        ("new" | "syncing", Some(_)) => Some((Hop::Lane, format!("the lane to {id} is not in sync yet"))),
        (_, None) if node.lane.is_empty() && !node.registered => Some((Hop::Node, format!("{id} is dead"))),
        (_, None) if node.lane.is_empty() => {
            Some((Hop::Node, format!("{id} has no lane and does not answer")))
        }
        (_, None) => Some((Hop::Node, format!("{id} is frozen or cut off: it does not answer, {echo}"))),
        (_, Some(_)) if !node.trusted && !node.lane.is_empty() => Some((
            Hop::Route,
            format!("the routes of {id} are not trusted: {echo}, so it is addressed blind"),
        )),
        _ => None,
    }
}

/// The first node of a push that kept it from going on; only those that matter to the question.
pub fn stuck(evidence: &Explanation, push: &PushEvidence) -> Option<Verdict> {
    let matters = |hop: &&PushHop| {
        let node = evidence.nodes.iter().find(|node| node.node_id == hop.node_id);
        let is_concerned =
            node.is_some_and(|node| is_holder(evidence, node) || died_ms_ago(evidence, node).is_some());
        // A room's message that was lost elsewhere says nothing of this user.
        let is_for_it = evidence.user_id.is_empty() || push.names_user;
        hop.announced > 0 && is_for_it || is_concerned
    };
    push.hops.iter().filter(matters).find_map(|hop| stuck_at(evidence, push, hop))
}

fn stuck_at(evidence: &Explanation, push: &PushEvidence, hop: &PushHop) -> Option<Verdict> {
    let (id, message) = (&hop.node_id, &push.message_id);
    let lost = |hop, why: String| Some(Verdict::new(hop, format!("message {message} was lost: {why}")));
    match hop.lost.as_str() {
        "" => {}
        "QUEUE_FULL" => return lost(Hop::Lane, format!("the queue of the lane to {id} was full")),
        "DEADLINE" => {
            let why = format!("{id} did not acknowledge it in time, so it was given up on the lane");
            return lost(Hop::Lane, why);
        }
        "FORGOTTEN" => return lost(Hop::Lane, format!("{id} forgot the lane while it was under way")),
        _ => return lost(Hop::Node, format!("{id} died")),
    }
    if hop.heard_us.is_some() {
        return None;
    }
    let age = words::span(push.age_ms);
    let node = evidence.nodes.iter().find(|node| node.node_id == *id);
    let (at, why) = match node.and_then(trouble) {
        Some((at, why)) => (at, why),
        None if hop.sent_us.is_none() => (Hop::Lane, format!("it waits in the queue of the lane to {id}")),
        None => (Hop::Node, format!("{id} has not said what became of it")),
    };
    Some(Verdict::new(at, format!("message {message} is on its way since {age}: {why}")))
}
