//! Rooms, seats, durable logs and inboxes in MySQL or MariaDB: the record that several controllers and push-managers
//! share.

mod admit;
mod batch;
mod connection;
mod fault;
mod inbox;
mod log;
mod messages;
mod room;
mod row;
mod schema;
mod seat;
mod server;
mod text;

use async_trait::async_trait;
use roomcast_runtime::config::{Database, MysqlTarget};
use roomcast_types::{Position, RoomId, StoreTime, UserId};

pub use self::messages::MysqlMessages;
use self::server::{Server, read};
use crate::{
    counters::Counters,
    error::{Error, Result},
    open::Migrated,
    rooms::{
        Admission, NewRoom, ReadMark, RoomChange, RoomRequests, RoomRow, RoomTotals, Rooms, SeatRequest,
        SeatRow,
    },
};

/// The record in a database of a MySQL or MariaDB server. Any number of handles may share it.
///
/// A call that is dropped half-way leaves nothing behind: its connection is closed, and the server rolls back. Only
/// when the answer to a COMMIT is lost (`Unavailable`) is it open whether the call took effect; every method may be
/// called again then, as after any `Unavailable`. While the server does not answer, calls are refused at once.
#[derive(Debug)]
pub struct MysqlRooms {
    server: Server,
}

impl MysqlRooms {
    /// A handle that connects when it is first used. Only settings that can never work are errors.
    pub fn open(target: &MysqlTarget, section: &Database) -> Result<Self> {
        Ok(Self { server: Server::new(target, section)? })
    }

    /// Creates the database and the tables where missing, as [`crate::open::migrate`] says.
    pub async fn migrate(target: &MysqlTarget, section: &Database) -> Result<Migrated> {
        Ok(schema::migrate(target, section).await?)
    }
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
        self.server.call(|| admit::admit(&self.server, room, requests, create, now)).await
    }

    async fn admit_together(&self, rooms: &[RoomRequests], now: StoreTime) -> Result<Vec<Option<Admission>>> {
        self.server.call(|| admit::admit_together(&self.server, rooms, now)).await
    }

    async fn create(&self, room: &RoomId, new: NewRoom, now: StoreTime) -> Result<RoomRow> {
        let created = self.server.call(|| room::create(&self.server, room, new, now)).await?;
        created.ok_or_else(|| Error::RoomExists(room.clone()))
    }

    async fn update(&self, room: &RoomId, change: RoomChange, now: StoreTime) -> Result<RoomRow> {
        let updated = self.server.call(|| room::update(&self.server, room, change, now)).await?;
        updated.ok_or_else(|| Error::NoSuchRoom(room.clone()))
    }

    async fn delete(&self, room: &RoomId) -> Result<Option<RoomRow>> {
        self.server.call(|| room::delete(&self.server, room, None)).await
    }

    async fn delete_if_empty(&self, room: &RoomId, before: StoreTime) -> Result<bool> {
        Ok(self.server.call(|| room::delete(&self.server, room, Some(before))).await?.is_some())
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
        self.server.call(|| seat::release(&self.server, room, seats, now)).await
    }

    async fn mark_read(&self, marks: &[ReadMark]) -> Result<()> {
        for piece in seat::in_order(marks).chunks(seat::MARKS_PER_TRANSACTION) {
            self.server.call(|| seat::mark_read(&self.server, piece)).await?;
        }
        Ok(())
    }

    async fn read_positions(&self, room: &RoomId, users: &[UserId]) -> Result<Vec<Option<Position>>> {
        read!(self, lease => seat::read_positions(lease, room, users)).await
    }

    async fn totals(&self) -> Result<RoomTotals> {
        read!(self, lease => room::totals(lease)).await
    }

    async fn ping(&self) -> Result<()> {
        read!(self, lease => schema::check_version(lease)).await
    }

    fn counters(&self) -> Counters {
        self.server.counters()
    }
}
