//! The options of a push, checked.

use std::time::Duration;

use roomcast_proto::{
    convert,
    pubsub::{PushOptions, content, push_options::Offline},
};
use roomcast_types::{Class, Fault};

use super::{Level, nested};

/// Users that one push may exclude.
const EXCLUDED_MAX: usize = 1_000;
/// Longest wait.
const WAIT_MS_MAX: u32 = 30_000;
/// Longest time to live: a day.
const TTL_MS_MAX: u32 = 86_400_000;
/// The same in an inbox: 30 days, or as long as inboxes are kept.
const STORED_TTL_MS_MAX: u32 = 30 * 86_400_000;
/// Time to live of class EXPIRING when none is given: old audio is noise.
const EXPIRING_TTL: Duration = Duration::from_secs(2);
/// Longest key.
const KEY_BYTES_MAX: usize = 128;

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
    /// Makes it happen once; empty for none.
    pub idempotency_key: String,
    /// Whether it enters the log of its target; `None`: as its class says.
    pub log: Option<bool>,
    /// Whether it waits in the inboxes of its users.
    pub is_stored: bool,
    /// For how long at most, where that is not its time to live.
    pub stored_ttl: Option<Duration>,
}

impl Options {
    pub(super) fn checked(options: PushOptions, content_type: content::Type) -> Result<Self, Fault> {
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
        text("options.idempotency_key", &options.idempotency_key)?;
        let is_stored = match Offline::try_from(options.offline) {
            Ok(offline) => offline == Offline::Store,
            Err(_) => {
                let number = options.offline;
                let message = format!("options.offline {number} is unknown; it takes DROP (0) or STORE (1)");
                return Err(Fault::bad_request(message));
            }
        };
        let ttl_ms_max = if is_stored { STORED_TTL_MS_MAX } else { TTL_MS_MAX };
        let ttl = options.ttl_ms.map(|ttl_ms| between("options.ttl_ms", ttl_ms, ttl_ms_max)).transpose()?;
        if ttl.is_some() && !is_stored && !class.may_be_dropped() {
            return Err(Fault::bad_request(format!(
                "options.ttl_ms goes with class EXPIRING or LATEST, or with offline STORE; this push is {}",
                class.as_str()
            )));
        }
        // What may not be missing in an open session expires in the inbox only.
        let (ttl, stored_ttl) = if class.may_be_dropped() { (ttl, None) } else { (None, ttl) };
        Ok(Self {
            exclude_user_ids,
            level,
            wait,
            wants_ack: options.ack || level == Level::Acked || is_stored,
            class,
            key: options.key,
            ttl: ttl.or((class == Class::Expiring).then_some(EXPIRING_TTL)),
            idempotency_key: options.idempotency_key,
            log: options.log,
            is_stored,
            stored_ttl,
        })
    }
}

fn between(field: &str, millis: u32, most: u32) -> Result<Duration, Fault> {
    if (1..=most).contains(&millis) {
        return Ok(Duration::from_millis(millis.into()));
    }
    Err(Fault::bad_request(format!("{field} is {millis}; it takes 1 to {most}")))
}

fn check_key(key: &str, class: Class) -> Result<(), Fault> {
    text("options.key", key)?;
    if !key.is_empty() && class != Class::Latest {
        let class = class.as_str();
        return Err(Fault::bad_request(format!("options.key goes with class LATEST; this push is {class}")));
    }
    Ok(())
}

fn text(field: &str, text: &str) -> Result<(), Fault> {
    let bytes = text.len();
    if bytes > KEY_BYTES_MAX {
        let message = format!("{field} has {bytes} bytes; at most {KEY_BYTES_MAX} are allowed");
        return Err(Fault::bad_request(message));
    }
    if text.chars().any(char::is_control) {
        return Err(Fault::bad_request(format!("{field} has a control character")));
    }
    Ok(())
}
