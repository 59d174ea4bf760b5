//! What the SQL backends have in common: the version of their tables, the words in them, and what becomes of logs.

pub(crate) mod log;

use roomcast_types::{LogPolicy, Membership, OnLogFailure};

/// Version of the tables that this program works with; `schema.sql` and `schema.sqlite.sql` write it.
pub(crate) const SCHEMA_VERSION: i64 = 2;

/// The version that a migration brings to [`SCHEMA_VERSION`]: it knew no logs.
pub(crate) const VERSION_WITHOUT_LOGS: i64 = 1;

pub(crate) fn membership_word(membership: Membership) -> &'static str {
    match membership {
        Membership::Follow => "FOLLOW",
        Membership::Durable => "DURABLE",
    }
}

/// `None` for a word that this program has never written.
pub(crate) fn parse_membership(word: &str) -> Option<Membership> {
    match word {
        "FOLLOW" => Some(Membership::Follow),
        "DURABLE" => Some(Membership::Durable),
        _ => None,
    }
}

pub(crate) fn log_word(log: LogPolicy) -> &'static str {
    match log {
        LogPolicy::Recent => "RECENT",
        LogPolicy::None => "NONE",
        LogPolicy::Durable => "DURABLE",
    }
}

/// As [`parse_membership`].
pub(crate) fn parse_log(word: &str) -> Option<LogPolicy> {
    [LogPolicy::Recent, LogPolicy::None, LogPolicy::Durable].into_iter().find(|log| log_word(*log) == word)
}

pub(crate) fn on_log_failure_word(on_log_failure: OnLogFailure) -> &'static str {
    match on_log_failure {
        OnLogFailure::Degrade => "DEGRADE",
        OnLogFailure::Refuse => "REFUSE",
    }
}

/// As [`parse_membership`].
pub(crate) fn parse_on_log_failure(word: &str) -> Option<OnLogFailure> {
    [OnLogFailure::Degrade, OnLogFailure::Refuse]
        .into_iter()
        .find(|known| on_log_failure_word(*known) == word)
}
