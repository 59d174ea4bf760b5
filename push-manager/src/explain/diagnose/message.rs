//! One message: what became of it for one user, or for all its targets.

use std::collections::BTreeMap;

use roomcast_proto::pubsub::{
    EndedSession, Explanation, LiveSession, NodeEvidence, NodeMessage, PushEvidence, SessionFate,
};

use super::{Hop, Verdict, answers, as_far_as_known, node, user, words};

/// What one session of the user got.
pub struct Fate<'a> {
    node: &'a NodeEvidence,
    message: &'a NodeMessage,
    session: &'a SessionFate,
}

impl<'a> Fate<'a> {
    /// The word for it.
    pub fn outcome(&self) -> &'a str {
        &self.session.outcome
    }

    fn live(&self) -> Option<&'a LiveSession> {
        let said = self.node.said.as_ref()?;
        said.sessions.iter().find(|session| session.session_id == self.session.session_id)
    }

    fn ended(&self) -> Option<&'a EndedSession> {
        let said = self.node.said.as_ref()?;
        said.ended.iter().find(|session| session.session_id == self.session.session_id)
    }
}

/// About the message that was asked about.
pub fn message(evidence: &Explanation, message_id: &str) -> Verdict {
    let push = evidence.pushes.iter().find(|push| push.message_id == message_id);
    let is_seen = answers(evidence).any(|(_, said)| seen(&said.messages, message_id).is_some());
    if push.is_none() && !is_seen {
        return unknown(evidence, message_id);
    }
    if evidence.user_id.is_empty() {
        return overall(evidence, push, message_id);
    }
    if let Some(verdict) = not_meant(evidence, push) {
        return verdict;
    }
    if !evidence.room_id.is_empty()
        && let Some(room_id) = push.map(|push| &push.room_id).filter(|room_id| !room_id.is_empty())
        && *room_id != evidence.room_id
    {
        let sentence = format!("message {message_id} was for room {room_id}, not for {}", evidence.room_id);
        return Verdict::new(Hop::Request, sentence);
    }
    reached(evidence, push, message_id)
        .or_else(|| push.and_then(|push| node::stuck(evidence, push)))
        .unwrap_or_else(|| waiting(evidence, push, user::absent(evidence, push, message_id)))
}

/// What a user without a target can still get.
fn waiting(evidence: &Explanation, push: Option<&PushEvidence>, verdict: Verdict) -> Verdict {
    let is_member = evidence.room.as_ref().is_some_and(|room| room.seat == "HELD");
    let is_theirs = |push: &&PushEvidence| push.names_user || is_member;
    let Some(push) = push.filter(is_theirs).filter(|_| verdict.hop == Hop::User) else { return verdict };
    let what = if push.user_outcome == "QUEUED_OFFLINE" {
        "it waits in the user's inbox until it is acknowledged".to_owned()
    } else if push.offset > 0 {
        format!("it has offset {} in the log, from which who comes back in time catches up", push.offset)
    } else if push.log_unavailable {
        "the log did not answer, so nobody gets it later".to_owned()
    } else {
        return verdict;
    };
    Verdict::new(verdict.hop, format!("{}; {what}", verdict.sentence))
}

fn seen<'a>(messages: &'a [NodeMessage], message_id: &str) -> Option<&'a NodeMessage> {
    messages.iter().find(|message| message.message_id == message_id)
}

fn unknown(evidence: &Explanation, message_id: &str) -> Verdict {
    let about = |part: &&roomcast_proto::pubsub::MissingPart| {
        let is_node = evidence.nodes.iter().any(|node| part.part.starts_with(&node.node_id));
        !is_node && part.part != "controller"
    };
    let sentence = match evidence.missing.iter().find(about) {
        // What a push-manager says of a message that it does not know is a sentence already.
        Some(part) if part.why.contains(message_id) => format!("{} (asked: {})", part.why, part.part),
        Some(part) => format!("message {message_id} is not known: {}: {}", part.part, part.why),
        None => format!("message {message_id} is not known: no push-manager remembers it"),
    };
    Verdict::new(Hop::PushManager, sentence)
}

