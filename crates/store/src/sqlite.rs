//! Rooms, seats, durable logs and inboxes in SQLite: the embedded record, one file (or memory) and no server.

mod admit;
mod connection;
mod fault;
mod inbox;
mod log;
mod messages;
mod room;
mod row;
mod seat;

use std::{
    path::Path,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use async_trait::async_trait;
use roomcast_types::{Position, RoomId, StoreTime, UserId};
use sqlx::{Connection, Sqlite, SqliteConnection, Transaction, sqlite::SqliteSynchronous};
use tokio::sync::MutexGuard;

pub use self::messages::SqliteMessages;
use self::{connection::Connections, fault::failed};
use crate::{
    counters::Counters,
    error::{Error, Result},
    open::Migrated,
    rooms::{
        Admission, NewRoom, ReadMark, RoomChange, RoomRequests, RoomRow, RoomTotals, Rooms, SeatRequest,
        SeatRow,
    },
    sql::SCHEMA_VERSION,
};

/// The record in one SQLite database. One connection writes, so that writers queue in order instead of starving each
/// other; a few connections read beside it. Several handles, also of several processes, may share one file.
///
/// A call that is dropped half-way leaves nothing behind: its transaction is rolled back.
#[derive(Debug)]
pub struct SqliteRooms {
    connections: Connections,
    transactions: AtomicU64,
    is_available: AtomicBool,
}

impl SqliteRooms {
    /// Opens the database file at `path`; creates its folder, the file and the tables where missing. An error says
    /// which path cannot be used and what to do.
    pub async fn open(path: &Path) -> Result<Self> {
        Ok(Self::over(Connections::file(path, SqliteSynchronous::Normal).await?))
    }

    /// A database in memory that ends with this value.
    pub async fn ephemeral() -> Result<Self> {
        Ok(Self::over(Connections::memory().await?))
    }

    /// [`open`](Self::open) creates what is missing; this says whether anything was.
    pub(crate) async fn migrate(path: &Path) -> Result<Migrated> {
        let is_new = !path.exists();
        Self::open(path).await?;
        Ok(Migrated { version: SCHEMA_VERSION, is_new })
    }

    fn over(connections: Connections) -> Self {
        Self { connections, transactions: AtomicU64::new(0), is_available: AtomicBool::new(true) }
    }

    /// For tests: while `false`, every call answers `Unavailable` and changes nothing.
    pub fn set_available(&self, is_available: bool) {
        self.is_available.store(is_available, Ordering::SeqCst);
    }

    fn check_available(&self) -> Result<()> {
        if self.is_available.load(Ordering::SeqCst) {
            return Ok(());
        }
        Err(Error::Unavailable {
            backend: fault::BACKEND,
            context: "it was switched off by a test".to_owned(),
            source: None,
        })
    }

    async fn reader(&self) -> Result<MutexGuard<'_, SqliteConnection>> {
        self.check_available()?;
        Ok(self.connections.reader().await)
    }

    async fn writer(&self) -> Result<MutexGuard<'_, SqliteConnection>> {
        self.check_available()?;
        let writer = self.connections.writer().await;
        self.transactions.fetch_add(1, Ordering::Relaxed);
        Ok(writer)
    }
}

/// IMMEDIATE takes the write lock before anything is read: a transaction that read first and wrote later could fail
/// half-way because another handle wrote in between.
async fn begin(connection: &mut SqliteConnection) -> Result<Transaction<'_, Sqlite>> {
    connection.begin_with("BEGIN IMMEDIATE").await.map_err(failed("begin a transaction"))
}

async fn commit(transaction: Transaction<'_, Sqlite>) -> Result<()> {
    transaction.commit().await.map_err(failed("commit a transaction"))
}

#[async_trait]
impl Rooms for SqliteRooms {
    async fn admit(
        &self,
        room: &RoomId,
        requests: &[SeatRequest],
        create: Option<NewRoom>,
        now: StoreTime,
    ) -> Result<Admission> {
        admit::admit(self, room, requests, create, now).await
    }

    async fn admit_together(&self, rooms: &[RoomRequests], now: StoreTime) -> Result<Vec<Option<Admission>>> {
        admit::admit_together(self, rooms, now).await
    }

    async fn create(&self, room: &RoomId, new: NewRoom, now: StoreTime) -> Result<RoomRow> {
        let mut writer = self.writer().await?;
        let created = room::create(&mut writer, room, new, now).await?;
        created.ok_or_else(|| Error::RoomExists(room.clone()))
    }

    async fn update(&self, room: &RoomId, change: RoomChange, now: StoreTime) -> Result<RoomRow> {
        let mut writer = self.writer().await?;
        let updated = room::update(&mut writer, room, change, now).await?;
        updated.ok_or_else(|| Error::NoSuchRoom(room.clone()))
    }

    async fn delete(&self, room: &RoomId) -> Result<Option<RoomRow>> {
        let mut writer = self.writer().await?;
        room::delete(&mut writer, room).await
    }

    async fn delete_if_empty(&self, room: &RoomId, before: StoreTime) -> Result<bool> {
        let mut writer = self.writer().await?;
        Ok(room::delete_if_empty(&mut writer, room, before).await?.is_some())
    }

    async fn room(&self, room: &RoomId) -> Result<Option<RoomRow>> {
        room::read(&mut *self.reader().await?, room).await
    }

    async fn rooms(&self, after: Option<&RoomId>, limit: u32) -> Result<Vec<RoomRow>> {
        room::list(&mut *self.reader().await?, after, limit).await
    }

    async fn empty_rooms(&self, before: StoreTime, limit: u32) -> Result<Vec<RoomId>> {
        room::empty(&mut *self.reader().await?, before, limit).await
    }

    async fn seats(&self, room: &RoomId, after: Option<&UserId>, limit: u32) -> Result<Vec<SeatRow>> {
        seat::list(&mut *self.reader().await?, room, after, limit).await
    }

    async fn seat(&self, room: &RoomId, user: &UserId) -> Result<Option<SeatRow>> {
        seat::read(&mut *self.reader().await?, room, user).await
    }

    async fn release(&self, room: &RoomId, seats: &[(UserId, Option<u64>)], now: StoreTime) -> Result<u64> {
        let mut writer = self.writer().await?;
        seat::release(&mut writer, room, seats, now).await
    }

    async fn mark_read(&self, marks: &[ReadMark]) -> Result<()> {
        let mut writer = self.writer().await?;
        seat::mark_read(&mut writer, marks).await
    }

    async fn read_positions(&self, room: &RoomId, users: &[UserId]) -> Result<Vec<Option<Position>>> {
        seat::read_positions(&mut *self.reader().await?, room, users).await
    }

    async fn totals(&self) -> Result<RoomTotals> {
        room::totals(&mut *self.reader().await?).await
    }

    async fn ping(&self) -> Result<()> {
        connection::check_version(&mut *self.reader().await?).await
    }

    fn counters(&self) -> Counters {
        Counters { transactions: self.transactions.load(Ordering::Relaxed), ..Counters::default() }
    }

    async fn close(&self) -> Result<()> {
        connection::checkpoint(&mut *self.writer().await?).await
    }
}
