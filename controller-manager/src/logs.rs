//! Logs of rooms: removed with their room or their policy. Push-managers sweep them of what is too old.

use std::{sync::Arc, time::Duration};

use roomcast_store::{
    Log,
    log::{LogKey, Logs},
};
use roomcast_types::{LogPolicy, RoomId};
use tokio::time::{sleep, timeout};

use crate::{backlog::Backlog, controller::Controller};

/// How long whoever deletes a room waits for its log to go; after that it goes as soon as its store answers.
const WAIT: Duration = Duration::from_secs(1);
/// How long to wait before a removal that failed is tried again.
const PAUSE: Duration = Duration::from_secs(1);

/// Logs, and rooms that have none there any more.
pub(crate) struct RoomLogs {
    stores: Logs,
    /// Rooms whose recent log could not be removed yet.
    recent: Backlog,
    /// As `recent`.
    durable: Backlog,
}

impl RoomLogs {
    pub(crate) fn new(stores: Logs) -> Self {
        Self { stores, recent: Backlog::default(), durable: Backlog::default() }
    }

    /// The room is gone: so is its log, with the idempotency keys in it.
    pub(crate) async fn room_removed(&self, room: &RoomId, policy: LogPolicy) {
        // Without a log, keys lie with the recent ones.
        self.remove(room, policy != LogPolicy::Durable, policy == LogPolicy::Durable).await;
    }

    /// The room has this policy now: it keeps no log under any other, whichever it had.
    pub(crate) async fn policy_changed(&self, room: &RoomId, policy: LogPolicy) {
        self.remove(room, policy != LogPolicy::Recent, policy != LogPolicy::Durable).await;
    }

    /// Now, or as soon as the store answers. A room that is created anew meanwhile loses its log then, and its members
    /// are told; never do they get the former one's.
    async fn remove(&self, room: &RoomId, recent: bool, durable: bool) {
        let remove = async |is_due: bool, log: &Arc<dyn Log>, backlog: &Backlog| {
            let key = LogKey::Room(room.clone());
            let is_removed = !is_due || matches!(timeout(WAIT, log.remove(&key)).await, Ok(Ok(())));
            if !is_removed && !backlog.push(room.clone()) {
                tracing::warn!(room_id = %room, "too many removals of logs wait; this one is left to its age");
            }
        };
        tokio::join!(
            remove(recent, &self.stores.recent, &self.recent),
            remove(durable, &self.stores.durable, &self.durable),
        );
    }
}

/// Runs for ever: removals that failed are made when their store is back.
pub(crate) async fn keep(controller: &Controller) {
    let logs = &controller.logs;
    tokio::join!(
        remove_pending(&logs.stores.recent, &logs.recent),
        remove_pending(&logs.stores.durable, &logs.durable),
    );
}

async fn remove_pending(log: &Arc<dyn Log>, backlog: &Backlog) {
    loop {
        for room in backlog.take(1).await {
            if log.remove(&LogKey::Room(room.clone())).await.is_err() {
                backlog.push(room);
                sleep(PAUSE).await;
            }
        }
    }
}
