//! Rooms and seats in MySQL or MariaDB: the record that several controllers share.

mod admit;
mod batch;
mod connection;
mod fault;
mod room;
mod row;
mod schema;
mod seat;

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use async_trait::async_trait;
use roomcast_runtime::{
    Backoff, Gate, GateSettings,
    config::{Database, MysqlTarget},
};
use roomcast_types::{RoomId, StoreTime, UserId};

use self::{
    connection::{Pool, Transaction},
    fault::{BACKEND, Fault},
};
use crate::{
    counters::Counters,
    error::{Error, Result},
    open::Migrated,
    rooms::{Admission, NewRoom, RoomChange, RoomRow, RoomTotals, Rooms, SeatRequest, SeatRow},
};

/// How often a transaction that met a deadlock or waited too long for a lock is begun anew.
const RETRIES: u32 = 3;

/// Calls under way for each connection: far above a burst of joins, and a bound on what waits in memory.
const CALLS_PER_CONNECTION: usize = 64;

/// The record in a database of a MySQL or MariaDB server. Any number of handles may share it.
///
/// A call that is dropped half-way leaves nothing behind: its connection is closed, and the server rolls back. Only
/// when the answer to a COMMIT is lost (`Unavailable`) is it open whether the call took effect; every method may be
/// called again then, as after any `Unavailable`. While the server does not answer, calls are refused at once.
#[derive(Debug)]
pub struct MysqlRooms {
    pool: Pool,
    gate: Gate,
    transactions: AtomicU64,
}

impl MysqlRooms {
    /// A handle that connects when it is first used. Only settings that can never work are errors.
    pub fn open(target: &MysqlTarget, section: &Database) -> Result<Self> {
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

    /// Creates the database and the tables where missing, as [`crate::open::migrate`] says.
    pub async fn migrate(target: &MysqlTarget, section: &Database) -> Result<Migrated> {
        Ok(schema::migrate(target, section).await?)
    }

    /// Makes a call unless the server is known not to answer, and again after a conflict.
    async fn call<T, F>(&self, call: impl Fn() -> F) -> Result<T>
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

    async fn begin(&self) -> fault::Result<Transaction<'_>> {
        let transaction = self.pool.begin().await?;
        self.transactions.fetch_add(1, Ordering::Relaxed);
        Ok(transaction)
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
        $self.call(|| async {
            let mut borrowed = $self.pool.lease().await?;
            let $lease = &mut borrowed;
            let answer = $call.await?;
            borrowed.give_back();
            Ok(answer)
        })
    };
}

#[async_trait]
impl Rooms for MysqlRooms {
    async fn admit(
        &self,
        room: &RoomId,
        requests: &[SeatRequest],
        create: Option<NewRoom>,
        now: StoreTime,
    ) -> Result<Admission> {
        self.call(|| admit::admit(self, room, requests, create, now)).await
    }

    async fn create(&self, room: &RoomId, new: NewRoom, now: StoreTime) -> Result<RoomRow> {
        let created = self.call(|| room::create(self, room, new, now)).await?;
        created.ok_or_else(|| Error::RoomExists(room.clone()))
    }

    async fn update(&self, room: &RoomId, change: RoomChange, now: StoreTime) -> Result<RoomRow> {
        let updated = self.call(|| room::update(self, room, change, now)).await?;
        updated.ok_or_else(|| Error::NoSuchRoom(room.clone()))
    }

    async fn delete(&self, room: &RoomId) -> Result<Option<RoomRow>> {
        self.call(|| room::delete(self, room, None)).await
    }

    async fn delete_if_empty(&self, room: &RoomId, before: StoreTime) -> Result<bool> {
        Ok(self.call(|| room::delete(self, room, Some(before))).await?.is_some())
    }

    async fn room(&self, room: &RoomId) -> Result<Option<RoomRow>> {
        read!(self, lease => room::read(lease, room)).await
    }

    async fn rooms(&self, after: Option<&RoomId>, limit: u32) -> Result<Vec<RoomRow>> {
        read!(self, lease => room::list(lease, after, limit)).await
    }

    async fn empty_rooms(&self, before: StoreTime, limit: u32) -> Result<Vec<RoomId>> {
        read!(self, lease => room::empty(lease, before, limit)).await
    }

    async fn seats(&self, room: &RoomId, after: Option<&UserId>, limit: u32) -> Result<Vec<SeatRow>> {
        read!(self, lease => seat::list(lease, room, after, limit)).await
    }

    async fn seat(&self, room: &RoomId, user: &UserId) -> Result<Option<SeatRow>> {
        read!(self, lease => seat::read(lease, room, user)).await
    }

    async fn release(&self, room: &RoomId, seats: &[(UserId, Option<u64>)], now: StoreTime) -> Result<u64> {
        self.call(|| seat::release(self, room, seats, now)).await
    }

    async fn totals(&self) -> Result<RoomTotals> {
        read!(self, lease => room::totals(lease)).await
    }

    async fn ping(&self) -> Result<()> {
        read!(self, lease => schema::check_version(lease)).await
    }

    fn counters(&self) -> Counters {
        Counters {
            transactions: self.transactions.load(Ordering::Relaxed),
            calls_refused: self.gate.refused_total(),
            is_refusing: self.gate.is_open(),
        }
    }
}
