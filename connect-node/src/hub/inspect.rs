//! Asks the shards what they know of a user, a room or a message, and puts their answers together.

use std::{sync::Arc, time::Duration};

use roomcast_proto::pubsub::{InspectReply, InspectRequest, NodeMessage};
use roomcast_types::{Fault, MessageId, RoomId, UserId};
use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

use super::Core;
use crate::ports::{Inspection, Question, SessionKey, ToShard};

/// How long the shards may take.
const WAIT: Duration = Duration::from_millis(500);
/// Sessions that one answer shows.
const SESSIONS_MAX: usize = 100;
/// Most that `last` takes, and what 0 means.
const LAST_MAX: u32 = 100;
const LAST: u32 = 10;

/// Reads a question.
pub fn question(request: &InspectRequest) -> Result<Question, Fault> {
    let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let user = given(&request.user_id).map(UserId::new).transpose()?;
    let room = given(&request.room_id).map(RoomId::new).transpose()?;
    let message = given(&request.message_id).map(|text| {
        MessageId::parse(&text).ok_or_else(|| {
            Fault::bad_request("message_id is none of ours; it takes the 26 characters of a push's answer")
        })
    });
    let message = message.transpose()?;
    if user.is_none() && room.is_none() && message.is_none() {
        return Err(Fault::bad_request("user_id, room_id and message_id are empty; one of them is needed"));
    }
    let last = match request.last {
        0 => LAST,
        1..=LAST_MAX => request.last,
        last => {
            let text = format!("last is {last}; it takes 1 to {LAST_MAX}, or 0 for {LAST}");
            return Err(Fault::bad_request(text));
        }
    };
    Ok(Question { user, room, message, last: last as usize })
}

impl Core {
    /// What this node knows; shards that do not answer in time are named.
    pub async fn inspect(&self, question: Question) -> InspectReply {
        let until = Instant::now() + WAIT;
        let of_user: Vec<SessionKey> = match &question.user {
            Some(user) => {
                self.state().users.get(user).map(|sessions| sessions.keys.clone()).unwrap_or_default()
            }
            None => Vec::new(),
        };
        let question = Arc::new(question);
        let mut answers = Vec::new();
        for shard in 0..self.shards().len() as u16 {
            let (answer, answered) = oneshot::channel();
            let sessions = of_user.iter().filter(|key| key.shard == shard).copied().collect();
            let command = ToShard::Inspect(Inspection { question: question.clone(), sessions, answer });
            let is_asked = timeout_at(until, self.shards().send(shard, command)).await;
            answers.push((shard, is_asked.unwrap_or(false).then_some(answered)));
        }
        let mut reply = InspectReply {
            node_id: self.identity.node_id.to_string(),
            incarnation: self.identity.incarnation.to_string(),
            state: self.life().as_str().to_owned(),
            ..InspectReply::default()
        };
        for (shard, answered) in answers {
            let part = match answered {
                Some(answered) => timeout_at(until, answered).await.ok().and_then(Result::ok),
                None => None,
            };
            match part {
                Some(part) => merge(&mut reply, part),
                None => reply.silent_shards.push(shard.into()),
            }
        }
        cut(&mut reply, question.last);
        reply
    }
}

fn merge(into: &mut InspectReply, part: InspectReply) {
    into.sessions.extend(part.sessions);
    into.sessions_total += part.sessions_total;
    into.ended.extend(part.ended);
    into.left.extend(part.left);
    for message in part.messages {
        match into.messages.iter_mut().find(|own| own.message_id == message.message_id) {
            Some(own) => merge_message(own, message),
            None => into.messages.push(message),
        }
    }
}

/// The counts are the node's on every shard.
fn merge_message(into: &mut NodeMessage, part: NodeMessage) {
    into.came_ms_ago = into.came_ms_ago.max(part.came_ms_ago);
    into.sessions.extend(part.sessions);
}

fn cut(reply: &mut InspectReply, last: usize) {
    reply.sessions.truncate(SESSIONS_MAX);
    reply.ended.sort_by_key(|ended| ended.ended_ms_ago);
    reply.ended.truncate(last);
    reply.left.sort_by_key(|left| left.left_ms_ago);
    reply.left.truncate(last);
    // Ids begin with the time.
    reply.messages.sort_by(|a, b| b.message_id.cmp(&a.message_id));
    reply.messages.truncate(last);
    for message in &mut reply.messages {
        message.sessions.truncate(SESSIONS_MAX);
    }
}
