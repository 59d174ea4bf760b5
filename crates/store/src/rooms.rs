//! The record of rooms and seats, behind one trait: SQL.

use async_trait::async_trait;
use roomcast_types::{LogPolicy, Membership, OnLogFailure, Position, RoomCard, RoomId, StoreTime, UserId};

use crate::{counters::Counters, error::Result};

/// A room as the record knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomRow {
    /// The card; its version grows when a field of the card changes, not with seats.
    pub card: RoomCard,
    /// Seats taken.
    pub members: u64,
    /// Created by its first join rather than by request: removed when empty for `room.empty_ttl`.
    pub is_auto_created: bool,
    /// When the room was created.
    pub created_at: StoreTime,
    /// Since when the room has had no seat; `None` while it has any.
    pub empty_since: Option<StoreTime>,
}

/// What a new room starts with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewRoom {
    /// See [`RoomCard::max_users`].
    pub max_users: u32,
    /// See [`RoomCard::membership`].
    pub membership: Membership,
    /// See [`RoomCard::log`].
    pub log: LogPolicy,
    /// See [`RoomCard::on_log_failure`].
    pub on_log_failure: OnLogFailure,
    /// See [`RoomRow::is_auto_created`].
    pub is_auto_created: bool,
}

/// A change of a card; `None` leaves the field as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RoomChange {
    /// See [`RoomCard::max_users`]. Lowering it removes nobody.
    pub max_users: Option<u32>,
    /// See [`RoomCard::membership`].
    pub membership: Option<Membership>,
    /// See [`RoomCard::log`].
    pub log: Option<LogPolicy>,
    /// See [`RoomCard::on_log_failure`].
    pub on_log_failure: Option<OnLogFailure>,
}

/// A user that asks for a seat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeatRequest {
    /// Who.
    pub user_id: UserId,
    /// For display; empty when not given.
    pub user_name: String,
}

/// Who asks for seats in one room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomRequests {
    /// Where.
    pub room: RoomId,
    /// In the order in which they came.
    pub requests: Vec<SeatRequest>,
}

/// What one admission transaction decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admission {
    /// The card as read under the room's lock.
    pub card: RoomCard,
    /// Seats taken after the transaction.
    pub members: u64,
    /// One entry per request, in the order given: whether the user holds a seat now.
    pub admitted: Vec<bool>,
}

/// A seat: one user in one room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeatRow {
    /// Who.
    pub user_id: UserId,
    /// For display; empty when not given.
    pub user_name: String,
    /// When the seat was taken.
    pub joined_at: StoreTime,
    /// Version of the row: the room's seat version when the seat was last admitted. A release names the one it read.
    pub version: u64,
    /// How far the user has read the room's log, as far as anybody said.
    pub read: Option<Position>,
}

/// How far a user has read a room's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadMark {
    /// Whose log.
    pub room: RoomId,
    /// Who read it.
    pub user: UserId,
    /// Up to here.
    pub position: Position,
}

/// Sums over all rooms.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RoomTotals {
    /// Rooms that are not deleted.
    pub rooms: u64,
    /// Seats taken in them.
    pub members: u64,
}

/// Rooms and seats. Any number of controllers use one record at once; every method is atomic and safe to race.
///
/// Ids are compared byte by byte. Times are the caller's reading of the store clock. Errors: `Unavailable` when the
/// backend does not answer or a conflict outlived three retries; the others as each method says.
#[async_trait]
pub trait Rooms: Send + Sync + 'static {
    /// Gives seats in one room in one transaction: takes the room's lock (its seat version grows by one), reads state,
    /// limit and which of these users hold a seat; those are admitted, full or not; of the rest the first
    /// `max_users - members`, in the order given. A repeated user counts once and gets the same answer.
    /// An admitted seat carries the room's new seat version. No row: creates the room from `create` in a transaction
    /// of its own and starts again, or answers `NoSuchRoom` when `create` is `None`.
    async fn admit(
        &self,
        room: &RoomId,
        requests: &[SeatRequest],
        create: Option<NewRoom>,
        now: StoreTime,
    ) -> Result<Admission>;

    /// As [`admit`](Self::admit), for several rooms in one transaction; each room once. Outcomes in their order: `None` when
    /// nothing was done for a room, because it is not there or somebody else is at it. Then it is to be asked for alone,
    /// which creates it, or waits for its turn: no room waits here for another one. An error is one for all of them.
    async fn admit_together(&self, rooms: &[RoomRequests], now: StoreTime) -> Result<Vec<Option<Admission>>>;

    /// Creates a room; `RoomExists` when it is there. Its versions start above those of any room that was deleted under
    /// this id, by two for the card, whose deletion counts as a version.
    async fn create(&self, room: &RoomId, new: NewRoom, now: StoreTime) -> Result<RoomRow>;

    /// Changes the card and returns the row after it; the card's version grows by one even if nothing differs.
    /// `NoSuchRoom` when it is not there.
    async fn update(&self, room: &RoomId, change: RoomChange, now: StoreTime) -> Result<RoomRow>;

    /// Removes the room and its seats and returns the row as it was last; `None` when there was none.
    async fn delete(&self, room: &RoomId) -> Result<Option<RoomRow>>;

    /// Removes the room if it is auto-created and has had no seat since `before` or earlier.
    async fn delete_if_empty(&self, room: &RoomId, before: StoreTime) -> Result<bool>;

    /// One room.
    async fn room(&self, room: &RoomId) -> Result<Option<RoomRow>>;

    /// Rooms in order of id, those after `after`, at most `limit`.
    async fn rooms(&self, after: Option<&RoomId>, limit: u32) -> Result<Vec<RoomRow>>;

    /// Auto-created rooms without a seat since `before` or earlier, at most `limit`.
    async fn empty_rooms(&self, before: StoreTime, limit: u32) -> Result<Vec<RoomId>>;

    /// Seats of a room in order of user id, those after `after`, at most `limit`. Empty for an unknown room.
    async fn seats(&self, room: &RoomId, after: Option<&UserId>, limit: u32) -> Result<Vec<SeatRow>>;

    /// One seat.
    async fn seat(&self, room: &RoomId, user: &UserId) -> Result<Option<SeatRow>>;

    /// Takes seats away and returns how many of them were there. A seat whose version is not the one given was
    /// admitted again meanwhile and stays; `None` takes it whatever its version.
    async fn release(&self, room: &RoomId, seats: &[(UserId, Option<u64>)], now: StoreTime) -> Result<u64>;

    /// Notes how far holders of seats have read: up, or into another epoch, never down. A mark of who holds no seat is
    /// dropped.
    async fn mark_read(&self, marks: &[ReadMark]) -> Result<()>;

    /// How far these users have read, in their order; `None` for who holds no seat or never said.
    async fn read_positions(&self, room: &RoomId, users: &[UserId]) -> Result<Vec<Option<Position>>>;

    /// Sums over all rooms.
    async fn totals(&self) -> Result<RoomTotals>;

    /// Whether the backend answers.
    async fn ping(&self) -> Result<()>;

    /// What this handle has counted.
    fn counters(&self) -> Counters;

    /// At the end of a program: leaves the record as others like to find it. Nothing is lost without.
    async fn close(&self) -> Result<()> {
        Ok(())
    }
}
