//! Logs of rooms: removed with their room or their policy, and swept of what is too old, as inboxes are.

use std::{sync::Arc, time::Duration};

use roomcast_store::{
    Error as StoreError, Log,
    log::{LogKey, Logs, Retention},
};
use roomcast_types::{LogPolicy, RoomId, StoreTime, unix_millis};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use crate::{backlog::Backlog, controller::Controller};

/// How long whoever deletes a room waits for its log to go; after that it goes as soon as its store answers.
const WAIT: Duration = Duration::from_secs(1);
/// How long to wait before a removal that failed is tried again.
const PAUSE: Duration = Duration::from_secs(1);
/// How often what is too old is looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(30);
/// Between two pieces of a sweep: others have their turn.
const SWEEP_PAUSE: Duration = Duration::from_millis(20);
/// Pieces of one sweep; the rest waits for the next look.
const SWEEP_PIECES: usize = 500;

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

/// Runs for ever: removals that failed, and sweeps.
pub(crate) async fn keep(controller: &Controller) {
    let logs = &controller.logs;
    tokio::join!(
        remove_pending(&logs.stores.recent, &logs.recent),
        remove_pending(&logs.stores.durable, &logs.durable),
        sweep(controller),
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

/// Every controller does this: what one has deleted, the others do not find.
async fn sweep(controller: &Controller) {
    let (config, stores) = (&controller.config.log, &controller.logs.stores);
    let recent = Retention {
        messages: config.recent_messages,
        bytes: config.recent_bytes.0,
        age: config.recent_age,
        idempotency: config.idempotency_ttl,
    };
    let durable =
        Retention { messages: config.durable_messages, bytes: u64::MAX, age: config.durable_age, ..recent };
    let mut ticks = interval(SWEEP_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let now = StoreTime::from_millis(unix_millis());
        // A store that is away is reported by the health watch; the next look finds the same.
        let _ = in_pieces(|| stores.recent.sweep(&recent)).await;
        let _ = in_pieces(|| stores.durable.sweep(&durable)).await;
        let _ = in_pieces(|| stores.inbox.sweep(now)).await;
    }
}

async fn in_pieces<F>(piece: impl Fn() -> F) -> Result<(), StoreError>
where
    F: Future<Output = Result<u64, StoreError>>,
{
    for _ in 0..SWEEP_PIECES {
        if piece().await? == 0 {
            break;
        }
        sleep(SWEEP_PAUSE).await;
    }
    Ok(())
}
