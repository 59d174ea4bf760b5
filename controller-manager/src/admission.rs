//! Joins: the rejoin fast path without SQL, else a seat from a transaction that joins share, whatever their rooms.

mod batches;
mod budget;
mod group;

pub(crate) use batches::Batches;
pub(crate) use budget::Budget;

use std::sync::Arc;

use roomcast_store::{presence::CardEntry, rooms::SeatRequest};
use roomcast_types::{
    Code, Fault, Membership, OnLogFailure, RoomCard, RoomId, RoomState, SessionId, StoreTime, UserId,
};
use tokio::time::timeout_at;

use self::batches::Seat;
use crate::{
    controller::{Controller, room_deleted},
    error::{fault, retry_after},
    metrics::JoinOutcome,
};

/// A join that was granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Joined {
    /// The room's card; version 0 when neither store could show it.
    pub(crate) card: RoomCard,
    /// Users with a seat.
    pub(crate) members: u64,
    /// Whether presence holds the join as well; false: the seat is given, and the next report repairs presence.
    pub(crate) is_present: bool,
}

/// Puts a session into a room. Answers within a second: UNAVAILABLE when a store that is needed does not.
pub(crate) async fn join(
    controller: &Arc<Controller>,
    room: &RoomId,
    who: SeatRequest,
    session: SessionId,
    budget: &mut Budget,
) -> Result<Joined, Fault> {
    let joined = match rejoin(controller, room, &who.user_id, session, budget).await {
        Ok(Some(joined)) => {
            controller.metrics.join(JoinOutcome::Rejoined);
            return Ok(joined);
        }
        Ok(None) => enter(controller, room, who, session, budget).await,
        Err(refused) => Err(refused),
    };
    count(controller, &joined);
    joined
}

/// Gives a user a seat without a session: absent from now on, unless it is there already.
pub(crate) async fn take_seat(
    controller: &Arc<Controller>,
    room: &RoomId,
    who: SeatRequest,
) -> Result<Joined, Fault> {
    let user = who.user_id.clone();
    let seat = seat(controller, room, who, &mut Budget::start()).await;
    let joined = match seat {
        Ok(seat) => {
            let now = controller.clock.now().await;
            let is_present = mark_absent(controller, room, &user, seat.card.membership, now).await;
            Ok(Joined { card: seat.card, members: seat.members, is_present })
        }
        Err(refused) => Err(refused),
    };
    count(controller, &joined);
    joined
}

fn count(controller: &Controller, joined: &Result<Joined, Fault>) {
    controller.metrics.join(match joined {
        Ok(_) => JoinOutcome::Admitted,
        Err(refused) => JoinOutcome::of(refused.code),
    });
}

/// Marks the holder of a seat without a session as absent; an audit finds the seat when presence is away.
pub(crate) async fn mark_absent(
    controller: &Controller,
    room: &RoomId,
    user: &UserId,
    membership: Membership,
    now: StoreTime,
) -> bool {
    let due = controller.due(membership, now);
    let marked = controller.promptly(controller.presence.mark_absent(room, user, now, due)).await;
    if marked.is_err() {
        controller.audits.push(room.clone());
    }
    marked.is_ok()
}

/// The fast path: whoever presence knows in the room holds a seat. `None`: ask the record, which decides as well when
/// presence is away.
async fn rejoin(
    controller: &Controller,
    room: &RoomId,
    user: &UserId,
    session: SessionId,
    budget: &mut Budget,
) -> Result<Option<Joined>, Fault> {
    let presence = &controller.presence;
    if !matches!(budget.presence(controller, presence.rejoin(room, user, session)).await, Ok(true)) {
        return Ok(None);
    }
    let (card, members) = match budget.presence(controller, presence.card(room)).await {
        Ok(CardEntry::Known { card, members }) => (card, members),
        Ok(CardEntry::Buried { .. }) => return Err(room_deleted(room)),
        Ok(CardEntry::Unknown) | Err(_) => {
            match timeout_at(budget.record_by(), controller.rooms.room(room)).await {
                Ok(Ok(Some(row))) => {
                    controller.stale_cards.push(room.clone());
                    (row.card, row.members)
                }
                // Presence was rebuilt from reports and the record has lost the room: a transaction makes it anew.
                Ok(Ok(None)) => return Ok(None),
                _ => unknown_card(controller, room, budget).await,
            }
        }
    };
    Ok(Some(Joined { card, members, is_present: true }))
}

/// What is said of a room whose card no store can show: version 0, and those online as its members.
async fn unknown_card(controller: &Controller, room: &RoomId, budget: &mut Budget) -> (RoomCard, u64) {
    let card = RoomCard {
        room_id: room.clone(),
        version: 0,
        state: RoomState::Active,
        membership: Membership::Follow,
        max_users: controller.config.room.default_max_users,
        log: controller.config.log.room,
        on_log_failure: OnLogFailure::default(),
    };
    let counts = budget.presence(controller, controller.presence.online_counts(room)).await;
    (card, counts.map_or(1, |(_, users)| users))
}

async fn enter(
    controller: &Arc<Controller>,
    room: &RoomId,
    who: SeatRequest,
    session: SessionId,
    budget: &mut Budget,
) -> Result<Joined, Fault> {
    let user = who.user_id.clone();
    let seat = seat(controller, room, who, budget).await?;
    budget.record_answered();
    let entered = budget.presence(controller, controller.presence.enter(room, &user, session)).await;
    Ok(Joined { card: seat.card, members: seat.members, is_present: entered.is_ok() })
}

/// A seat from the next transaction.
async fn seat(
    controller: &Arc<Controller>,
    room: &RoomId,
    who: SeatRequest,
    budget: &mut Budget,
) -> Result<Seat, Fault> {
    let answer = batches::submit(controller, room, who)?;
    match timeout_at(budget.record_by(), answer).await {
        Ok(Ok(decided)) => decided,
        // The batch's task panicked, or the controller is stopping.
        Ok(Err(_)) => Err(Fault::unavailable("the controller dropped this join; try again", retry_after())),
        Err(_) => Err(no_record(room)),
    }
}

/// The answer to somebody whom the record keeps waiting.
fn no_record(room: &RoomId) -> Fault {
    Fault::unavailable(format!("room {room}: the record does not answer; try again"), retry_after())
}

/// The answer to somebody that found no place.
fn room_full(room: &RoomId, members: u64, max_users: u32) -> Fault {
    Fault::new(Code::RoomFull, format!("room {room} has {members} of {max_users} seats taken"))
}

/// What a store's error means for every join of a batch.
fn refusal(error: &roomcast_store::Error) -> Fault {
    fault(error)
}
