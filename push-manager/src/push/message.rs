//! A message that was taken, before it is fitted to each lane, a log or an inbox.

use bytes::Bytes;
use prost::Message as _;
use roomcast_proto::{
    lane::encoded,
    pubsub::{AllTarget, Content, Deliver, LoggedMessage, UserTargets, content, deliver, down_item::Item},
};
use roomcast_runtime::Span;
use roomcast_types::{MessageId, Position};

use super::{
    plan::{Leg, Plan},
    request::{Push, Target},
};

/// What a message costs in a queue beside its content and ids.
pub const MESSAGE_BYTES: usize = 128;

/// What to send.
pub struct Message {
    /// Of the first push, where this one repeats it.
    pub message_id: MessageId,
    /// When it was accepted.
    pub timestamp_ms: i64,
    /// As it was asked for.
    pub push: Push,
    /// When its time to live ends.
    pub expires_us: Option<u64>,
    /// Its place in the log of its room or user.
    pub position: Option<Position>,
    /// Whether it lies in the inbox of one of its users.
    pub is_stored: bool,
}

impl Message {
    /// For one lane, as it travels.
    pub fn item(&self, leg: &Leg, traceparent: String) -> Bytes {
        let user_ids = match &self.push.target {
            Target::Users(users) => leg.users.iter().map(|user| users[user.position].to_string()).collect(),
            Target::Room(_) | Target::All => Vec::new(),
        };
        let (epoch, offset) = Position::to_wire(self.position);
        let deliver =
            Deliver { traceparent, epoch, offset, stored: self.is_stored, ..self.deliver(user_ids) };
        encoded(Item::Deliver(deliver))
    }

    /// For a log or an inbox.
    pub fn payload(&self) -> Bytes {
        let user_ids = match self.push.target.users() {
            [one] => vec![one.to_string()],
            // Whose inbox it lies in is known where it is read; the others are nobody's business.
            _ => Vec::new(),
        };
        let ttl_ms = self.push.options.ttl.map_or(0, |ttl| ttl.as_millis() as i64);
        let expires_at_ms = if ttl_ms == 0 { 0 } else { self.timestamp_ms.saturating_add(ttl_ms) };
        LoggedMessage { deliver: Some(self.deliver(user_ids)), expires_at_ms }.encode_to_vec().into()
    }

    fn deliver(&self, user_ids: Vec<String>) -> Deliver {
        let target = match &self.push.target {
            Target::Room(room_id) => deliver::Target::RoomId(room_id.to_string()),
            Target::All => deliver::Target::All(AllTarget {}),
            Target::Users(_) => deliver::Target::Users(UserTargets { user_ids }),
        };
        let options = &self.push.options;
        Deliver {
            message_id: self.message_id.to_string(),
            target: Some(target),
            content: Some(self.push.content.clone()),
            timestamp_ms: self.timestamp_ms,
            exclude_user_ids: options.exclude_user_ids.clone(),
            class: content::Class::from(options.class).into(),
            key: options.key.clone(),
            ack: options.wants_ack,
            ..Deliver::default()
        }
    }

    /// What it costs in the queue of one lane.
    pub fn bytes(&self, leg: &Leg) -> usize {
        let users = match &self.push.target {
            Target::Users(users) => leg.users.iter().map(|user| users[user.position].as_str().len()).sum(),
            Target::Room(room_id) => room_id.as_str().len(),
            Target::All => 0,
        };
        let excluded: usize = self.push.options.exclude_user_ids.iter().map(String::len).sum();
        MESSAGE_BYTES + self.push.content.data.len() + self.push.options.key.len() + users + excluded
    }

    /// Says in the push's span what it is.
    pub fn describe(&self, span: &mut Span, plan: &Plan) {
        if !span.is_recording() {
            return;
        }
        span.set("message_id", self.message_id.to_string());
        span.set("nodes.addressed", i64::from(plan.addressed));
        match &self.push.target {
            Target::Room(room_id) => span.set("room_id", room_id.to_string()),
            Target::Users(users) => span.set("users", users.len() as i64),
            Target::All => {}
        }
        if let Some(position) = self.position {
            span.set("log.epoch", position.epoch.to_string());
            span.set("log.offset", position.offset as i64);
        }
    }
}

impl Push {
    /// The same for every push that asks for the same, in every process: of its target, its content and the options that
    /// change the message.
    pub fn digest(&self) -> u64 {
        let (kind, names): (u8, Vec<&str>) = match &self.target {
            Target::Room(room_id) => (0, vec![room_id.as_str()]),
            Target::Users(users) => (1, users.iter().map(|user| user.as_str()).collect()),
            Target::All => (2, Vec::new()),
        };
        let options = &self.options;
        let mut hash = Fnv::new();
        hash.number(kind.into());
        hash.list(&names);
        // Without the publisher's own time: who sends again may say a later one.
        hash.bytes(&Content { timestamp: 0, ..self.content.clone() }.encode_to_vec());
        hash.list(&options.exclude_user_ids.iter().map(String::as_str).collect::<Vec<_>>());
        hash.bytes(options.class.as_str().as_bytes());
        hash.bytes(options.key.as_bytes());
        hash.number(options.ttl.or(options.stored_ttl).map_or(0, |ttl| ttl.as_millis() as u64));
        hash.number(u64::from(options.wants_ack));
        hash.number(u64::from(options.is_stored));
        hash.number(options.log.map_or(2, u64::from));
        hash.0
    }
}

/// FNV-1a: the same in every build, and publishers have no reason to look for two messages of one digest.
struct Fnv(u64);

impl Fnv {
    fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    fn raw(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn number(&mut self, number: u64) {
        self.raw(&number.to_be_bytes());
    }

    /// With its length, so that no two lists of fields read the same.
    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.raw(bytes);
    }

    fn list(&mut self, names: &[&str]) {
        self.number(names.len() as u64);
        for name in names {
            self.bytes(name.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use roomcast_proto::pubsub::{Content, PushOptions};

    use super::*;

    fn push(room_id: &str, text: &'static str, options: PushOptions) -> u64 {
        let content = Some(Content { data: text.into(), ..Content::default() });
        Push::to_room(room_id, content, Some(options), 99).unwrap().digest()
    }

    #[test]
    fn whatever_changes_the_message_changes_its_digest_and_nothing_else_does() {
        let plain = push("blue", "x", PushOptions::default());
        assert_eq!(plain, 491_757_295_434_606_258, "it is the same in every build");
        let waiting = PushOptions { wait_ms: Some(9), idempotency_key: "k".into(), ..PushOptions::default() };
        assert_eq!(push("blue", "x", waiting), plain);
        let excluding = |ids: &[&str]| PushOptions {
            exclude_user_ids: ids.iter().map(|id| (*id).to_owned()).collect(),
            ..PushOptions::default()
        };
        let others = [
            push("blu", "ex", PushOptions::default()),
            push("blue", "y", PushOptions::default()),
            push("blue", "x", PushOptions { ack: true, ..PushOptions::default() }),
            push("blue", "x", PushOptions { key: "k".into(), ..PushOptions::default() }),
            push("blue", "x", PushOptions { log: Some(false), ..PushOptions::default() }),
            push("blue", "x", excluding(&["a", "b"])),
            push("blue", "x", excluding(&["ab"])),
        ];
        let mut all: Vec<_> = others.into_iter().chain([plain]).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 8);
    }
}
