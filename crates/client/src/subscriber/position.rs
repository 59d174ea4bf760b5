//! Positions in logs and the memory of recent messages: decides which pushes are repeats.

use std::collections::{HashMap, HashSet, VecDeque};

use serde::{Deserialize, Serialize};

/// Messages remembered by id, for those that carry no position.
const REMEMBERED_MAX: usize = 1_000;

/// A place in the log of a room or a user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Names one life of the log.
    pub epoch: String,
    /// Grows by one with each message of that life.
    pub offset: u64,
}

/// Which log: a room's, or the user's own.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Log {
    Room(String),
    Own,
}

/// What a client knows of the logs it follows.
#[derive(Debug, Default)]
pub struct Positions {
    at: HashMap<Log, Position>,
    remembered: HashSet<String>,
    oldest_first: VecDeque<String>,
}

impl Positions {
    /// Where this client stands in a log; `None` when the log gave no position yet.
    pub fn get(&self, log: &Log) -> Option<&Position> {
        self.at.get(log)
    }

    /// Takes a position as given; `None` forgets the log.
    pub fn set(&mut self, log: Log, position: Option<Position>) {
        match position {
            Some(position) => self.at.insert(log, position),
            None => self.at.remove(&log),
        };
    }

    /// Takes the position of a `joined` or `welcome` that answers `since`. When it says `recovered`, the messages up
    /// to it are still to come as pushes: the own position stays and they move it. Taking the frame's would drop them.
    pub fn resume(&mut self, log: Log, position: Option<Position>, is_recovered: bool) {
        let same_epoch = match (&position, self.at.get(&log)) {
            (Some(given), Some(own)) => given.epoch == own.epoch,
            _ => false,
        };
        if !(is_recovered && same_epoch) {
            self.set(log, position);
        }
    }

    /// True for a message not seen before; moves the position.
    pub fn accept(&mut self, log: Option<Log>, position: Option<Position>, message_id: &str) -> bool {
        if let (Some(log), Some(position)) = (log, position)
            && let Some(own) = self.at.get_mut(&log)
            && own.epoch == position.epoch
        {
            if position.offset <= own.offset {
                return false;
            }
            own.offset = position.offset;
        }
        self.remember(message_id)
    }

    fn remember(&mut self, message_id: &str) -> bool {
        if !self.remembered.insert(message_id.to_owned()) {
            return false;
        }
        self.oldest_first.push_back(message_id.to_owned());
        if self.oldest_first.len() > REMEMBERED_MAX
            && let Some(oldest) = self.oldest_first.pop_front()
        {
            self.remembered.remove(&oldest);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn room() -> Log {
        Log::Room("r".into())
    }

    fn at(epoch: &str, offset: u64) -> Option<Position> {
        Some(Position { epoch: epoch.into(), offset })
    }

    #[test]
    fn what_is_not_past_the_position_is_a_repeat() {
        let mut positions = Positions::default();
        positions.resume(room(), at("e", 10), false);
        assert!(!positions.accept(Some(room()), at("e", 10), "a"));
        assert!(positions.accept(Some(room()), at("e", 12), "b"));
        assert!(!positions.accept(Some(room()), at("e", 11), "c"));
        assert!(positions.accept(Some(room()), at("other", 1), "d"));
        assert_eq!(positions.get(&room()), at("e", 12).as_ref());
    }

    #[test]
    fn recovered_messages_still_count_as_new() {
        let mut positions = Positions::default();
        positions.resume(room(), at("e", 10), false);
        positions.resume(room(), at("e", 15), true);
        assert!(positions.accept(Some(room()), at("e", 11), "a"));
        positions.resume(room(), at("f", 3), true);
        assert_eq!(positions.get(&room()), at("f", 3).as_ref());
    }

    #[test]
    fn messages_without_a_position_are_known_by_their_id() {
        let mut positions = Positions::default();
        assert!(positions.accept(None, None, "a"));
        assert!(!positions.accept(None, None, "a"));
        for n in 0..REMEMBERED_MAX {
            assert!(positions.accept(None, None, &n.to_string()));
        }
        assert!(positions.accept(None, None, "a"), "the oldest is forgotten");
    }

    proptest! {
        #[test]
        fn a_position_never_moves_back_within_an_epoch(offsets in proptest::collection::vec(0u64..50, 1..100)) {
            let mut positions = Positions::default();
            positions.set(room(), at("e", 5));
            let mut highest = 5;
            for (n, offset) in offsets.into_iter().enumerate() {
                let is_new = positions.accept(Some(room()), at("e", offset), &n.to_string());
                prop_assert_eq!(is_new, offset > highest);
                highest = highest.max(offset);
                prop_assert_eq!(positions.get(&room()).unwrap().offset, highest);
            }
        }
    }
}
