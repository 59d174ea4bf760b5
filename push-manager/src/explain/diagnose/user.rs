//! One user: whether there is a session, whether it is in the room, and how the last messages fared.

use std::collections::BTreeSet;

use roomcast_proto::pubsub::{EndedSession, Explanation, LeftRoom, LiveSession, NodeEvidence, PushEvidence};

use super::{
    Hop, Verdict, answers, as_far_as_known,
    message::{fates, reached},
    messages, node, room, words,
};

/// Close codes from here on are a node's, not a client's.
const OURS: u32 = 4000;

/// About a user, without a message in question.
pub fn user(evidence: &Explanation) -> Verdict {
    if let Some(verdict) = room::gone(evidence) {
        return verdict;
    }
    let live = live(evidence);
    if live.is_empty() {
        return out_of_reach(evidence).unwrap_or_else(|| offline(evidence));
    }
    if !evidence.room_id.is_empty() && !live.iter().any(|(_, session)| is_in(session, &evidence.room_id)) {
        return not_in_room(evidence, &live);
    }
    let failed = messages(evidence).into_iter().find_map(|message_id| {
        let push = evidence.pushes.iter().find(|push| push.message_id == message_id);
        let verdict = reached(evidence, push, message_id)
            .or_else(|| push.and_then(|push| node::stuck(evidence, push)))?;
        (verdict.hop != Hop::None).then_some(verdict)
    });
    if let Some(verdict) = failed.or_else(|| out_of_reach(evidence)) {
        return verdict;
    }
    fine(evidence, &live)
}

fn fine(evidence: &Explanation, live: &[(&NodeEvidence, &LiveSession)]) -> Verdict {
    let user = &evidence.user_id;
    let arrived = messages(evidence).into_iter().filter(|message_id| {
        let outcome = reached(evidence, None, message_id);
        outcome.is_some_and(|verdict| verdict.hop == Hop::None)
    });
    let nodes: BTreeSet<&str> = live.iter().map(|(node, _)| node.node_id.as_str()).collect();
    let nodes = nodes.into_iter().collect::<Vec<_>>().join(", ");
    let sessions = words::count(live.len() as u64, "session");
    let messages = match arrived.count() as u64 {
        0 => "no message for them is remembered".to_owned(),
        1 => "the last message arrived".to_owned(),
        count => format!("the last {count} messages arrived"),
    };
    let before = match last_ended(evidence).filter(|(_, ended)| ended.close_code >= OURS) {
        Some((node, ended)) => format!(
            "; another session, on {}, was {} {} ago",
            node.node_id,
            words::close(ended.close_code),
            words::span(ended.ended_ms_ago)
        ),
        None => String::new(),
    };
    let missing = as_far_as_known(evidence);
    let sentence = format!("user {user} has {sessions} on {nodes}, and {messages}{before}{missing}");
    Verdict::new(Hop::None, sentence)
}

/// Why no session of the user was a target of a message.
pub fn absent(evidence: &Explanation, push: Option<&PushEvidence>, message_id: &str) -> Verdict {
    let user = &evidence.user_id;
    let live = live(evidence);
    let age = push.map(|push| push.age_ms).or_else(|| age_at_nodes(evidence, message_id));
    let fates = fates(evidence, message_id);
    let is = |word: &str| fates.iter().any(|fate| fate.outcome() == word);
    if live.is_empty() {
        if let Some(verdict) = out_of_reach(evidence) {
            return verdict;
        }
        return room::gone(evidence).unwrap_or_else(|| offline(evidence));
    }
    if let Some((node, session)) = live.first()
        && live.iter().all(|(_, session)| age.is_some_and(|age| session.age_ms <= age))
    {
        let sentence = format!(
            "message {message_id} came {} ago, before {user}'s session on {} opened {} ago",
            words::span(age.unwrap_or_default()),
            node.node_id,
            words::span(session.age_ms)
        );
        return Verdict::new(Hop::User, sentence);
    }
    let room_id = push.map_or(evidence.room_id.as_str(), |push| push.room_id.as_str());
    if room_id.is_empty() {
        return out_of_reach(evidence).unwrap_or_else(|| unclear(evidence, message_id));
    }
    if let Some(verdict) = room::gone(evidence) {
        return verdict;
    }
    let joined = live.iter().find_map(|(node, session)| {
        let own = session.rooms.iter().find(|own| own.room_id == room_id)?;
        Some((node, own.age_ms))
    });
    // A node that holds a member is addressed, so one that was not held none at that moment.
    let was_addressed =
        |node: &NodeEvidence| push.is_none_or(|push| push.hops.iter().any(|hop| hop.node_id == node.node_id));
    let is_younger = |since: u64| age.is_some_and(|age| since <= age);
    match joined {
        Some((node, since)) if is("JOINED_AFTER") || is_younger(since) || !was_addressed(node) => {
            let sentence = format!(
                "message {message_id} came {} ago, before {user}'s session on {} joined room {room_id} {} ago",
                words::span(age.unwrap_or_default()),
                node.node_id,
                words::span(since)
            );
            Verdict::new(Hop::Seat, sentence)
        }
        Some(_) => out_of_reach(evidence).unwrap_or_else(|| unclear(evidence, message_id)),
        None => not_in_room(evidence, &live),
    }
}

