//! Why a message did or did not arrive: asks every part that had to do with it, each with a deadline, and says which hop
//! was the first that failed.

mod diagnose;
mod evidence;
mod nodes;
mod rooms;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use roomcast_proto::pubsub::{
    Explanation, GetUserNodeRequest, InspectRequest, MissingPart, NodeEvidence, PushEvidence,
    TraceMessageRequest, UserEvidence,
};
use roomcast_types::{Code, Fault, MessageId, RoomId, UserId};

use crate::{
    controllers::Controllers,
    fleet::Fleet,
    lane::Context,
    peers::{self, Peers},
    push::{Receipts, Record, Target},
};

/// How long one part may take.
const PART: Duration = Duration::from_secs(1);
/// How long one controller may take; two are asked at most.
const CONTROLLER: Duration = Duration::from_millis(500);
/// Most that `last` takes, and what 0 means.
const LAST_MAX: u32 = 100;
const LAST: u32 = 10;

/// What is asked, checked.
#[derive(Debug, Clone, Default)]
pub struct Question {
    user: Option<UserId>,
    room: Option<RoomId>,
    message: Option<MessageId>,
    last: u32,
}

impl Question {
    /// About a user.
    pub fn user(user_id: &str, room_id: &str, message_id: &str, last: u32) -> Result<Self, Fault> {
        let user = Some(UserId::new(user_id)?);
        let room = (!room_id.is_empty()).then(|| RoomId::new(room_id)).transpose()?;
        Ok(Self { user, room, message: optional(message_id)?, last: bounded(last)? })
    }

    /// About a room.
    pub fn room(room_id: &str, message_id: &str, last: u32) -> Result<Self, Fault> {
        let room = Some(RoomId::new(room_id)?);
        Ok(Self { user: None, room, message: optional(message_id)?, last: bounded(last)? })
    }

    /// About a message.
    pub fn message(message_id: &str) -> Result<Self, Fault> {
        Ok(Self { message: Some(parse(message_id)?), last: 1, ..Self::default() })
    }

    /// What each node is asked.
    fn inspection(&self) -> InspectRequest {
        InspectRequest {
            user_id: self.user.as_ref().map(UserId::to_string).unwrap_or_default(),
            room_id: self.room.as_ref().map(RoomId::to_string).unwrap_or_default(),
            message_id: self.message.map(|id| id.to_string()).unwrap_or_default(),
            last: self.last,
        }
    }
}

fn optional(message_id: &str) -> Result<Option<MessageId>, Fault> {
    (!message_id.is_empty()).then(|| parse(message_id)).transpose()
}

fn parse(message_id: &str) -> Result<MessageId, Fault> {
    MessageId::parse(message_id).ok_or_else(|| {
        Fault::bad_request("message_id is none of ours; it takes the 26 characters of a push's answer")
    })
}

fn bounded(last: u32) -> Result<u32, Fault> {
    match last {
        0 => Ok(LAST),
        1..=LAST_MAX => Ok(last),
        _ => Err(Fault::bad_request(format!("last is {last}; it takes 1 to {LAST_MAX}, or 0 for {LAST}"))),
    }
}

/// Asks, and concludes.
pub struct Explainer {
    pub(crate) context: Arc<Context>,
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) controllers: Arc<Controllers>,
    pub(crate) receipts: Arc<Receipts>,
    pub(crate) peers: Arc<Peers>,
}

impl Explainer {
    /// What every part says, and what follows.
    pub async fn explain(&self, question: Question) -> Explanation {
        let mut missing = Vec::new();
        let mut pushes = Vec::new();
        if let Some(message_id) = question.message {
            match self.push(message_id, &question).await {
                Ok(push) => pushes.push(push),
                Err(part) => missing.push(part),
            }
        }
        let message_room = pushes.first().and_then(|push| RoomId::new(&push.room_id).ok());
        let room = question.room.clone().or(message_room);
        let (user, room_evidence, (nodes, silent)) = tokio::join!(
            self.user(question.user.as_ref()),
            self.room(room.as_ref(), question.user.as_ref()),
            self.nodes(&question, room.as_ref()),
        );
        let user = user.unwrap_or_else(|part| {
            missing.push(part);
            None
        });
        let room_evidence = room_evidence.unwrap_or_else(|part| {
            // One controller is missing once.
            if missing.last() != Some(&part) {
                missing.push(part);
            }
            None
        });
        missing.extend(silent);
        if question.message.is_none() {
            pushes = self.recent(&question, &nodes);
        }
        let text = |id: Option<String>| id.unwrap_or_default();
        let mut explanation = Explanation {
            user_id: text(question.user.map(String::from)),
            room_id: text(room.map(String::from)),
            message_id: text(question.message.map(|id| id.to_string())),
            manager_id: self.context.manager_id.clone(),
            user,
            room: room_evidence,
            nodes,
            pushes,
            missing,
            ..Explanation::default()
        };
        let verdict = diagnose::diagnose(&explanation);
        explanation.hop = verdict.hop.as_str().to_owned();
        explanation.sentence = verdict.sentence;
        explanation
    }

    /// The way of one message. NOT_FOUND when no part knows it.
    pub async fn trace(&self, message_id: &str) -> Result<Explanation, Fault> {
        let explanation = self.explain(Question::message(message_id)?).await;
        let is_seen = |node: &NodeEvidence| node.said.as_ref().is_some_and(|said| !said.messages.is_empty());
        if explanation.pushes.is_empty() && !explanation.nodes.iter().any(is_seen) {
            return Err(Fault::new(Code::NotFound, explanation.sentence));
        }
        Ok(explanation)
    }

