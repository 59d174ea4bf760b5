//! The room card: what every tier knows of a room.

use serde::{Deserialize, Serialize};

use crate::id::RoomId;

/// Fewest and most users a room may be limited to.
pub const MAX_USERS_BOUNDS: std::ops::RangeInclusive<u32> = 1..=1_000_000;

/// How long a seat lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Membership {
    /// The seat follows the sessions of its user, with the rejoin grace.
    #[default]
    Follow,
    /// The seat is kept until an explicit leave.
    Durable,
}

/// What is kept of a room's messages, for those who come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogPolicy {
    /// The last minutes, in the shared memory.
    #[default]
    Recent,
    /// Nothing.
    None,
    /// Days, in the record.
    Durable,
}

/// What becomes of a push whose log does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnLogFailure {
    /// RECENT: it goes out and says that it was not logged. DURABLE refuses all the same.
    #[default]
    Degrade,
    /// It is refused with UNAVAILABLE.
    Refuse,
}

/// Whether the room is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum RoomState {
    /// Joins and pushes are taken.
    #[default]
    Active,
    /// Deleted by request; answers ROOM_DELETED for 60 s.
    Deleted,
}

/// What rides on interest of a card: enough to tell which of two cards is younger, whether its members may be away, and
/// what becomes of its messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CardMark {
    /// Of the card; 0 when none is known.
    pub version: u64,
    /// As that version says.
    pub membership: Membership,
    /// As that version says.
    pub log: LogPolicy,
    /// As that version says.
    pub on_log_failure: OnLogFailure,
}

impl CardMark {
    /// The younger of the two.
    pub fn or_younger(self, other: Self) -> Self {
        if other.version > self.version { other } else { self }
    }
}

impl From<&RoomCard> for CardMark {
    fn from(card: &RoomCard) -> Self {
        Self {
            version: card.version,
            membership: card.membership,
            log: card.log,
            on_log_failure: card.on_log_failure,
        }
    }
}

/// What every tier knows of a room. `version` grows with every change of the other fields, and survives deletion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomCard {
    /// The room.
    pub room_id: RoomId,
    /// Grows with every change of the card, never 0.
    pub version: u64,
    /// Active or deleted.
    pub state: RoomState,
    /// How long seats last.
    pub membership: Membership,
    /// The most users (not sessions) that may hold a seat.
    pub max_users: u32,
    /// What is kept of its messages.
    pub log: LogPolicy,
    /// What becomes of a push that cannot be logged.
    pub on_log_failure: OnLogFailure,
}
