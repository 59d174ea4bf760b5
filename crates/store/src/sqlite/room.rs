//! Statements on rooms.

use roomcast_types::{RoomId, StoreTime};
use sqlx::{SqliteConnection, sqlite::SqliteRow};

use super::{
    fault::failed,
    row::{self, room_columns, unsigned},
};
use crate::{
    error::Result,
    rooms::{NewRoom, RoomChange, RoomRow, RoomTotals},
    sql::{log_word, membership_word, on_log_failure_word},
};

/// `None` when the room is there already. Both versions start above those of every room deleted so far.
pub(super) async fn create(
    connection: &mut SqliteConnection,
    room: &RoomId,
    new: NewRoom,
    now: StoreTime,
) -> Result<Option<RoomRow>> {
    let created = sqlx::query(concat!(
        "INSERT INTO rooms (room_id, card_version, seat_version, membership, max_users, members, is_auto_created, \
         created_at, updated_at, empty_since, log, on_log_failure) \
         SELECT ?1, value + 1, value + 1, ?2, ?3, 0, ?4, ?5, ?5, ?5, ?6, ?7 FROM versions WHERE name = 'deleted_rooms' \
         ON CONFLICT (room_id) DO NOTHING RETURNING ",
        room_columns!()
    ))
    .bind(room.as_str().as_bytes())
    .bind(membership_word(new.membership))
    .bind(new.max_users)
    .bind(new.is_auto_created)
    .bind(now.as_millis())
    .bind(log_word(new.log))
    .bind(on_log_failure_word(new.on_log_failure))
    .fetch_optional(connection)
    .await
    .map_err(failed("create a room"))?;
    created.as_ref().map(row::room).transpose()
}

pub(super) async fn update(
    connection: &mut SqliteConnection,
    room: &RoomId,
    change: RoomChange,
    now: StoreTime,
) -> Result<Option<RoomRow>> {
    let updated = sqlx::query(concat!(
        "UPDATE rooms SET card_version = card_version + 1, max_users = COALESCE(?2, max_users), \
         membership = COALESCE(?3, membership), updated_at = ?4, log = COALESCE(?5, log), \
         on_log_failure = COALESCE(?6, on_log_failure) WHERE room_id = ?1 RETURNING ",
        room_columns!()
    ))
    .bind(room.as_str().as_bytes())
    .bind(change.max_users)
    .bind(change.membership.map(membership_word))
    .bind(now.as_millis())
    .bind(change.log.map(log_word))
    .bind(change.on_log_failure.map(on_log_failure_word))
    .fetch_optional(connection)
    .await
    .map_err(failed("update a room"))?;
    updated.as_ref().map(row::room).transpose()
}

pub(super) async fn delete(connection: &mut SqliteConnection, room: &RoomId) -> Result<Option<RoomRow>> {
    let mut transaction = super::begin(connection).await?;
    let deleted = sqlx::query(concat!(
        "DELETE FROM rooms WHERE room_id = ?1 RETURNING seat_version, ",
        room_columns!()
    ))
    .bind(room.as_str().as_bytes())
    .fetch_optional(&mut *transaction)
    .await
    .map_err(failed("delete a room"))?;
    let Some(deleted) = deleted else { return Ok(None) };
    let last = delete_rest(&mut transaction, room, &deleted).await?;
    super::commit(transaction).await?;
    Ok(Some(last))
}

pub(super) async fn delete_if_empty(
    connection: &mut SqliteConnection,
    room: &RoomId,
    before: StoreTime,
) -> Result<Option<RoomRow>> {
    let mut transaction = super::begin(connection).await?;
    let deleted = sqlx::query(concat!(
        "DELETE FROM rooms WHERE room_id = ?1 AND is_auto_created = 1 AND members = 0 AND empty_since <= ?2 \
         RETURNING seat_version, ",
        room_columns!()
    ))
    .bind(room.as_str().as_bytes())
    .bind(before.as_millis())
    .fetch_optional(&mut *transaction)
    .await
    .map_err(failed("delete an empty room"))?;
    let Some(deleted) = deleted else { return Ok(None) };
    let last = delete_rest(&mut transaction, room, &deleted).await?;
    super::commit(transaction).await?;
    Ok(Some(last))
}

/// Removes what belonged to a room whose row is gone, and remembers its versions: a room created anew under this id
/// must not repeat them, or a late release or a late card of the former one would pass for its own.
async fn delete_rest(
    transaction: &mut SqliteConnection,
    room: &RoomId,
    deleted: &SqliteRow,
) -> Result<RoomRow> {
    let last = row::room(deleted)?;
    // One above the card: the deletion itself is a version of it.
    let highest = unsigned(deleted, "seat_version")?.max(last.card.version + 1);
    sqlx::query("DELETE FROM room_users WHERE room_id = ?1")
        .bind(room.as_str().as_bytes())
        .execute(&mut *transaction)
        .await
        .map_err(failed("delete the seats of a room"))?;
    sqlx::query("UPDATE versions SET value = MAX(value, ?1) WHERE name = 'deleted_rooms'")
        .bind(highest as i64)
        .execute(&mut *transaction)
        .await
        .map_err(failed("remember the versions of a deleted room"))?;
    Ok(last)
}

pub(super) async fn read(connection: &mut SqliteConnection, room: &RoomId) -> Result<Option<RoomRow>> {
    let found = sqlx::query(concat!("SELECT ", room_columns!(), " FROM rooms WHERE room_id = ?1"))
        .bind(room.as_str().as_bytes())
        .fetch_optional(connection)
        .await
        .map_err(failed("read a room"))?;
    found.as_ref().map(row::room).transpose()
}

pub(super) async fn list(
    connection: &mut SqliteConnection,
    after: Option<&RoomId>,
    limit: u32,
) -> Result<Vec<RoomRow>> {
    // No id is empty, so the empty one stands before the first.
    let after = after.map_or("", RoomId::as_str);
    let found = sqlx::query(concat!(
        "SELECT ",
        room_columns!(),
        " FROM rooms WHERE room_id > ?1 ORDER BY room_id LIMIT ?2"
    ))
    .bind(after.as_bytes())
    .bind(limit)
    .fetch_all(connection)
    .await
    .map_err(failed("list rooms"))?;
    found.iter().map(row::room).collect()
}

pub(super) async fn empty(
    connection: &mut SqliteConnection,
    before: StoreTime,
    limit: u32,
) -> Result<Vec<RoomId>> {
    let found = sqlx::query(
        "SELECT room_id FROM rooms WHERE is_auto_created = 1 AND empty_since IS NOT NULL AND empty_since <= ?1 \
         ORDER BY empty_since LIMIT ?2",
    )
    .bind(before.as_millis())
    .bind(limit)
    .fetch_all(connection)
    .await
    .map_err(failed("list empty rooms"))?;
    found.iter().map(row::room_id).collect()
}

pub(super) async fn totals(connection: &mut SqliteConnection) -> Result<RoomTotals> {
    let sums = sqlx::query("SELECT COUNT(*) AS rooms, COALESCE(SUM(members), 0) AS members FROM rooms")
        .fetch_one(connection)
        .await
        .map_err(failed("sum over rooms"))?;
    Ok(RoomTotals { rooms: unsigned(&sums, "rooms")?, members: unsigned(&sums, "members")? })
}