/// The push names other users.
fn not_meant(evidence: &Explanation, push: Option<&PushEvidence>) -> Option<Verdict> {
    let push = push.filter(|push| push.target == "USERS" && !push.names_user)?;
    let sentence = format!(
        "message {} was pushed to {}, not to {}",
        push.message_id,
        words::count(push.users, "other user"),
        evidence.user_id
    );
    Some(Verdict::new(Hop::Request, sentence))
}

/// What became of a message for the user's sessions.
pub fn fates<'a>(evidence: &'a Explanation, message_id: &str) -> Vec<Fate<'a>> {
    let mut fates = Vec::new();
    for (node, said) in answers(evidence) {
        let Some(message) = seen(&said.messages, message_id) else { continue };
        let own = message.sessions.iter().filter(|session| session.user_id == evidence.user_id);
        fates.extend(own.map(|session| Fate { node, message, session }));
    }
    fates
}

/// Outcomes of targets, the one to be told first in front.
const TOLD_FIRST: [&str; 9] =
    ["FILTERED", "EXPIRED", "SUPERSEDED", "DROPPED_SLOW", "CLOSED", "PENDING", "UNKNOWN", "WRITTEN", "ACKED"];

/// What became of the message where a session of the user was a target of it; `None` where none was.
pub fn reached(evidence: &Explanation, push: Option<&PushEvidence>, message_id: &str) -> Option<Verdict> {
    let fates = fates(evidence, message_id);
    let rank = |fate: &Fate<'_>| TOLD_FIRST.iter().position(|word| *word == fate.session.outcome);
    let (fate, _) =
        fates.iter().filter_map(|fate| Some((fate, rank(fate)?))).min_by_key(|(_, rank)| *rank)?;
    let user = &evidence.user_id;
    let session = format!("{user}'s session on {}", fate.node.node_id);
    let (hop, what) = match fate.session.outcome.as_str() {
        "FILTERED" => (Hop::Request, format!("was not for {user}: the push excludes them")),
        "EXPIRED" => (Hop::Session, format!("expired before {session} could take it{}", state(fate))),
        "SUPERSEDED" => {
            (Hop::Session, format!("was replaced by a later one of its key before {session} took it"))
        }
        "DROPPED_SLOW" => {
            (Hop::Session, format!("was dropped: {session} did not read fast enough{}", state(fate)))
        }
        "CLOSED" => (Hop::Session, format!("did not leave any more: {session} was closing{}", state(fate))),
        "PENDING" => (Hop::Session, format!("waits in the queue of {session}{}", state(fate))),
        "UNKNOWN" => {
            (Hop::Session, format!("may or may not have reached {session}: too much went wrong with it"))
        }
        _ => return Some(arrived(evidence, push, &fates, message_id)),
    };
    Some(Verdict::new(hop, format!("message {message_id} {what}")))
}

/// How the session is now, as far as it explains anything.
fn state(fate: &Fate<'_>) -> String {
    if let Some(live) = fate.live().filter(|live| live.queued_frames > 0) {
        let waiting = words::count(live.queued_frames, "frame");
        let stalled = words::span(live.stalled_ms);
        return format!(": the client has read nothing for {stalled}, {waiting} wait");
    }
    match fate.ended() {
        Some(ended) => {
            format!("; {}, {} ago", words::close(ended.close_code), words::span(ended.ended_ms_ago))
        }
        None => String::new(),
    }
}

