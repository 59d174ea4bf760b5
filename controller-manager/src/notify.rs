//! Tells every push-manager that a room's card changed.

use std::time::Duration;

use futures_util::FutureExt;
use roomcast_proto::pubsub::RoomChangedRequest;
use roomcast_registry::Registration;
use roomcast_types::RoomCard;
use tokio::time::timeout;

use crate::{concurrent, controller::Controller};

/// How long a push-manager may take; the caller of the room's change waits for it.
const WAIT: Duration = Duration::from_millis(500);
/// Push-managers told at once.
const AT_ONCE: usize = 32;

/// Tells all of them at once. Those that cannot be told keep the old card for `room.cache_ttl` at most.
pub(crate) async fn room_changed(controller: &Controller, card: &RoomCard) {
    let listing = controller.push_managers.current();
    let notices = listing.registrations.iter().map(|manager| tell(controller, manager, card).boxed());
    concurrent::every(notices.collect(), AT_ONCE).await;
}

async fn tell(controller: &Controller, manager: &Registration, card: &RoomCard) {
    let request = RoomChangedRequest { card: Some(card.into()) };
    let failed = match controller.peers.push_manager(&manager.grpc_address) {
        Some(mut client) => match timeout(WAIT, client.room_changed(request)).await {
            Ok(Ok(_)) => return,
            Ok(Err(status)) => status.to_string(),
            Err(_) => format!("no answer within {WAIT:?}"),
        },
        None => format!("{:?} is no address", manager.grpc_address),
    };
    controller.metrics.notices_failed.increment(1);
    tracing::warn!(room_id = %card.room_id, manager_id = %manager.id, error = failed,
        "a push-manager does not know of a room's change until its card is read anew");
}
