//! Which messages a client hands to its application: the position rules of the protocol, for one room.

use std::collections::{HashSet, VecDeque};

use crate::drill::history::At;

/// Messages remembered by id.
const REMEMBERED_MAX: usize = 1_000;

/// Where a client stands in the log of its room.
#[derive(Debug, Default)]
pub struct Position {
    at: Option<At>,
    ids: HashSet<u64>,
    oldest_first: VecDeque<u64>,
}

impl Position {
    /// What a join says that the client has.
    pub fn since(&self) -> Option<At> {
        self.at
    }

    /// Takes the position of `joined` or `gap` as given.
    pub fn given(&mut self, at: Option<At>) {
        if at.is_some() {
            self.at = at;
        }
    }

    /// Whether a message is new to the application.
    pub fn is_new(&mut self, id: u64, at: Option<At>) -> bool {
        if let (Some(at), Some(own)) = (at, &mut self.at)
            && own.epoch == at.epoch
        {
            if at.offset <= own.offset {
                return false;
            }
            own.offset = at.offset;
        }
        if !self.ids.insert(id) {
            return false;
        }
        self.oldest_first.push_back(id);
        if self.oldest_first.len() > REMEMBERED_MAX
            && let Some(oldest) = self.oldest_first.pop_front()
        {
            self.ids.remove(&oldest);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_are_known_by_position_or_by_id() {
        let at = |offset| Some(At { epoch: 1, offset });
        let mut position = Position::default();
        position.given(at(5));
        assert!(!position.is_new(1, at(5)), "from before the join");
        assert!(position.is_new(2, at(7)), "offsets may skip");
        assert!(!position.is_new(3, at(6)), "not higher");
        assert!(position.is_new(4, None) && !position.is_new(4, None));
        assert!(!position.is_new(4, at(8)), "came before without its position");
        position.given(at(5));
        assert!(!position.is_new(2, at(7)), "came again with a resume");
        assert!(position.is_new(9, at(9)));
        assert_eq!(position.since(), at(9));
    }
}
