//! What the shard remembers of the recent past, so that it can be asked why a message did or did not arrive: messages
//! (without their bytes), sessions that ended, sessions that left a room.
//!
//! Nothing is noted per delivery. A message that was walked reached who was there at its walk: every walk has a number,
//! and who comes or goes notes the number of the last one. What did not become WRITTEN is noted with the
//! message (see [`Entry`]), where it happens anyway seldom.

use std::{collections::VecDeque, rc::Rc};

use roomcast_types::{ClientId, MessageId, RoomId, SessionId, UserId};
use tokio::time::Instant;

use super::{entry::Entry, timers::Millis};
use crate::ports::{LeftReason, SessionKey};

/// Messages remembered: some 600 bytes each.
const MESSAGES_MAX: usize = 2_048;
/// Users that remembered messages exclude, all together: their ids are kept with them.
const EXCLUDED_MAX: usize = 65_536;
/// Ended sessions remembered.
const ENDED_MAX: usize = 1_024;
/// Departures from rooms remembered.
const LEFT_MAX: usize = 1_024;
/// Unacknowledged messages remembered of an ended session, the youngest.
pub(super) const UNACKED_MAX: usize = 64;

/// Counts walks: who came with number n was there at every later walk.
pub(super) type WalkNumber = u64;

/// Whom a message was for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Whom {
    Room(RoomId),
    Users,
    All,
}

/// A message whose walk has ended.
#[derive(Debug)]
pub(super) struct Walked {
    pub(super) entry: Rc<Entry>,
    pub(super) whom: Whom,
    pub(super) number: WalkNumber,
    /// When it came to the shard.
    pub(super) came: Instant,
}

/// A session that ended.
#[derive(Debug)]
pub(super) struct Ended {
    /// It may still be there, waiting for the end of its close.
    pub(super) key: SessionKey,
    pub(super) session_id: SessionId,
    pub(super) user_id: UserId,
    pub(super) client_id: ClientId,
    pub(super) opened_at: Millis,
    pub(super) ended_at: Millis,
    pub(super) code: Option<u16>,
    /// Last walk before it took part, and last walk that met it.
    pub(super) opened: WalkNumber,
    pub(super) ended: WalkNumber,
    /// Rooms it was in, and the last walk before each.
    pub(super) rooms: Vec<(RoomId, WalkNumber)>,
    /// What it had been sent and had not acknowledged; `None`: more than is remembered.
    pub(super) unacked: Option<Vec<MessageId>>,
}

/// A session that left a room and stayed.
#[derive(Debug)]
pub(super) struct Left {
    pub(super) session_id: SessionId,
    pub(super) user_id: UserId,
    pub(super) room: RoomId,
    pub(super) reason: LeftReason,
    pub(super) left_at: Millis,
    /// Last walk before it was in, and last walk that met it.
    pub(super) joined: WalkNumber,
    pub(super) left: WalkNumber,
}

/// The rings, oldest first.
#[derive(Debug, Default)]
pub(super) struct History {
    walks: WalkNumber,
    messages: VecDeque<Walked>,
    excluded: usize,
    ended: VecDeque<Ended>,
    left: VecDeque<Left>,
}

impl History {
    /// The number of the last walk that began.
    pub(super) fn walks(&self) -> WalkNumber {
        self.walks
    }

    /// A walk begins; its number.
    pub(super) fn begin_walk(&mut self) -> WalkNumber {
        self.walks += 1;
        self.walks
    }

    /// A walk has ended.
    pub(super) fn walked(&mut self, walked: Walked) {
        self.excluded += walked.entry.excluded();
        self.messages.push_back(walked);
        while self.messages.len() > MESSAGES_MAX || self.excluded > EXCLUDED_MAX {
            let Some(forgotten) = self.messages.pop_front() else { return };
            self.excluded -= forgotten.entry.excluded();
        }
    }

    /// A session ended.
    pub(super) fn ended(&mut self, ended: Ended) {
        if self.ended.len() == ENDED_MAX {
            self.ended.pop_front();
        }
        self.ended.push_back(ended);
    }

    /// A session left a room.
    pub(super) fn left(&mut self, left: Left) {
        if self.left.len() == LEFT_MAX {
            self.left.pop_front();
        }
        self.left.push_back(left);
    }

    /// Newest first.
    pub(super) fn messages(&self) -> impl Iterator<Item = &Walked> {
        self.messages.iter().rev()
    }

    /// Newest first.
    pub(super) fn all_ended(&self) -> impl Iterator<Item = &Ended> {
        self.ended.iter().rev()
    }

    /// Newest first.
    pub(super) fn all_left(&self) -> impl Iterator<Item = &Left> {
        self.left.iter().rev()
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, sync::Arc};

    use roomcast_types::{Class, Incarnation};

    use super::*;
    use crate::{ports::Traits, shard::timers::NEVER, tally::Tally};

    fn walked(number: WalkNumber, excluded: usize) -> Walked {
        let message_id = MessageId::new(number, Incarnation::random(), 0);
        let traits = Traits {
            message_id,
            class: Class::Ordered,
            expires_at: None,
            key: None,
            wants_ack: false,
            is_stored: false,
            place: None,
            trace: None,
        };
        let users: HashSet<_> =
            (0..excluded).map(|user| UserId::new(format!("user-{user}")).unwrap()).collect();
        let entry = Entry::new(traits, NEVER, Some(Arc::new(users)), false, Tally::new(message_id));
        Walked { entry, whom: Whom::All, number, came: Instant::now() }
    }

    #[test]
    fn the_oldest_messages_are_forgotten_by_their_number_and_by_whom_they_exclude() {
        let mut history = History::default();
        (0..3_000).for_each(|number| history.walked(walked(number, 0)));
        let kept: Vec<_> = history.messages().map(|walked| walked.number).collect();
        assert_eq!((kept.len(), kept[0]), (MESSAGES_MAX, 2_999));
        (3_000..3_100).for_each(|number| history.walked(walked(number, 1_000)));
        assert_eq!(history.messages().count(), EXCLUDED_MAX / 1_000);
        assert_eq!(history.messages().next().map(|walked| walked.number), Some(3_099));
    }
}
