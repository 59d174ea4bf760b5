//! Releases the seats of those who stayed away longer than the grace, in batches per room.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use futures_util::FutureExt;
use roomcast_store::{Error as StoreError, rooms::RoomRow};
use roomcast_types::{Membership, RoomId, StoreTime, UserId};
use tokio::time::{MissedTickBehavior, interval};

use super::note_released;
use crate::{concurrent, controller::Controller};

/// How often due absences are looked for.
const EVERY: Duration = Duration::from_millis(500);
/// Absences taken up at once; the rest waits for the next look, which then follows at once.
const AT_ONCE: usize = 4_096;
/// Rooms worked on at once.
const ROOMS_AT_ONCE: usize = 16;
/// Seats a release transaction takes.
const BATCH: usize = 512;
/// Seats read a page.
const PAGE: u32 = 1_000;

/// Runs for ever. Every controller does this: each step is conditional, so that two never do it twice.
pub(crate) async fn release_due(controller: &Controller) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        // A store that is away is reported by the health watch; the next look finds the same absences.
        while let Ok(AT_ONCE) = release_some(controller).await {}
    }
}

/// How many absences were settled.
async fn release_some(controller: &Controller) -> Result<usize, StoreError> {
    let now = controller.presence.now().await?;
    let due = controller.presence.due_absences(now, AT_ONCE).await?;
    let count = due.len();
    let mut rooms: BTreeMap<RoomId, Vec<UserId>> = BTreeMap::new();
    for (room, user) in due {
        rooms.entry(room).or_default().push(user);
    }
    let work = rooms.iter().map(|(room, users)| release_room(controller, room, users, now).boxed());
    let settled = concurrent::every(work.collect(), ROOMS_AT_ONCE).await;
    settled.into_iter().collect::<Result<Vec<()>, StoreError>>()?;
    Ok(count)
}

async fn release_room(
    controller: &Controller,
    room: &RoomId,
    users: &[UserId],
    now: StoreTime,
) -> Result<(), StoreError> {
    let Some(row) = controller.rooms.room(room).await? else {
        // No room, no seats: only the absences are left.
        for user in users {
            take(controller, room, user, now).await?;
        }
        return Ok(());
    };
    if row.card.membership == Membership::Durable {
        // The room became durable while they were away: the seats stay, without a due time.
        for user in users {
            if take(controller, room, user, now).await? {
                controller.presence.mark_absent(room, user, now, None).await?;
            }
        }
        return Ok(());
    }
    for chunk in users.chunks(BATCH) {
        release_batch(controller, &row, chunk, now).await?;
    }
    Ok(())
}

async fn release_batch(
    controller: &Controller,
    row: &RoomRow,
    users: &[UserId],
    now: StoreTime,
) -> Result<(), StoreError> {
    let room = &row.card.room_id;
    // Read before the absence is taken: who is admitted after that carries another version, and keeps its seat.
    let versions = versions(controller, row, users).await?;
    let mut seats = Vec::with_capacity(users.len());
    for user in users {
        if take(controller, room, user, now).await?
            && let Some(version) = versions.get(user)
        {
            seats.push((user.clone(), Some(*version)));
        }
    }
    if seats.is_empty() {
        return Ok(());
    }
    match controller.rooms.release(room, &seats, now).await {
        Ok(released) => {
            note_released(controller, room, released);
            Ok(())
        }
        Err(error) => {
            // They are absent again, or their seats would wait for the next audit.
            for (user, _) in &seats {
                let due = controller.due(row.card.membership, now);
                controller.presence.mark_absent(room, user, now, due).await?;
            }
            Err(error)
        }
    }
}

/// Takes an absence that was due at `now`. One that began since then is another one.
async fn take(
    controller: &Controller,
    room: &RoomId,
    user: &UserId,
    now: StoreTime,
) -> Result<bool, StoreError> {
    controller.presence.take_absence(room, user, now.minus(Duration::from_millis(1))).await
}

/// A room became FOLLOW: who is absent without a due time gets one, from now.
pub(crate) async fn make_due(controller: &Controller, room: &RoomId) -> Result<(), StoreError> {
    let now = controller.presence.now().await?;
    for (user, _) in controller.presence.occupancy(room).await?.absent {
        if take(controller, room, &user, now).await? {
            let due = controller.due(Membership::Follow, now);
            controller.presence.mark_absent(room, &user, now, due).await?;
        }
    }
    Ok(())
}

/// Versions of the users' seats: one by one for a few, else by reading the room's seats in pages.
async fn versions(
    controller: &Controller,
    row: &RoomRow,
    users: &[UserId],
) -> Result<HashMap<UserId, u64>, StoreError> {
    let room = &row.card.room_id;
    let mut versions = HashMap::with_capacity(users.len());
    let pages = row.members / u64::from(PAGE) + 1;
    if (users.len() as u64) < pages * 8 {
        for user in users {
            if let Some(seat) = controller.rooms.seat(room, user).await? {
                versions.insert(seat.user_id, seat.version);
            }
        }
        return Ok(versions);
    }
    let mut after: Option<UserId> = None;
    loop {
        let page = controller.rooms.seats(room, after.as_ref(), PAGE).await?;
        let is_last = page.len() < PAGE as usize;
        after = page.last().map(|seat| seat.user_id.clone());
        versions.extend(page.into_iter().map(|seat| (seat.user_id, seat.version)));
        if is_last {
            return Ok(versions);
        }
    }
}
