//! One database of a server: its connections, the gate before it, and calls that are made again after a conflict.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use roomcast_runtime::{
    Backoff, Gate, GateSettings,
    config::{Database, MysqlTarget},
};

use super::{
    connection::{Pool, Transaction},
    fault::{self, BACKEND, Fault},
};
use crate::{
    counters::Counters,
    error::{Error, Result},
};

/// How often a transaction that met a deadlock or waited too long for a lock is begun anew.
const RETRIES: u32 = 3;

/// Calls under way for each connection: far above a burst of joins, and a bound on what waits in memory.
const CALLS_PER_CONNECTION: usize = 64;

#[derive(Debug)]
pub(super) struct Server {
    pub(super) pool: Pool,
    gate: Gate,
    transactions: AtomicU64,
}

impl Server {
    pub(super) fn new(target: &MysqlTarget, section: &Database) -> Result<Self> {
        let connections = section.connections_max as usize;
        let gate = Gate::new(GateSettings {
            name: "MySQL",
            calls_max: connections * CALLS_PER_CONNECTION,
            // Each statement has its own time-out; this bounds a call of many slow ones, or of as many retries as
            // there are.
            deadline: (section.pool_timeout + section.statement_timeout) * (RETRIES + 1),
            failures: 5,
            pause_min: Duration::from_millis(200),
            pause_max: Duration::from_secs(2),
        })
        .quiet_until_answered();
        Ok(Self { pool: Pool::new(target, section)?, gate, transactions: AtomicU64::new(0) })
    }

    /// Makes a call unless the server is known not to answer, and again after a conflict.
    pub(super) async fn call<T, F>(&self, call: impl Fn() -> F) -> Result<T>
    where
        F: Future<Output = fault::Result<T>>,
    {
        let answer = self.gate.pass(retry(call), Fault::is_outage).await;
        let answer = answer.map_err(|refused| Error::Unavailable {
            backend: BACKEND,
            context: refused.to_string(),
            source: Some(Box::new(refused)),
        })?;
        answer.map_err(|fault| {
            if fault.is_outage() {
                self.pool.close_idle();
            }
            fault.into()
        })
    }

    pub(super) async fn begin(&self) -> fault::Result<Transaction<'_>> {
        let transaction = self.pool.begin().await?;
        self.transactions.fetch_add(1, Ordering::Relaxed);
        Ok(transaction)
    }

    pub(super) fn counters(&self) -> Counters {
        Counters {
            transactions: self.transactions.load(Ordering::Relaxed),
            calls_refused: self.gate.refused_total(),
            is_refusing: self.gate.is_open(),
        }
    }
}

async fn retry<T, F>(call: impl Fn() -> F) -> fault::Result<T>
where
    F: Future<Output = fault::Result<T>>,
{
    let mut pauses = Backoff::new(Duration::from_millis(5), Duration::from_millis(50));
    for _ in 0..RETRIES {
        match call().await {
            Err(fault) if fault.is_conflict() => tokio::time::sleep(pauses.next_wait()).await,
            answer => return answer,
        }
    }
    call().await
}

/// A call that reads, with a connection that comes back only when it succeeded.
macro_rules! read {
    ($self:ident, $lease:ident => $call:expr) => {
        $self.server.call(|| async {
            let mut borrowed = $self.server.pool.lease().await?;
            let $lease = &mut borrowed;
            let answer = $call.await?;
            borrowed.give_back();
            Ok(answer)
        })
    };
}
pub(super) use read;