    /// What this push-manager itself remembers of a message, and nothing else: the answer to another one.
    pub fn own(&self, message_id: &str, user_id: &str) -> Result<Explanation, Fault> {
        let user = (!user_id.is_empty()).then(|| UserId::new(user_id)).transpose()?;
        let record = self.receipts.find(parse(message_id)?)?;
        let push = evidence::push(&self.context.manager_id, &record, user.as_ref());
        Ok(Explanation {
            message_id: push.message_id.clone(),
            manager_id: self.context.manager_id.clone(),
            pushes: vec![push],
            ..Explanation::default()
        })
    }

    /// What the push-manager that accepted a message remembers of it.
    async fn push(&self, message_id: MessageId, question: &Question) -> Result<PushEvidence, MissingPart> {
        let taken_by = |part: String| move |fault: Fault| MissingPart { part, why: fault.message };
        let other = || taken_by(format!("push-manager {:08x}", message_id.instance()));
        match self.peers.of(message_id, false).await.map_err(other())? {
            None => {
                let manager_id = &self.context.manager_id;
                let record = self.receipts.find(message_id);
                let record = record.map_err(taken_by(format!("receipt in {manager_id}")))?;
                Ok(evidence::push(manager_id, &record, question.user.as_ref()))
            }
            Some(peer) => ask_peer(peer, message_id, question.user.as_ref()).await.map_err(other()),
        }
    }

    /// What the controllers say of a user.
    async fn user(&self, user: Option<&UserId>) -> Result<Option<UserEvidence>, MissingPart> {
        let Some(user) = user else { return Ok(None) };
        let request = GetUserNodeRequest { user_id: user.to_string() };
        let asked = self.controllers.ask(CONTROLLER, |mut controller| {
            let request = request.clone();
            async move { controller.get_user_node(request).await }
        });
        let node = asked.await.map_err(|fault| controller_missing(&fault))?;
        Ok(Some(UserEvidence { online: node.online, sessions: node.sessions, degraded: node.degraded }))
    }

    /// The last pushes that concern the user or the room, as this push-manager remembers them.
    fn recent(&self, question: &Question, nodes: &[NodeEvidence]) -> Vec<PushEvidence> {
        let rooms = match (&question.room, &question.user) {
            (Some(room), _) => BTreeSet::from([room.to_string()]),
            (None, _) => rooms_of(nodes),
        };
        let is_wanted = |record: &Record| match &record.target {
            Target::Room(room) => rooms.contains(room.as_str()),
            Target::Users(users) => {
                question.room.is_none() && question.user.as_ref().is_some_and(|user| users.contains(user))
            }
            Target::All => question.room.is_none(),
        };
        let records = self.receipts.recent(question.last as usize, is_wanted);
        let show =
            |record: &Arc<Record>| evidence::push(&self.context.manager_id, record, question.user.as_ref());
        records.iter().map(show).collect()
    }
}

async fn ask_peer(
    mut peer: peers::Client,
    message_id: MessageId,
    user: Option<&UserId>,
) -> Result<PushEvidence, Fault> {
    let request = TraceMessageRequest {
        message_id: message_id.to_string(),
        user_id: user.map(UserId::to_string).unwrap_or_default(),
    };
    let reply = peers::answer(peer.trace_message(peers::pass_on(request))).await?.into_inner();
    let push = reply.pushes.into_iter().next();
    push.ok_or_else(|| Fault::new(Code::Internal, "its answer has no push"))
}

fn controller_missing(fault: &Fault) -> MissingPart {
    MissingPart { part: "controller".to_owned(), why: fault.message.clone() }
}

/// Rooms that the user is in, or was in lately.
fn rooms_of(nodes: &[NodeEvidence]) -> BTreeSet<String> {
    let said = nodes.iter().filter_map(|node| node.said.as_ref());
    let mut rooms = BTreeSet::new();
    for said in said {
        rooms
            .extend(said.sessions.iter().flat_map(|session| &session.rooms).map(|room| room.room_id.clone()));
        rooms.extend(said.left.iter().map(|left| left.room_id.clone()));
        let seen = said.messages.iter().filter(|message| !message.room_id.is_empty());
        rooms.extend(seen.map(|message| message.room_id.clone()));
    }
    rooms
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_that_makes_no_sense_names_its_field_and_the_limit() {
        let known = "01J0000000000000000000000A";
        assert_eq!(Question::user("ann", "", known, 0).unwrap().last, 10);
        assert_eq!(Question::room("r", "", 100).unwrap().last, 100);
        let long = "x".repeat(129);
        for (refused, words) in [
            (Question::user("", "", "", 0), "user_id is empty"),
            (Question::user("ann", &long, "", 0), "room_id has 129 bytes; at most 128"),
            (Question::user("ann", "", "x", 0), "message_id"),
            (Question::room("", "", 0), "room_id is empty"),
            (Question::room("r", "", 101), "last is 101; it takes 1 to 100"),
            (Question::message(""), "message_id"),
        ] {
            let fault = refused.unwrap_err();
            assert_eq!(fault.code, Code::BadRequest);
            assert!(fault.message.contains(words), "{}", fault.message);
        }
    }
}
