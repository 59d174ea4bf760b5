//! What a push asks for, checked: every limit named where it is broken.

mod options;

use std::collections::HashSet;

use roomcast_proto::pubsub::{Content, PushOptions, content, push_options::Wait};
use roomcast_types::{Code, Fault, RoomId, UserId};

pub use options::Options;

/// Users that one push may name.
pub const USERS_MAX: usize = 1_000;

/// Whom a push is for.
#[derive(Debug, Clone)]
pub enum Target {
    /// Every session in the room.
    Room(RoomId),
    /// Every session of these users, each named once.
    Users(Vec<UserId>),
    /// Every session.
    All,
}

/// How far a push gets before its answer, or a watch before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Level {
    /// Nothing is waited for.
    Accepted,
    /// Every shard tried every target once.
    #[default]
    Written,
    /// Nothing is pending.
    Settled,
    /// Nothing is pending, and every client that got it has confirmed it.
    Acked,
}

impl Level {
    /// The word of the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "ACCEPTED",
            Self::Written => "WRITTEN",
            Self::Settled => "SETTLED",
            Self::Acked => "ACKED",
        }
    }

    /// From the number of the wire; `field` names it in the error.
    pub fn from_wire(field: &str, number: i32) -> Result<Self, Fault> {
        match Wait::try_from(number) {
            Ok(Wait::Accepted) => Ok(Self::Accepted),
            Ok(Wait::Written) => Ok(Self::Written),
            Ok(Wait::Settled) => Ok(Self::Settled),
            Ok(Wait::Acked) => Ok(Self::Acked),
            Err(_) => Err(Fault::bad_request(format!(
                "{field} {number} is unknown; it takes WRITTEN (0), ACCEPTED (1), SETTLED (2) or ACKED (3)"
            ))),
        }
    }
}

/// A push that may be carried out.
#[derive(Debug, Clone)]
pub struct Push {
    /// Whom it is for.
    pub target: Target,
    /// What is said.
    pub content: Content,
    /// How.
    pub options: Options,
}

impl Target {
    /// The users it names.
    pub fn users(&self) -> &[UserId] {
        match self {
            Self::Users(users) => users,
            Self::Room(_) | Self::All => &[],
        }
    }
}

impl Push {
    /// To a room.
    pub fn to_room(
        room_id: &str,
        content: Option<Content>,
        options: Option<PushOptions>,
        bytes_max: usize,
    ) -> Result<Self, Fault> {
        Self::checked(Target::Room(RoomId::new(room_id)?), content, options, bytes_max)
    }

    /// To one user.
    pub fn to_user(
        user_id: &str,
        content: Option<Content>,
        options: Option<PushOptions>,
        bytes_max: usize,
    ) -> Result<Self, Fault> {
        Self::checked(Target::Users(vec![UserId::new(user_id)?]), content, options, bytes_max)
    }

    /// To several users; repeated ids count once.
    pub fn to_users(
        user_ids: &[String],
        content: Option<Content>,
        options: Option<PushOptions>,
        bytes_max: usize,
    ) -> Result<Self, Fault> {
        if user_ids.is_empty() || user_ids.len() > USERS_MAX {
            let count = user_ids.len();
            return Err(Fault::bad_request(format!(
                "user_ids has {count} entries; it takes 1 to {USERS_MAX}"
            )));
        }
        let mut seen = HashSet::new();
        let mut users = Vec::with_capacity(user_ids.len());
        for (index, user_id) in user_ids.iter().enumerate() {
            if seen.insert(user_id.as_str()) {
                users.push(nested("user_ids", index, user_id)?);
            }
        }
        Self::checked(Target::Users(users), content, options, bytes_max)
    }

    /// To everybody.
    pub fn to_all(
        content: Option<Content>,
        options: Option<PushOptions>,
        bytes_max: usize,
    ) -> Result<Self, Fault> {
        Self::checked(Target::All, content, options, bytes_max)
    }

    fn checked(
        target: Target,
        content: Option<Content>,
        options: Option<PushOptions>,
        bytes_max: usize,
    ) -> Result<Self, Fault> {
        let content = content.ok_or_else(|| Fault::bad_request("content is missing"))?;
        let content_type = content::Type::try_from(content.r#type).map_err(|_| {
            let number = content.r#type;
            Fault::bad_request(format!(
                "content.type {number} is unknown; it takes TEXT (0), AUDIO (1), TRANSLATION (2), SYSTEM (3) or STATE (4)"
            ))
        })?;
        if content.data.len() > bytes_max {
            let bytes = content.data.len();
            let message = format!(
                "content.data has {bytes} bytes; at most {bytes_max} are allowed (limits.push_bytes_max)"
            );
            return Err(Fault::new(Code::TooLarge, message));
        }
        let options = Options::checked(options.unwrap_or_default(), content_type)?;
        if options.is_stored && target.users().is_empty() {
            return Err(Fault::bad_request("options.offline STORE goes with pushes to users"));
        }
        Ok(Self { target, content, options })
    }
}

