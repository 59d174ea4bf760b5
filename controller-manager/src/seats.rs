//! Seats after admission: leaves, releases of those whose grace is over, and the audit that finds what was lost.

mod audit;
mod due;
mod empty;

pub(crate) use audit::{Audits, audit_all, audit_asked};
pub(crate) use due::{make_due, release_due};
pub(crate) use empty::remove_empty_rooms;

use std::time::Duration;

use roomcast_store::{
    Error as StoreError,
    presence::{CardEntry, Exit, SessionEntry},
};
use roomcast_types::{Fault, Membership, RoomId, SessionId, UserId};
use tokio::time::timeout;

use crate::{
    controller::{Controller, unanswered},
    error::fault,
};

/// How long a leave waits for the record before its seat is left to be released later.
const RECORD_WAIT: Duration = Duration::from_millis(400);

/// A session left a room by its own wish: with the user's last session there the seat goes, durable or not. While the
/// record is away a FOLLOW seat is left as an absence that is due at once: the release follows when the record answers.
pub(crate) async fn leave(
    controller: &Controller,
    room: &RoomId,
    user: &UserId,
    session: SessionId,
) -> Result<(), StoreError> {
    // Read before the exit: whoever is admitted after it carries another version, and keeps its seat.
    let read = timeout(RECORD_WAIT, controller.rooms.seat(room, user)).await;
    let late = || unanswered("record", format!("no answer within {RECORD_WAIT:?}"));
    let seat = match read.unwrap_or_else(|_| Err(late())) {
        Ok(seat) => seat,
        Err(error) if error.is_retryable() => {
            return leave_later(controller, room, user, session, error).await;
        }
        Err(error) => return Err(error),
    };
    let left = controller.presence.exit(room, user, session, Exit::Left).await?;
    if left > 0 {
        return Ok(());
    }
    let now = controller.clock.now().await;
    // Without this a user that is absent could rejoin without the seat that goes now.
    controller.presence.take_absence(room, user, now).await?;
    let Some(seat) = seat else { return Ok(()) };
    let released = controller.rooms.release(room, &[(user.clone(), Some(seat.version))], now).await?;
    note_released(controller, room, released);
    Ok(())
}

/// Only a card tells that a seat is FOLLOW: a durable one is never due, so its leave has to come again.
async fn leave_later(
    controller: &Controller,
    room: &RoomId,
    user: &UserId,
    session: SessionId,
    error: StoreError,
) -> Result<(), StoreError> {
    let presence = &controller.presence;
    match controller.promptly(presence.card(room)).await? {
        CardEntry::Known { card, .. } if card.membership == Membership::Follow => {
            let now = controller.clock.now().await;
            presence.exit(room, user, session, Exit::Away { now, due: Some(now) }).await?;
            Ok(())
        }
        _ => Err(error),
    }
}

/// What taking a seat away came to.
pub(crate) struct Evicted {
    /// Whether the user held a seat.
    pub(crate) held_seat: bool,
    /// Its sessions that were in the room.
    pub(crate) sessions: Vec<SessionEntry>,
}

/// Takes a user's seat, whatever its version, and its sessions out of the room's presence. The nodes are not told.
pub(crate) async fn take_away(
    controller: &Controller,
    room: &RoomId,
    user: &UserId,
) -> Result<Evicted, Fault> {
    let failed = |error: StoreError| fault(&error);
    let now = controller.clock.now().await;
    // The seat first: who rejoins in between is among the sessions that are evicted.
    let released = controller.rooms.release(room, &[(user.clone(), None)], now).await.map_err(failed)?;
    note_released(controller, room, released);
    let presence = &controller.presence;
    let evicted = presence.evict(room, user).await.map_err(failed)?;
    if controller.rooms.seat(room, user).await.map_err(failed)?.is_some() {
        // Admitted anew between the two steps: the seat must not stand without anybody who would release it.
        controller.audits.push(room.clone());
    }
    let mut sessions = presence.sessions(user).await.map_err(failed)?;
    sessions.retain(|entry| evicted.contains(&entry.session_id));
    Ok(Evicted { held_seat: released > 0, sessions })
}

/// Counts released seats, and has the room's number of members corrected.
fn note_released(controller: &Controller, room: &RoomId, released: u64) {
    if released > 0 {
        controller.metrics.seats_released.increment(released);
        controller.stale_cards.push(room.clone());
    }
}
