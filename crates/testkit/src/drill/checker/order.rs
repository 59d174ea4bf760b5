//! The order in which one session gets the messages of its room.

use std::collections::{HashMap, HashSet};

use super::{Answer, At, Push};

/// What came until now.
#[derive(Debug, Default)]
pub struct Order {
    /// The highest offset of the epoch of the last message.
    last: Option<At>,
    left: HashSet<u64>,
    /// By push-manager: when the message that was sent last of those that came was sent.
    sent: HashMap<u32, u32>,
}

impl Order {
    /// Takes the next message; says what is wrong with its place.
    pub fn next(&mut self, push: &Push, position: Option<At>) -> Option<String> {
        match position {
            Some(at) => self.logged(at),
            None => self.unlogged(push),
        }
    }

    fn logged(&mut self, at: At) -> Option<String> {
        let last = self.last.filter(|last| last.epoch == at.epoch);
        if let Some(last) = last {
            if at.offset <= last.offset {
                return Some(format!("offset {} after {}", at.offset, last.offset));
            }
        } else if self.left.contains(&at.epoch) {
            return Some(format!("epoch {:016x} again, after another", at.epoch));
        }
        if let Some(old) = self.last.replace(at)
            && old.epoch != at.epoch
        {
            self.left.insert(old.epoch);
        }
        None
    }

    /// Only what one push-manager answered before it was sent the next has an order.
    fn unlogged(&mut self, push: &Push) -> Option<String> {
        let Answer::Accepted(accepted) = &push.answer else { return None };
        if push.attempts > 1 {
            return None;
        }
        let latest = self.sent.entry(accepted.manager).or_default();
        if push.answered_ms < *latest {
            return Some(format!(
                "it was answered at {} ms, after one that was sent at {latest} ms",
                push.answered_ms
            ));
        }
        *latest = (*latest).max(push.sent_ms);
        None
    }
}
