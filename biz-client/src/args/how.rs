//! How a push is made: what every push command takes.

use std::time::Duration;

use clap::{Args as ClapArgs, ValueEnum};
use roomcast_client::{Class, Content, ContentType, Offline, PushOptions, Wait};
use roomcast_types::UserId;

use super::duration;
use crate::{failure::Failure, message};

/// What every push takes.
#[derive(Debug, Clone, Default, PartialEq, Eq, ClapArgs)]
pub struct How {
    /// What kind of message this is.
    #[arg(long = "type", value_enum, ignore_case = true, default_value_t = Kind::Text)]
    pub content_type: Kind,
    /// A user that does not get it; may be given many times.
    #[arg(long, value_name = "USER")]
    pub exclude: Vec<UserId>,
    /// How far the push gets before its answer; written unless given.
    #[arg(long, value_enum, ignore_case = true, value_name = "LEVEL")]
    pub wait: Option<Level>,
    /// How long to wait for that level, in milliseconds; 1000 unless given.
    #[arg(long, value_name = "MILLISECONDS", value_parser = clap::value_parser!(u32).range(1..=30_000))]
    pub wait_ms: Option<u32>,
    /// Ask clients to acknowledge the message.
    #[arg(long)]
    pub ack: bool,
    /// What may happen to it in front of a slow reader; as its type says unless given.
    #[arg(long, value_enum, ignore_case = true)]
    pub class: Option<Kept>,
    /// It replaces a waiting message of the same key: class latest.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub key: String,
    /// After this time it is worth nothing, for example 2s: classes expiring and latest.
    #[arg(long, value_parser = duration)]
    pub ttl: Option<Duration>,
    /// The same push however often it is sent: a second one with this key is answered like the first, and goes out again to
    /// those who missed it. At most 128 bytes.
    #[arg(long, value_name = "KEY", default_value = "", hide_default_value = true)]
    pub idempotency_key: String,
    /// Into the log of its target, where that keeps one, also when its class is not logged.
    #[arg(long, overrides_with = "no_log")]
    pub log: bool,
    /// Past the log of its target: who is away does not get it later.
    #[arg(long, overrides_with = "log")]
    pub no_log: bool,
    /// What becomes of it for users without a session: store keeps it in their inbox.
    #[arg(long, value_enum, ignore_case = true)]
    pub offline: Option<Away>,
}

impl How {
    /// The content of a push with this message; reads the file or standard input that it names.
    pub fn content(&self, message: &str) -> Result<Content, Failure> {
        message::read(message, self.content_type.into())
    }

    /// The options of a push that may take `timeout` beside its wait.
    pub fn options(&self, timeout: Duration) -> PushOptions {
        let wait_for = self.wait_ms.map(|millis| Duration::from_millis(millis.into()));
        PushOptions {
            exclude_user_ids: self.exclude.iter().map(UserId::to_string).collect(),
            wait: self.wait.map(Wait::from).unwrap_or_default(),
            wait_for,
            ack: self.ack,
            class: self.class.map(Class::from).unwrap_or_default(),
            key: self.key.clone(),
            ttl: self.ttl,
            idempotency_key: self.idempotency_key.clone(),
            log: (self.log || self.no_log).then_some(self.log),
            offline: self.offline.map(Offline::from).unwrap_or_default(),
            deadline: Some(timeout + wait_for.unwrap_or_default()),
            traceparent: None,
        }
    }
}

/// How far a push gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Level {
    /// Nothing is waited for.
    Accepted,
    /// Every session was tried once.
    Written,
    /// Every target has its outcome.
    Settled,
    /// Every client that got it has acknowledged it.
    Acked,
}

impl From<Level> for Wait {
    fn from(level: Level) -> Self {
        match level {
            Level::Accepted => Self::Accepted,
            Level::Written => Self::Written,
            Level::Settled => Self::Settled,
            Level::Acked => Self::Acked,
        }
    }
}

/// What may happen to a message in front of a slow reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kept {
    /// Never missing in an open session.
    Ordered,
    /// Dropped when it is too old.
    Expiring,
    /// Replaced by a newer one of its key.
    Latest,
    /// As ordered.
    Critical,
}

impl From<Kept> for Class {
    fn from(kept: Kept) -> Self {
        match kept {
            Kept::Ordered => Self::Ordered,
            Kept::Expiring => Self::Expiring,
            Kept::Latest => Self::Latest,
            Kept::Critical => Self::Critical,
        }
    }
}

/// What becomes of a push for users without a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Away {
    /// Nothing.
    Drop,
    /// It waits in the user's inbox.
    Store,
}

impl From<Away> for Offline {
    fn from(away: Away) -> Self {
        match away {
            Away::Drop => Self::Drop,
            Away::Store => Self::Store,
        }
    }
}

/// The types of content.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "UPPER")]
pub enum Kind {
    #[default]
    Text,
    Audio,
    Translation,
    System,
    State,
}

impl From<Kind> for ContentType {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Text => Self::Text,
            Kind::Audio => Self::Audio,
            Kind::Translation => Self::Translation,
            Kind::System => Self::System,
            Kind::State => Self::State,
        }
    }
}
