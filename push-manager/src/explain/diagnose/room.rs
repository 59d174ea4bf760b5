//! One room: whether it is there, whether anybody is in it, and how the last messages fared.

use roomcast_proto::pubsub::Explanation;

use super::{Hop, Verdict, answers, as_far_as_known, message::overall, messages, node, words};

/// The room that is asked about is not there.
pub fn gone(evidence: &Explanation) -> Option<Verdict> {
    let room_id = &evidence.room_id;
    let what = match evidence.room.as_ref()?.standing.as_str() {
        "NOT_FOUND" => "does not exist: nobody joined or created it, or it was removed when empty",
        "DELETED" => "was deleted",
        _ => return None,
    };
    Some(Verdict::new(Hop::Room, format!("room {room_id} {what}")))
}

/// About a room, without a message in question.
pub fn room(evidence: &Explanation) -> Verdict {
    if let Some(verdict) = gone(evidence) {
        return verdict;
    }
    let room_id = &evidence.room_id;
    let concerned = evidence.nodes.iter().filter(|own| node::is_holder(evidence, own));
    if let Some((hop, why)) = concerned.filter_map(node::trouble).next() {
        return Verdict::new(hop, format!("room {room_id} is partly out of reach: {why}"));
    }
    let failed = messages(evidence).into_iter().find_map(|message_id| {
        let push = evidence.pushes.iter().find(|push| push.message_id == message_id);
        let verdict = overall(evidence, push, message_id);
        // Nobody is there is said below, of now.
        (!matches!(verdict.hop, Hop::None | Hop::Room)).then_some(verdict)
    });
    if let Some(verdict) = failed {
        return verdict;
    }
    let missing = as_far_as_known(evidence);
    let sessions: u64 = answers(evidence).map(|(_, said)| said.sessions_total).sum();
    if sessions == 0 {
        if let Some((node, died_ms_ago)) = node::last_dead(evidence) {
            let (id, ago) = (&node.node_id, words::span(died_ms_ago));
            let sentence =
                format!("nobody is in room {room_id} now: {id}, which held members, died {ago} ago");
            return Verdict::new(Hop::Node, sentence);
        }
        let seats = match &evidence.room {
            Some(room) => format!(", {} held", words::count(room.members, "seat")),
            None => String::new(),
        };
        let sentence = format!("nobody is in room {room_id} now{seats}{missing}");
        return Verdict::new(Hop::Room, sentence);
    }
    let messages = match messages(evidence).len() as u64 {
        0 => "no message to it is remembered".to_owned(),
        1 => "the last message arrived".to_owned(),
        count => format!("the last {count} messages arrived"),
    };
    let sessions = words::count(sessions, "session");
    Verdict::new(Hop::None, format!("room {room_id} has {sessions}, and {messages}{missing}"))
}