fn nested(field: &str, index: usize, user_id: &str) -> Result<UserId, Fault> {
    UserId::new(user_id).map_err(|error| {
        let reason = error.to_string();
        let reason = reason.strip_prefix("user_id ").unwrap_or(&reason);
        Fault::bad_request(format!("{field}[{index}] {reason}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(data: &'static str) -> Option<Content> {
        Some(Content { data: data.into(), ..Content::default() })
    }

    fn excluding(user_ids: Vec<String>) -> Option<PushOptions> {
        Some(PushOptions { exclude_user_ids: user_ids, ..PushOptions::default() })
    }

    fn line(push: Result<Push, Fault>) -> String {
        push.unwrap_err().to_string()
    }

    #[test]
    fn a_broken_limit_is_named_with_its_field() {
        let many = vec!["u".to_owned(); 1_001];
        let unknown_type = Some(Content { r#type: 9, ..Content::default() });
        for (push, expected) in [
            (
                Push::to_room("", content("x"), None, 9),
                "BAD_REQUEST: room_id is empty; it takes 1 to 128 bytes",
            ),
            (Push::to_room("r", None, None, 9), "BAD_REQUEST: content is missing"),
            (
                Push::to_all(unknown_type, None, 9),
                "BAD_REQUEST: content.type 9 is unknown; it takes TEXT (0), ",
            ),
            (Push::to_all(content("0123456789"), None, 9), "TOO_LARGE: content.data has 10 bytes; at most 9"),
            (
                Push::to_users(&[], content("x"), None, 9),
                "BAD_REQUEST: user_ids has 0 entries; it takes 1 to 1000",
            ),
            (Push::to_users(&many, content("x"), None, 9), "BAD_REQUEST: user_ids has 1001 entries"),
            (
                Push::to_users(&["a".into(), String::new()], content("x"), None, 9),
                "BAD_REQUEST: user_ids[1] is empty",
            ),
            (
                Push::to_all(content("x"), excluding(many.clone()), 9),
                "BAD_REQUEST: options.exclude_user_ids has 1001 entries; at most 1000",
            ),
            (
                Push::to_all(content("x"), excluding(vec!["a\n".into()]), 9),
                "BAD_REQUEST: options.exclude_user_ids[0] has '\\n' at byte 1",
            ),
        ] {
            let line = line(push);
            assert!(line.starts_with(expected), "{line}");
        }
    }

    #[test]
    fn an_option_that_does_not_fit_is_named() {
        let with = |options: PushOptions| line(Push::to_room("r", content("x"), Some(options), 9));
        let stored = PushOptions { offline: 1, ..PushOptions::default() };
        assert_eq!(with(stored.clone()), "BAD_REQUEST: options.offline STORE goes with pushes to users");
        let unknown = with(PushOptions { offline: 2, ..PushOptions::default() });
        assert!(unknown.starts_with("BAD_REQUEST: options.offline 2 is unknown"), "{unknown}");
        let long = with(PushOptions { idempotency_key: "k".repeat(129), ..PushOptions::default() });
        assert_eq!(long, "BAD_REQUEST: options.idempotency_key has 129 bytes; at most 128 are allowed");
        let alive = with(PushOptions { ttl_ms: Some(9), ..PushOptions::default() });
        assert!(alive.contains("or with offline STORE; this push is ORDERED"), "{alive}");
        // In an inbox anything may grow old.
        let push =
            Push::to_user("u", content("x"), Some(PushOptions { ttl_ms: Some(9), ..stored }), 9).unwrap();
        assert_eq!((push.options.ttl, push.options.stored_ttl.map(|ttl| ttl.as_millis())), (None, Some(9)));
        assert!(push.options.wants_ack);
    }

    #[test]
    fn repeated_users_count_once_in_their_order() {
        let names = ["b", "a", "b"].map(str::to_owned);
        let push = Push::to_users(&names, content("x"), None, 9).unwrap();
        let Target::Users(users) = push.target else { panic!("{:?}", push.target) };
        assert_eq!(users.iter().map(UserId::as_str).collect::<Vec<_>>(), ["b", "a"]);
    }
}
