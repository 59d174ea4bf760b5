//! Room cards: the record first, then presence, then everybody who keeps a copy.

mod burials;

pub(crate) use burials::Burials;

use std::{sync::Arc, time::Duration};

use roomcast_store::{
    presence::CardEntry,
    rooms::{NewRoom, RoomChange, RoomRow},
};
use roomcast_types::{Code, Fault, Membership, OnLogFailure, RoomCard, RoomId, RoomState};
use tokio::time::{sleep, timeout};

use crate::{
    controller::{Controller, room_deleted},
    error::fault,
    memberships, notify, seats,
};

/// Rooms whose number of members is corrected in one go.
const REFRESHED_AT_ONCE: usize = 256;
/// How long a room that became FOLLOW may keep a task busy.
const DUE_WAIT: Duration = Duration::from_secs(10);
/// How long to wait before a correction that failed is tried again.
const PAUSE: Duration = Duration::from_secs(1);

/// Creates a room by request; ALREADY_EXISTS when it is there. An id that was deleted a moment ago may be used again.
pub(crate) async fn create(
    controller: &Arc<Controller>,
    room: &RoomId,
    new: NewRoom,
) -> Result<RoomCard, Fault> {
    let now = controller.clock.now().await;
    let row = controller.rooms.create(room, new, now).await.map_err(|error| fault(&error))?;
    controller.burials.forget(room);
    show(controller, &row).await;
    // Whoever keeps the deletion of the same id hears that it is over.
    notify::room_changed(controller, &row.card).await;
    Ok(row.card)
}

/// Changes a room; NOT_FOUND or ROOM_DELETED when it is not there.
pub(crate) async fn update(
    controller: &Arc<Controller>,
    room: &RoomId,
    change: RoomChange,
) -> Result<RoomCard, Fault> {
    let now = controller.clock.now().await;
    let row = match controller.rooms.update(room, change, now).await {
        Ok(row) => row,
        Err(error) => {
            let answer = fault(&error);
            return Err(if answer.code == Code::NotFound {
                controller.no_such_room(room).await
            } else {
                answer
            });
        }
    };
    show(controller, &row).await;
    notify::room_changed(controller, &row.card).await;
    if change.log.is_some() {
        // After everybody heard of it: a push that still knew the old policy has no log to begin anew.
        controller.logs.policy_changed(room, row.card.log).await;
    }
    if change.membership == Some(Membership::Follow) {
        let (owner, room) = (controller.clone(), room.clone());
        controller.tasks.spawn(async move {
            // Until then sessions that end may leave an absence as that of a durable room.
            sleep(2 * memberships::FRESH).await;
            // What fails here, or takes too long, is found by the audit.
            if !matches!(timeout(DUE_WAIT, seats::make_due(&owner, &room)).await, Ok(Ok(()))) {
                owner.audits.push(room);
            }
        });
    }
    Ok(row.card)
}

/// Deletes a room by request, also one that only presence still knows; how many seats it had.
pub(crate) async fn delete(controller: &Arc<Controller>, room: &RoomId) -> Result<u64, Fault> {
    let failed = |error| fault(&error);
    let deleted = controller.rooms.delete(room).await.map_err(failed)?;
    let known = controller.promptly(controller.presence.card(room)).await;
    let last = match (deleted, known) {
        (Some(row), _) => (row.card, row.members),
        (None, Ok(CardEntry::Known { card, .. })) => (card, 0),
        (None, Ok(CardEntry::Buried { .. })) => return Err(room_deleted(room)),
        (None, Ok(CardEntry::Unknown)) => {
            let (sessions, _) = controller.presence.online_counts(room).await.map_err(failed)?;
            if sessions == 0 {
                return Err(Fault::new(Code::NotFound, format!("room {room} does not exist")));
            }
            (unknown(controller, room), 0)
        }
        (None, Err(error)) => return Err(fault(&error)),
    };
    let (card, members) = last;
    let card = RoomCard { version: card.version + 1, state: RoomState::Deleted, ..card };
    bury(controller, &card).await;
    notify::room_changed(controller, &card).await;
    controller.logs.room_removed(room, card.log).await;
    tracing::info!(room_id = %room, members, "a room was deleted");
    Ok(members)
}

/// Keeps presence in step with the record: numbers of members that changed, deletions. Runs for ever.
pub(crate) async fn refresh_stale(controller: &Controller) {
    tokio::join!(refresh_members(controller), bury_pending(controller));
}

async fn refresh_members(controller: &Controller) {
    loop {
        for room in controller.stale_cards.take(REFRESHED_AT_ONCE).await {
            let refreshed = match controller.rooms.room(&room).await {
                Ok(Some(row)) => controller.presence.put_card(&row.card, row.members).await,
                Ok(None) => Ok(()),
                Err(error) => Err(error),
            };
            if refreshed.is_err() {
                controller.stale_cards.push(room);
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn bury_pending(controller: &Controller) {
    let ttl = controller.config.room.deleted_ttl;
    loop {
        let (room, version) = controller.burials.next().await;
        match controller.presence.bury(&room, version, ttl).await {
            Ok(()) => controller.burials.done(&room, version),
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

async fn show(controller: &Controller, row: &RoomRow) {
    if controller.promptly(controller.presence.put_card(&row.card, row.members)).await.is_err() {
        controller.stale_cards.push(row.card.room_id.clone());
    }
}

/// Buries now, or as soon as presence answers: the record has forgotten the room already.
async fn bury(controller: &Controller, card: &RoomCard) {
    let ttl = controller.config.room.deleted_ttl;
    if controller.promptly(controller.presence.bury(&card.room_id, card.version, ttl)).await.is_err()
        && !controller.burials.push(card.room_id.clone(), card.version)
    {
        tracing::warn!(room_id = %card.room_id, "so many deletions wait for presence that joins may create this room anew at once");
    }
}

/// The card of a room of which only its occupants are known.
fn unknown(controller: &Controller, room: &RoomId) -> RoomCard {
    RoomCard {
        room_id: room.clone(),
        version: 0,
        state: RoomState::Active,
        membership: Membership::Follow,
        max_users: controller.config.room.default_max_users,
        log: controller.config.log.room,
        on_log_failure: OnLogFailure::default(),
    }
}
