//! What keeps messages for those who are away, as a push-manager uses it: each store behind a gate of its own, so that one
//! that hangs costs a deadline once and then nothing.

mod answer;
mod history;
mod inbox;
mod read;
mod sweep;

use std::time::Duration;

use roomcast_runtime::{Causes, Config, Gate, GateSettings, config::UserLog};
use roomcast_store::{
    Error, Logs,
    log::{Append, Appended, LogKey, Retention},
};
use roomcast_types::{Epoch, Fault, LogPolicy, Position};
use tokio::{sync::Semaphore, time::Instant};

pub use history::Which;
use sweep::Renewals;

use crate::metrics::{AppendResult, ArchiveMetrics};

/// Before a store of logs. Two calls without an answer and the next ones are refused: a push must not wait for a store that
/// hangs, and a task of ours looks when it answers again. The deadline leaves a push most of the second that it waits by
/// default.
const GATE: GateSettings = GateSettings {
    name: "the store of recent logs",
    calls_max: 4_096,
    deadline: Duration::from_millis(500),
    failures: 2,
    pause_min: Duration::from_millis(200),
    pause_max: Duration::from_secs(1),
};
/// Who comes back with a crowd rather waits than hears that messages may be missing; a node waits longer still.
const READ_DEADLINE: Duration = Duration::from_secs(1);
/// SQL takes its time when many rooms are written at once, and what it does not answer is refused.
const RECORD_DEADLINE: Duration = Duration::from_secs(1);
/// One append that lost its race for a busy room must not refuse the pushes to all others.
const RECORD_FAILURES: u32 = 3;
/// Bytes of one durable log: its bounds are count and age.
const DURABLE_BYTES_MAX: u64 = 1 << 40;
/// Calls of nodes that read at once; each may hold some 50 MiB.
const READS_AT_ONCE: usize = 16;
/// When a push that was refused may be tried again.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// See the module.
pub struct Archive {
    logs: Logs,
    recent: Retention,
    durable: Retention,
    user: UserLog,
    inbox_messages: u32,
    inbox_age: Duration,
    gates: Gates,
    metrics: ArchiveMetrics,
    /// One permit for each call that reads.
    reads: Semaphore,
    renewals: Renewals,
}

struct Gates {
    recent: Gate,
    durable: Gate,
    /// Reads apart from appends: a crowd that comes back and asks for much must not have pushes refused.
    recent_reads: Gate,
    durable_reads: Gate,
    inbox: Gate,
}

impl Archive {
    /// Over these stores, as configured.
    pub fn new(logs: Logs, config: &Config, metrics: ArchiveMetrics) -> Self {
        let log = &config.log;
        let record = |name| {
            Gate::new(GateSettings { name, deadline: RECORD_DEADLINE, failures: RECORD_FAILURES, ..GATE })
        };
        let reads = |name| Gate::new(GateSettings { name, deadline: READ_DEADLINE, ..GATE });
        Self {
            logs,
            recent: Retention {
                messages: log.recent_messages,
                bytes: log.recent_bytes.0,
                age: log.recent_age,
                idempotency: log.idempotency_ttl,
            },
            durable: Retention {
                messages: log.durable_messages,
                bytes: DURABLE_BYTES_MAX,
                age: log.durable_age,
                idempotency: log.idempotency_ttl,
            },
            user: log.user,
            inbox_messages: log.inbox_messages,
            inbox_age: log.inbox_age,
            gates: Gates {
                recent: Gate::new(GATE),
                durable: record("the store of durable logs"),
                recent_reads: reads("the store of recent logs, for reads"),
                durable_reads: reads("the store of durable logs, for reads"),
                inbox: record("the store of inboxes"),
            },
            metrics,
            reads: Semaphore::new(READS_AT_ONCE),
            renewals: Renewals::default(),
        }
    }

    /// The policy of logs of single users.
    pub fn user_policy(&self) -> LogPolicy {
        match self.user {
            UserLog::Recent => LogPolicy::Recent,
            UserLog::None => LogPolicy::None,
        }
    }

    /// Appends, looks the idempotency key up, or both. UNAVAILABLE when the store does not answer; whether it happened is
    /// not known then.
    pub async fn append(&self, policy: LogPolicy, append: &Append) -> Result<Appended, Fault> {
        // What has no place in a log is a key alone, and those are kept for minutes.
        let policy = if append.payload.is_some() { policy } else { LogPolicy::Recent };
        let began = Instant::now();
        let retention = self.retention(policy);
        let gate = match policy {
            LogPolicy::Durable => &self.gates.durable,
            LogPolicy::Recent | LogPolicy::None => &self.gates.recent,
        };
        let appended = answer(gate, self.logs.of(policy).append(append, retention)).await;
        self.metrics.append_seconds.record(began.elapsed().as_secs_f64());
        let result = match &appended {
            Ok(Appended::New(_)) => AppendResult::New,
            Ok(Appended::Repeat { .. }) => AppendResult::Repeat,
            Ok(Appended::KeyTaken { .. }) => AppendResult::KeyTaken,
            Err(_) => AppendResult::Unavailable,
        };
        self.metrics.append(result);
        appended
    }

    /// Somebody knows a later position of this epoch than the store: it went back in time, and a fresh epoch begins unless it
    /// has done so. The position after it.
    pub async fn renew(&self, policy: LogPolicy, key: &LogKey, epoch: Epoch) -> Option<Position> {
        let gate = match policy {
            LogPolicy::Durable => &self.gates.durable,
            LogPolicy::Recent | LogPolicy::None => &self.gates.recent,
        };
        let renewed = answer(gate, self.logs.of(policy).renew(key, epoch)).await.ok().flatten();
        if renewed.is_some_and(|position| position.epoch != epoch && position.offset == 0) {
            self.metrics.renewals.increment(1);
            let (kind, id) = named(key);
            tracing::warn!(kind, id, %epoch, "a log lost messages that others know; it begins a new epoch");
        }
        renewed
    }

    fn read_gate(&self, policy: LogPolicy) -> &Gate {
        match policy {
            LogPolicy::Durable => &self.gates.durable_reads,
            LogPolicy::Recent | LogPolicy::None => &self.gates.recent_reads,
        }
    }

    fn retention(&self, policy: LogPolicy) -> &Retention {
        match policy {
            LogPolicy::Durable => &self.durable,
            LogPolicy::Recent | LogPolicy::None => &self.recent,
        }
    }
}

/// The answer of a store, unless its gate refuses the call or gives it up.
async fn answer<T>(gate: &Gate, call: impl Future<Output = roomcast_store::Result<T>>) -> Result<T, Fault> {
    let unavailable = |why: String| Fault::unavailable(why, RETRY_AFTER);
    match gate.pass(call, Error::is_retryable).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => {
            if !error.is_retryable() {
                tracing::warn!(error = %Causes(&error), "a store of messages failed");
            }
            Err(unavailable(Causes(&error).to_string()))
        }
        Err(refused) => Err(unavailable(refused.to_string())),
    }
}

/// For the log.
fn named(key: &LogKey) -> (&'static str, &str) {
    match key {
        LogKey::Room(room_id) => ("room", room_id.as_str()),
        LogKey::User(user_id) => ("user", user_id.as_str()),
        LogKey::Unaddressed => ("none", ""),
    }
}
