//! What nobody waits for: deleting what is over its age, a piece at a time, and looking whether a store answers again.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use roomcast_proto::pubsub::{PositionConflict, position_conflict};
use roomcast_runtime::Gate;
use roomcast_store::{Log, log::LogKey};
use roomcast_types::{Epoch, LogPolicy, RoomId, StoreTime, UserId, unix_millis};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout},
};

use super::Archive;

/// Between two sweeps that find nothing; drawn anew, so that push-managers do not sweep together.
const IDLE: std::ops::Range<Duration> = Duration::from_secs(20)..Duration::from_secs(40);
/// Between two pieces, so that pushes have the store for most of the time.
const BETWEEN: Duration = Duration::from_millis(250);
/// How long one piece may take.
const PIECE: Duration = Duration::from_secs(10);
/// How often a gate that refuses is tried.
const LOOK: Duration = Duration::from_millis(50);
/// How often a log may be renewed because of what a client says; a client can say anything.
const RENEWAL_EVERY: Duration = Duration::from_secs(10);
/// Logs of which that is remembered.
const RENEWALS_KEPT_MAX: usize = 4_096;

/// When logs were renewed because of what a client knew.
#[derive(Debug, Default)]
pub struct Renewals(Mutex<HashMap<LogKey, Instant>>);

impl Renewals {
    /// Whether a log may be renewed now.
    pub fn may(&self, key: &LogKey) -> bool {
        let now = Instant::now();
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= RENEWALS_KEPT_MAX {
            kept.retain(|_, at| now.duration_since(*at) < RENEWAL_EVERY);
        }
        let is_recent = kept.get(key).is_some_and(|at| now.duration_since(*at) < RENEWAL_EVERY);
        if is_recent || kept.len() >= RENEWALS_KEPT_MAX {
            return false;
        }
        kept.insert(key.clone(), now);
        true
    }
}

impl Archive {
    /// Runs for ever.
    pub async fn keep(self: Arc<Self>, conflicts: mpsc::Receiver<PositionConflict>) -> String {
        tokio::join!(
            self.sweep_log(LogPolicy::Recent),
            self.sweep_log(LogPolicy::Durable),
            self.sweep_inbox(),
            self.look(),
            self.settle(conflicts)
        );
        "the keeper of logs ended".to_owned()
    }

    async fn sweep_log(&self, policy: LogPolicy) {
        loop {
            let retention = self.retention(policy);
            let swept = timeout(PIECE, self.logs.of(policy).sweep(retention)).await;
            self.pause(swept.ok().and_then(Result::ok)).await;
        }
    }

    async fn sweep_inbox(&self) {
        loop {
            let now = StoreTime::from_millis(unix_millis());
            let swept = timeout(PIECE, self.logs.inbox.sweep(now)).await;
            self.pause(swept.ok().and_then(Result::ok)).await;
        }
    }

    /// Shortly when there is more to delete.
    async fn pause(&self, deleted: Option<u64>) {
        let deleted = deleted.unwrap_or(0);
        self.metrics.swept.increment(deleted);
        if deleted > 0 {
            return sleep(BETWEEN).await;
        }
        sleep(rand::random_range(IDLE)).await;
    }

    /// Tries stores that did not answer, so that no push has to.
    async fn look(&self) {
        let gates = &self.gates;
        tokio::join!(
            look_at(&gates.recent, &*self.logs.recent),
            look_at(&gates.recent_reads, &*self.logs.recent),
            look_at(&gates.durable, &*self.logs.durable),
            look_at(&gates.durable_reads, &*self.logs.durable),
            // In the same database.
            look_at(&gates.inbox, &*self.logs.durable),
        );
    }

    /// The sections of the configuration whose stores do not answer now.
    pub fn degraded(&self) -> Vec<&'static str> {
        let gates = &self.gates;
        let is_record_away =
            [&gates.durable, &gates.durable_reads, &gates.inbox].iter().any(|gate| gate.is_open());
        let is_memory_away = gates.recent.is_open() || gates.recent_reads.is_open();
        let sections = [("redis", is_memory_away), ("database", is_record_away)];
        sections.into_iter().filter(|(_, is_away)| *is_away).map(|(section, _)| section).collect()
    }

    /// Renews logs of which nodes know later positions. Nodes share what they know, so most conflicts are settled when their
    /// turn comes: renewing looks at the epoch.
    async fn settle(&self, mut conflicts: mpsc::Receiver<PositionConflict>) {
        while let Some(conflict) = conflicts.recv().await {
            let policy = conflict.policy().into();
            let (policy, key) = match conflict.log {
                Some(position_conflict::Log::RoomId(room_id)) => {
                    (policy, RoomId::new(room_id).map(LogKey::Room))
                }
                Some(position_conflict::Log::UserId(user_id)) => {
                    (LogPolicy::Recent, UserId::new(user_id).map(LogKey::User))
                }
                None => continue,
            };
            let (Ok(key), Some(epoch)) = (key, Epoch::from_u64(conflict.epoch)) else { continue };
            if policy != LogPolicy::None {
                // A store that is away is told by the next conflict: each message that does not fit makes one.
                self.renew(policy, &key, epoch).await;
            }
        }
    }
}

async fn look_at(gate: &Gate, log: &dyn Log) {
    loop {
        sleep(LOOK).await;
        if gate.is_open() {
            // What it says is the gate's to judge.
            let _ = gate.pass(log.ping(), roomcast_store::Error::is_retryable).await;
        }
    }
}
