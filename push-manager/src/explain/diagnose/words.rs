//! Times, counts and reasons in words.

use std::collections::BTreeMap;

/// A time as people say it.
pub fn span(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..120_000 => format!("{} s", ms / 1_000),
        120_000..7_200_000 => format!("{} min", ms / 60_000),
        _ => format!("{} h", ms / 3_600_000),
    }
}

/// Microseconds as milliseconds.
pub fn millis(us: u64) -> String {
    format!("{}.{} ms", us / 1_000, us % 1_000 / 100)
}

/// A count of things.
pub fn count(count: u64, thing: &str) -> String {
    if count == 1 { format!("1 {thing}") } else { format!("{count} {thing}s") }
}

/// How a session ended.
pub fn close(code: u32) -> String {
    let why = match code {
        0 => return "its connection broke".to_owned(),
        1000 => "by the client",
        1001 => "the client went away",
        1002 | 1003 | 1007 | 1008 | 1009 => "the client broke the protocol",
        1005 => "by the client, without a code",
        1011 => "an internal error",
        4001 => "the node stopped",
        4002 => "too slow",
        4003 => "no pong",
        4500 => "taken over by a later session",
        4501 => "kicked",
        4502 => "its token expired",
        4503 => "not allowed",
        _ => "a code of the client's own",
    };
    format!("closed with {code} ({why})")
}

/// Counts by outcome.
pub fn outcomes(outcomes: &BTreeMap<String, u64>) -> String {
    let words: Vec<String> = outcomes.iter().map(|(word, count)| format!("{count} {word}")).collect();
    if words.is_empty() { "no outcome yet".to_owned() } else { words.join(", ") }
}
