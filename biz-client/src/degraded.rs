//! What an answer does not know: sources that did not answer, and values that came from none.

use std::collections::BTreeSet;

/// The names by which controllers say that they did without a source.
const PRESENCE: &str = "PRESENCE_UNAVAILABLE";
const RECORD: &str = "RECORD_UNAVAILABLE";

/// The `degraded` of a reply.
#[derive(Clone, Copy)]
pub struct Degraded<'a>(pub &'a [String]);

impl Degraded<'_> {
    /// A value that presence says; `unknown` when it did not answer.
    pub fn presence(self, value: impl ToString) -> String {
        self.unless_missing(PRESENCE, value)
    }

    /// A value that the record says; `unknown` when it did not answer.
    pub fn record(self, value: impl ToString) -> String {
        self.unless_missing(RECORD, value)
    }

    /// The line of a table; left out when nothing is missing.
    pub fn line(self) -> (&'static str, String) {
        ("degraded", self.0.join(", "))
    }

    fn unless_missing(self, source: &str, value: impl ToString) -> String {
        if self.0.iter().any(|missing| missing == source) { "unknown".to_owned() } else { value.to_string() }
    }
}

/// What any page of a list did without.
pub fn add(all: &mut Vec<String>, page: Vec<String>) {
    let both: BTreeSet<String> = all.drain(..).chain(page).collect();
    all.extend(both);
}
