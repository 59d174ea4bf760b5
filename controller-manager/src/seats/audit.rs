//! The seat audit: compares the seats of the record with presence, room by room, and mends both ways.

use std::{collections::HashSet, sync::Arc, time::Duration};

use roomcast_store::{
    Error as StoreError, ErrorKind,
    presence::{CardEntry, Occupancy},
    rooms::{RoomRow, SeatRequest},
};
use roomcast_types::{Membership, RoomId, StoreTime, UserId};
use tokio::{sync::Notify, time::timeout};

use crate::{
    backlog::Backlog,
    controller::Controller,
    kick::{self, Order},
};

/// Every seat is looked at this often, whatever happened; spread, so that controllers do not audit together.
const EVERY: Duration = Duration::from_secs(600);
/// After presence was lost: nodes report anew within seconds, and who is back needs no mending.
const AFTER_LOSS: Duration = Duration::from_secs(5);
/// Rooms read a page, and seats.
const ROOMS_PAGE: u32 = 256;
const SEATS_PAGE: u32 = 1_000;
/// An absence that should have ended so long ago has no due time.
const OVERDUE: Duration = Duration::from_secs(60);
/// How long to wait before a room whose audit failed is tried again.
const PAUSE: Duration = Duration::from_secs(1);

/// What is to be audited.
#[derive(Default)]
pub(crate) struct Audits {
    rooms: Backlog,
    all: Notify,
}

impl Audits {
    /// Has one room audited soon.
    pub(crate) fn push(&self, room: RoomId) {
        if !self.rooms.push(room) {
            self.push_all();
        }
    }

    /// Has every room audited, after the nodes had time to report.
    pub(crate) fn push_all(&self) {
        self.all.notify_one();
    }
}

