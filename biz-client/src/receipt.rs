//! Shows what became of a message.

use roomcast_client::Receipt;

use crate::output::{list, pairs, yes};

/// Words that stand before and below the outcomes.
const PENDING: &str = "pending";
const TARGETS: &str = "targets";

/// A receipt below what its head says: whether its level is reached, the nodes, the counts, and each user of a push to
/// users.
pub fn describe<const N: usize>(head: [(&'static str, String); N], receipt: &Receipt) -> String {
    let own = [("complete", complete(receipt)), ("nodes", nodes(receipt))];
    let mut text = pairs(head.into_iter().chain(own));
    let mut outcomes: Vec<_> = receipt.outcomes.iter().map(|(word, count)| (word.as_str(), *count)).collect();
    outcomes.sort_unstable();
    let sums = [(PENDING, receipt.pending), (TARGETS, receipt.targets)];
    let rows = outcomes.into_iter().chain(sums).map(|(word, count)| [word.to_owned(), count.to_string()]);
    text.push_str(&list(["outcome", "count"], rows));
    if !receipt.users.is_empty() {
        text.push_str(&users(receipt));
    }
    text
}

/// A receipt on one line.
pub fn line(receipt: &Receipt) -> String {
    let mut outcomes: Vec<_> = receipt.outcomes.iter().collect();
    outcomes.sort_unstable();
    let outcomes: String = outcomes.into_iter().map(|(word, count)| format!("  {word} {count}")).collect();
    let complete = if receipt.complete { format!("  {} reached", receipt.level) } else { String::new() };
    format!("{TARGETS} {}  {PENDING} {}{outcomes}{complete}", receipt.targets, receipt.pending)
}

fn nodes(receipt: &Receipt) -> String {
    let nodes = receipt.nodes.unwrap_or_default();
    format!("{} addressed, {} unreachable, {} blind", nodes.addressed, nodes.unreachable, nodes.blind)
}

fn complete(receipt: &Receipt) -> String {
    let level = &receipt.level;
    if receipt.complete {
        return format!("{}, {level}", yes(true));
    }
    if receipt.pending > 0 {
        return format!("no, {level} is not reached: what is pending is still on its way");
    }
    format!("no, {level} is not reached")
}

fn users(receipt: &Receipt) -> String {
    let rows = receipt.users.iter().flat_map(|user| {
        let first = [user.user_id.clone(), user.outcome.clone(), String::new(), String::new()];
        let sessions = user.sessions.iter().map(|session| {
            [String::new(), session.outcome.clone(), session.session_id.clone(), session.node_id.clone()]
        });
        [first].into_iter().chain(sessions)
    });
    list(["user", "outcome", "session", "node"], rows)
}
