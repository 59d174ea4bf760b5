//! Removes rooms that a join created and that stayed empty.

use std::time::Duration;

use roomcast_store::Error as StoreError;
use roomcast_types::StoreTime;
use tokio::time::{MissedTickBehavior, interval};

use crate::controller::Controller;

/// Rooms removed at once; the rest waits for the next look.
const AT_ONCE: u32 = 256;
/// How often empty rooms are looked for; more often when rooms are to go quickly.
const EVERY_MAX: Duration = Duration::from_secs(10);
const EVERY_MIN: Duration = Duration::from_millis(100);

/// Runs for ever. Every controller does this: the removal is conditional.
pub(crate) async fn remove_empty_rooms(controller: &Controller) {
    let ttl = controller.config.room.empty_ttl;
    let mut ticks = interval((ttl / 10).clamp(EVERY_MIN, EVERY_MAX));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(now) = controller.clock.read().await else { continue };
        // A store that is away is reported by the health watch; the next look finds the same rooms.
        let _ = remove_some(controller, now.minus(ttl)).await;
    }
}

async fn remove_some(controller: &Controller, before: StoreTime) -> Result<(), StoreError> {
    for room in controller.rooms.empty_rooms(before, AT_ONCE).await? {
        let Some(row) = controller.rooms.room(&room).await? else { continue };
        if controller.rooms.delete_if_empty(&room, before).await? {
            controller.metrics.rooms_removed.increment(1);
            // A change that came in between raised the version by one; a room created anew starts two above.
            controller.logs.room_removed(&room, row.card.log).await;
            controller.presence.forget_room(&room, row.card.version + 1).await?;
            tracing::info!(room_id = %room, "a room that stayed empty was removed");
        }
    }
    Ok(())
}