/// Audits the rooms that were asked for. Runs for ever.
pub(crate) async fn audit_asked(controller: &Arc<Controller>) {
    loop {
        for room in controller.audits.rooms.take(ROOMS_PAGE as usize).await {
            if audit(controller, &room).await.is_err() {
                controller.audits.push(room);
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Audits every room at the start, now and then, and after presence was lost. Runs for ever.
pub(crate) async fn audit_all(controller: &Arc<Controller>) {
    // Presence may have been lost while no controller was there to notice.
    controller.audits.push_all();
    loop {
        let period = EVERY.mul_f64(rand::random_range(0.9..=1.1));
        if timeout(period, controller.audits.all.notified()).await.is_ok() {
            tokio::time::sleep(AFTER_LOSS.mul_f64(rand::random_range(0.8..=1.2))).await;
        }
        let mut after = None;
        loop {
            match next_page(controller, after.as_ref()).await {
                Ok(Some(last)) => after = Some(last),
                Ok(None) => break,
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }
}

async fn next_page(
    controller: &Arc<Controller>,
    after: Option<&RoomId>,
) -> Result<Option<RoomId>, StoreError> {
    let page = controller.rooms.rooms(after, ROOMS_PAGE).await?;
    for row in &page {
        audit(controller, &row.card.room_id).await?;
    }
    Ok(page.last().map(|row| row.card.room_id.clone()))
}

async fn audit(controller: &Arc<Controller>, room: &RoomId) -> Result<(), StoreError> {
    let now = controller.presence.now().await?;
    if let CardEntry::Buried { .. } = controller.presence.card(room).await? {
        return Ok(());
    }
    // Before the seats: a seat that is taken later than this is not missed in presence but new.
    let occupancy = controller.presence.occupancy(room).await?;
    let row = controller.rooms.room(room).await?;
    let holders = match &row {
        Some(row) => find_absent(controller, row, &occupancy, now).await?,
        None => HashSet::new(),
    };
    let before = now.minus(Duration::from_millis(1));
    for (user, since) in &occupancy.absent {
        if !holders.contains(user) && controller.rooms.seat(room, user).await?.is_none() {
            // Who is absent may rejoin without asking the record: nobody may be without a seat.
            controller.presence.take_absence(room, user, before).await?;
        } else if let Some(due) = row.as_ref().and_then(|row| controller.due(row.card.membership, *since))
            && due.plus(OVERDUE) < now
            && controller.presence.take_absence(room, user, before).await?
        {
            // It began while the room was durable and was never due.
            let due = controller.due(Membership::Follow, now);
            controller.presence.mark_absent(room, user, now, due).await?;
        }
    }
    let seatless = occupancy.online.into_iter().map(|(user, _)| user).filter(|user| !holders.contains(user));
    let seatless: Vec<UserId> = seatless.collect();
    for chunk in seatless.chunks(controller.config.server.join_batch_max) {
        readmit(controller, room, chunk).await?;
    }
    if row.is_some() {
        controller.stale_cards.push(room.clone());
    }
    Ok(())
}

/// Marks holders of seats without any presence as absent; all holders.
async fn find_absent(
    controller: &Controller,
    row: &RoomRow,
    occupancy: &Occupancy,
    now: StoreTime,
) -> Result<HashSet<UserId>, StoreError> {
    let room = &row.card.room_id;
    let present: HashSet<&UserId> = occupancy
        .online
        .iter()
        .map(|(user, _)| user)
        .chain(occupancy.absent.iter().map(|(user, _)| user))
        .collect();
    let (mut holders, mut after) = (HashSet::new(), None);
    loop {
        let page = controller.rooms.seats(room, after.as_ref(), SEATS_PAGE).await?;
        let is_last = page.len() < SEATS_PAGE as usize;
        after = page.last().map(|seat| seat.user_id.clone());
        for seat in page {
            if !present.contains(&seat.user_id) {
                let due = controller.due(row.card.membership, now);
                controller.presence.mark_absent(room, &seat.user_id, now, due).await?;
            }
            holders.insert(seat.user_id);
        }
        if is_last {
            return Ok(holders);
        }
    }
}

/// Gives seats to users that are online without one; those for whom there is no place leave the room.
async fn readmit(controller: &Arc<Controller>, room: &RoomId, users: &[UserId]) -> Result<(), StoreError> {
    // They may have left since: only who still is in the room needs a seat.
    let online: HashSet<UserId> =
        controller.presence.occupancy(room).await?.online.into_iter().map(|(user, _)| user).collect();
    let mut requests = Vec::new();
    for user in users.iter().filter(|user| online.contains(*user)) {
        if controller.rooms.seat(room, user).await?.is_none() {
            requests.push(SeatRequest { user_id: user.clone(), user_name: String::new() });
        }
    }
    if requests.is_empty() {
        return Ok(());
    }
    let now = controller.clock.now().await;
    let admitted = match controller.rooms.admit(room, &requests, controller.auto_create(), now).await {
        Ok(admission) => {
            controller.presence.put_card(&admission.card, admission.members).await?;
            admission.admitted
        }
        Err(error) if error.kind() == ErrorKind::NoSuchRoom => vec![false; requests.len()],
        Err(error) => return Err(error),
    };
    for (request, is_admitted) in requests.iter().zip(admitted) {
        if is_admitted {
            controller.metrics.seats_readmitted.increment(1);
            let membership = controller.membership(room).await;
            // Who left while the transaction ran is away, not gone.
            let due = controller.due(membership, now);
            controller.presence.mark_absent(room, &request.user_id, now, due).await?;
        } else {
            evict(controller, room, &request.user_id).await?;
        }
    }
    Ok(())
}

async fn evict(controller: &Arc<Controller>, room: &RoomId, user: &UserId) -> Result<(), StoreError> {
    let evicted = controller.presence.evict(room, user).await?;
    let mut sessions = controller.presence.sessions(user).await?;
    sessions.retain(|entry| evicted.contains(&entry.session_id));
    tracing::warn!(room_id = %room, user_id = %user, "a user without a seat leaves the room");
    kick::in_background(controller, Order::evict(room.clone()), sessions);
    Ok(())
}