fn unclear(evidence: &Explanation, message_id: &str) -> Verdict {
    let user = &evidence.user_id;
    let missing = as_far_as_known(evidence);
    let sentence = format!("what became of message {message_id} for {user} is not remembered{missing}");
    Verdict::new(Hop::Node, sentence)
}

fn age_at_nodes(evidence: &Explanation, message_id: &str) -> Option<u64> {
    let messages = answers(evidence).flat_map(|(_, said)| &said.messages);
    messages.filter(|message| message.message_id == message_id).map(|message| message.came_ms_ago).max()
}

/// A node that holds sessions of the user and is in trouble.
fn out_of_reach(evidence: &Explanation) -> Option<Verdict> {
    let concerned = evidence.nodes.iter().filter(|own| node::is_holder(evidence, own));
    let (_, hop, why) =
        concerned.filter_map(|own| node::trouble(own).map(|(hop, why)| (own, hop, why))).next()?;
    Some(Verdict::new(hop, format!("user {} is out of reach: {why}", evidence.user_id)))
}

/// The user's live sessions.
fn live(evidence: &Explanation) -> Vec<(&NodeEvidence, &LiveSession)> {
    let sessions =
        answers(evidence).flat_map(|(node, said)| said.sessions.iter().map(move |own| (node, own)));
    sessions.filter(|(_, session)| session.user_id == evidence.user_id).collect()
}

fn is_in(session: &LiveSession, room_id: &str) -> bool {
    session.rooms.iter().any(|room| room.room_id == room_id)
}

fn not_in_room(evidence: &Explanation, live: &[(&NodeEvidence, &LiveSession)]) -> Verdict {
    let (user, room_id) = (&evidence.user_id, &evidence.room_id);
    let left = answers(evidence).flat_map(|(_, said)| &said.left);
    let left: Option<&LeftRoom> = left
        .filter(|left| left.user_id == *user && left.room_id == *room_id)
        .min_by_key(|left| left.left_ms_ago);
    let node = live.first().map_or("", |(node, _)| node.node_id.as_str());
    if let Some(left) = left {
        let since = words::span(left.left_ms_ago);
        let sentence = format!("user {user} is not in room {room_id}: left it {since} ago ({})", left.reason);
        return Verdict::new(Hop::Seat, sentence);
    }
    let seat = evidence.room.as_ref().map_or("", |room| room.seat.as_str());
    let holds = match seat {
        "HELD" => " and holds a seat there, but no session joined",
        "NONE" => " and holds no seat there",
        _ => "",
    };
    let sessions = words::count(live.len() as u64, "session");
    let sentence = format!("user {user} has {sessions} on {node}, none of them in room {room_id}{holds}");
    Verdict::new(Hop::Seat, sentence)
}

/// The session of the user that ended last, as far as is remembered.
fn last_ended(evidence: &Explanation) -> Option<(&NodeEvidence, &EndedSession)> {
    let ended = answers(evidence).flat_map(|(node, said)| said.ended.iter().map(move |own| (node, own)));
    let own = ended.filter(|(_, ended)| ended.user_id == evidence.user_id);
    own.min_by_key(|(_, ended)| ended.ended_ms_ago)
}

/// There is no session; says of the last one what is remembered.
fn offline(evidence: &Explanation) -> Verdict {
    let user = &evidence.user_id;
    let missing = as_far_as_known(evidence);
    let ended_ms_ago = last_ended(evidence).map_or(u64::MAX, |(_, ended)| ended.ended_ms_ago);
    if let Some((node, died_ms_ago)) = node::last_dead(evidence).filter(|(_, age)| *age < ended_ms_ago) {
        let (id, ago) = (&node.node_id, words::span(died_ms_ago));
        let sentence = format!("user {user} has no session: the last one was on {id}, which died {ago} ago");
        return Verdict::new(Hop::Node, sentence);
    }
    let sentence = match last_ended(evidence) {
        Some((node, ended)) => format!(
            "user {user} has no session: the last one was on {} until {} ago, {}{missing}",
            node.node_id,
            words::span(ended.ended_ms_ago),
            words::close(ended.close_code)
        ),
        None => format!("user {user} has no session, and no node remembers one{missing}"),
    };
    Verdict::new(Hop::User, sentence)
}
