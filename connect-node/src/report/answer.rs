//! What a controller answers to a change.

use std::time::Duration;

use roomcast_proto::pubsub::change_result;
use roomcast_types::{CardMark, Fault, Position};

use crate::ports::SessionKey;

/// What a controller answered.
#[derive(Debug)]
pub enum Answer {
    /// Done.
    Applied,
    /// Whether the session holds its slot.
    Slot(bool),
    /// Admitted.
    Joined {
        /// Of the room's card; version 0 when none was given.
        card: CardMark,
        /// Users with a seat.
        members: u64,
        /// How far the user has read, in a DURABLE room.
        read: Option<Position>,
    },
    /// Not done.
    Refused(Fault),
}

/// What an answer means beyond its waiter.
#[derive(Debug, PartialEq, Eq)]
pub enum Consequence {
    /// Nothing.
    None,
    /// A later session holds the slot of this one, and nobody waits for the answer any more.
    SlotLost(SessionKey),
}

/// When a client may try what could not be answered now: drawn anew each time, so that those who were refused together
/// do not come back together.
pub fn retry_after() -> Duration {
    Duration::from_millis(rand::random_range(500..1_500))
}

/// The answer to a join that could not be sent in time.
pub fn busy() -> Fault {
    Fault::unavailable(
        "too many changes wait for the controller; you stay connected, try again",
        retry_after(),
    )
}

/// Reads the answer to a change.
pub(super) fn read(result: Option<change_result::Result>) -> Answer {
    match result {
        Some(change_result::Result::Applied(_)) | None => Answer::Applied,
        Some(change_result::Result::SlotHeld(is_held)) => Answer::Slot(is_held),
        Some(change_result::Result::Joined(joined)) => Answer::Joined {
            card: joined.card.map_or_else(CardMark::default, |card| CardMark {
                version: card.version,
                membership: card.membership().into(),
                log: card.log().into(),
                on_log_failure: card.on_log_failure().into(),
            }),
            members: joined.members,
            read: Position::from_wire(joined.read_epoch, joined.read_offset),
        },
        Some(change_result::Result::Error(error)) => Answer::Refused(error.into()),
    }
}
