//! What a push asks for, checked: every limit named where it is broken.

use std::{collections::HashSet, time::Duration};

use roomcast_proto::{
    convert,
    pubsub::{Content, PushOptions, content, push_options::Wait},
};
use roomcast_types::{Class, Code, Fault, RoomId, UserId};

/// Users that one push may name.
pub const USERS_MAX: usize = 1_000;
/// Users that one push may exclude.
pub const EXCLUDED_MAX: usize = 1_000;
/// Longest wait.
const WAIT_MS_MAX: u32 = 30_000;
/// Longest time to live: a day.
const TTL_MS_MAX: u32 = 86_400_000;
/// Time to live of class EXPIRING when none is given: old audio is noise.
const EXPIRING_TTL: Duration = Duration::from_secs(2);
/// Longest key.
const KEY_BYTES_MAX: usize = 128;

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

/// How a push is carried out.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Who does not get it.
    pub exclude_user_ids: Vec<String>,
    /// What to wait for.
    pub level: Level,
    /// How long; `None`: as configured.
    pub wait: Option<Duration>,
    /// Clients confirm it.
    pub wants_ack: bool,
    /// What may happen to it in front of a slow reader.
    pub class: Class,
    /// LATEST: what it replaces.
    pub key: String,
    /// After which it is worth nothing.
    pub ttl: Option<Duration>,
}

impl Options {
    fn checked(options: PushOptions, content_type: content::Type) -> Result<Self, Fault> {
        let exclude_user_ids = options.exclude_user_ids;
        if exclude_user_ids.len() > EXCLUDED_MAX {
            let count = exclude_user_ids.len();
            return Err(Fault::bad_request(format!(
                "options.exclude_user_ids has {count} entries; at most {EXCLUDED_MAX} are allowed"
            )));
        }
        for (index, user_id) in exclude_user_ids.iter().enumerate() {
            nested("options.exclude_user_ids", index, user_id)?;
        }
        let level = Level::from_wire("options.wait", options.wait)?;
        let wait =
            options.wait_ms.map(|wait_ms| between("options.wait_ms", wait_ms, WAIT_MS_MAX)).transpose()?;
        let asked = content::Class::try_from(options.class).map_err(|_| {
            Fault::bad_request(format!(
                "options.class {} is unknown; it takes BY_TYPE (0), ORDERED (1), EXPIRING (2), LATEST (3) or CRITICAL (4)",
                options.class
            ))
        })?;
        let class = match asked {
            content::Class::ByType if !options.key.is_empty() => Class::Latest,
            asked => convert::class(asked, content_type),
        };
        check_key(&options.key, class)?;
        let ttl = options.ttl_ms.map(|ttl_ms| between("options.ttl_ms", ttl_ms, TTL_MS_MAX)).transpose()?;
        if ttl.is_some() && !class.may_be_dropped() {
            return Err(Fault::bad_request(format!(
                "options.ttl_ms goes with class EXPIRING or LATEST; this push is {}",
                class.as_str()
            )));
        }
        let wants_ack = options.ack || level == Level::Acked;
        let ttl = ttl.or((class == Class::Expiring).then_some(EXPIRING_TTL));
        Ok(Self { exclude_user_ids, level, wait, wants_ack, class, key: options.key, ttl })
    }
}

fn between(field: &str, millis: u32, most: u32) -> Result<Duration, Fault> {
    if (1..=most).contains(&millis) {
        return Ok(Duration::from_millis(millis.into()));
    }
    Err(Fault::bad_request(format!("{field} is {millis}; it takes 1 to {most}")))
}

fn check_key(key: &str, class: Class) -> Result<(), Fault> {
    if key.len() > KEY_BYTES_MAX {
        let bytes = key.len();
        return Err(Fault::bad_request(format!(
            "options.key has {bytes} bytes; at most {KEY_BYTES_MAX} are allowed"
        )));
    }
    if key.chars().any(char::is_control) {
        return Err(Fault::bad_request("options.key has a control character"));
    }
    if !key.is_empty() && class != Class::Latest {
        let class = class.as_str();
        return Err(Fault::bad_request(format!("options.key goes with class LATEST; this push is {class}")));
    }
    Ok(())
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
    fn repeated_users_count_once_in_their_order() {
        let names = ["b", "a", "b"].map(str::to_owned);
        let push = Push::to_users(&names, content("x"), None, 9).unwrap();
        let Target::Users(users) = push.target else { panic!("{:?}", push.target) };
        assert_eq!(users.iter().map(UserId::as_str).collect::<Vec<_>>(), ["b", "a"]);
    }
}
