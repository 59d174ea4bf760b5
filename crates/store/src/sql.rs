//! What the SQL records have in common: the version of their tables and the words in them.

use roomcast_types::Membership;

/// Version of the tables that this program works with; `schema.sql` and `schema.sqlite.sql` write it.
pub(crate) const SCHEMA_VERSION: i64 = 1;

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