/// Every session of the user that was a target has it.
fn arrived(
    evidence: &Explanation,
    push: Option<&PushEvidence>,
    fates: &[Fate<'_>],
    message_id: &str,
) -> Verdict {
    let user = &evidence.user_id;
    let is = |word: &'static str| move |fate: &&Fate<'_>| fate.session.outcome == word;
    if let Some(fate) = fates.iter().filter(|fate| fate.message.ack).find(is("WRITTEN")) {
        let since = words::span(fate.message.came_ms_ago);
        let sentence = format!(
            "message {message_id} was written to {user}'s session on {} {since} ago, and the client has not \
             acknowledged it{}",
            fate.node.node_id,
            state(fate)
        );
        return Verdict::new(Hop::Client, sentence);
    }
    let (acked, written) = (fates.iter().filter(is("ACKED")), fates.iter().filter(is("WRITTEN")));
    let acked = acked.count();
    let reached = acked + written.count();
    let nodes: Vec<&str> = nodes_of(fates);
    let heard = push.and_then(|push| {
        let hops = push.hops.iter().filter(|hop| nodes.contains(&hop.node_id.as_str()));
        hops.filter_map(|hop| hop.heard_us).max()
    });
    let after = heard.map(|us| format!(", told within {}", words::millis(us))).unwrap_or_default();
    let how = if acked == reached { "acknowledged by" } else { "written to" };
    let sentence = format!(
        "message {message_id} arrived: {how} {} of {user} on {}{after}",
        words::count(reached as u64, "session"),
        nodes.join(", ")
    );
    Verdict::new(Hop::None, sentence)
}

fn nodes_of<'a>(fates: &[Fate<'a>]) -> Vec<&'a str> {
    let got = fates.iter().filter(|fate| matches!(fate.session.outcome.as_str(), "WRITTEN" | "ACKED"));
    let mut nodes: Vec<&str> = got.map(|fate| fate.node.node_id.as_str()).collect();
    nodes.dedup();
    nodes
}

/// What became of a message for all its targets.
pub fn overall(evidence: &Explanation, push: Option<&PushEvidence>, message_id: &str) -> Verdict {
    if let Some(verdict) = push.and_then(|push| node::stuck(evidence, push)) {
        return verdict;
    }
    let outcomes = match push {
        Some(push) => push.outcomes.clone(),
        None => counted_by_nodes(evidence, message_id),
    };
    let targets: u64 = outcomes.values().sum();
    let is_acked = push.is_some_and(|push| push.ack);
    let count = |word: &str| outcomes.get(word).copied().unwrap_or_default();
    let said = words::outcomes(&outcomes);
    let tell = |hop, what: String| {
        Verdict::new(hop, format!("message {message_id} {what}{}", as_far_as_known(evidence)))
    };
    let failing = ["NODE_LOST", "DROPPED_SLOW", "CLOSED", "EXPIRED", "SUPERSEDED", "PENDING"];
    match failing.into_iter().find(|word| count(word) > 0) {
        _ if targets == 0 => tell(Hop::Room, "had no target: nobody was there".to_owned()),
        Some("NODE_LOST") => tell(Hop::Node, format!("did not reach everybody: {said}")),
        Some(_) => tell(Hop::Session, format!("did not reach everybody: {said}")),
        None if is_acked && count("WRITTEN") > 0 => tell(
            Hop::Client,
            format!("arrived, and {} not acknowledged: {said}", is_or_are(count("WRITTEN"))),
        ),
        None if count("OFFLINE") > 0 => tell(
            Hop::User,
            format!("found {} without a session: {said}", words::count(count("OFFLINE"), "user")),
        ),
        None if count("QUEUED_OFFLINE") > 0 => tell(
            Hop::User,
            format!("waits for {} without a session: {said}", words::count(count("QUEUED_OFFLINE"), "user")),
        ),
        None => tell(Hop::None, format!("arrived: {said}")),
    }
}

fn is_or_are(count: u64) -> String {
    if count == 1 { "1 is".to_owned() } else { format!("{count} are") }
}

fn counted_by_nodes(evidence: &Explanation, message_id: &str) -> BTreeMap<String, u64> {
    let mut sum = BTreeMap::new();
    for message in answers(evidence).filter_map(|(_, said)| seen(&said.messages, message_id)) {
        for (word, count) in &message.outcomes {
            *sum.entry(word.clone()).or_default() += count;
        }
    }
    sum
}
