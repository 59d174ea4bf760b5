//! Statements on seats, except admission.

use std::collections::{BTreeSet, HashMap};

use roomcast_types::{Position, RoomId, StoreTime, UserId};
use sqlx::SqliteConnection;

use super::{
    fault::failed,
    row::{self, json, unsigned},
};
use crate::{
    error::Result,
    rooms::{ReadMark, SeatRow},
    sql::log::{bits, offset_bound},
};

pub(super) async fn list(
    connection: &mut SqliteConnection,
    room: &RoomId,
    after: Option<&UserId>,
    limit: u32,
) -> Result<Vec<SeatRow>> {
    let after = after.map_or("", UserId::as_str);
    let found = sqlx::query(
        "SELECT user_id, user_name, seat_version, joined_at, read_epoch, read_offset FROM room_users \
         WHERE room_id = ?1 AND left_at IS NULL AND user_id > ?2 ORDER BY user_id LIMIT ?3",
    )
    .bind(room.as_str().as_bytes())
    .bind(after.as_bytes())
    .bind(limit)
    .fetch_all(connection)
    .await
    .map_err(failed("list seats"))?;
    found.iter().map(row::seat).collect()
}

pub(super) async fn read(
    connection: &mut SqliteConnection,
    room: &RoomId,
    user: &UserId,
) -> Result<Option<SeatRow>> {
    let found = sqlx::query(
        "SELECT user_id, user_name, seat_version, joined_at, read_epoch, read_offset FROM room_users \
         WHERE room_id = ?1 AND user_id = ?2 AND left_at IS NULL",
    )
    .bind(room.as_str().as_bytes())
    .bind(user.as_str().as_bytes())
    .fetch_optional(connection)
    .await
    .map_err(failed("read a seat"))?;
    found.as_ref().map(row::seat).transpose()
}

pub(super) async fn release(
    connection: &mut SqliteConnection,
    room: &RoomId,
    seats: &[(UserId, Option<u64>)],
    now: StoreTime,
) -> Result<u64> {
    let mut transaction = super::begin(connection).await?;
    let users: Vec<&str> = seats.iter().map(|(user, _)| user.as_str()).collect();
    let versions = versions(&mut transaction, room, &users).await?;
    let goes = |user: &UserId, wanted: Option<u64>| {
        let found = versions.get(user);
        found.is_some_and(|found| wanted.is_none_or(|wanted| wanted == *found))
    };
    let going = seats.iter().filter(|(user, wanted)| goes(user, *wanted));
    // A set, because a user that is named twice goes once.
    let going: BTreeSet<&str> = going.map(|(user, _)| user.as_str()).collect();
    if going.is_empty() {
        return Ok(0);
    }
    write_left(&mut transaction, room, &going, now).await?;
    super::commit(transaction).await?;
    Ok(going.len() as u64)
}

/// Who of these users holds a seat, and which version of it.
pub(super) async fn versions(
    connection: &mut SqliteConnection,
    room: &RoomId,
    users: &[&str],
) -> Result<HashMap<UserId, u64>> {
    let found = sqlx::query(
        "SELECT user_id, seat_version FROM room_users WHERE room_id = ?1 AND left_at IS NULL \
         AND user_id IN (SELECT CAST(value AS BLOB) FROM json_each(?2))",
    )
    .bind(room.as_str().as_bytes())
    .bind(json(&users)?)
    .fetch_all(connection)
    .await
    .map_err(failed("read the seats of users"))?;
    found.iter().map(|found| Ok((row::user_id(found)?, unsigned(found, "seat_version")?))).collect()
}

/// Every one of these users holds a seat.
async fn write_left(
    connection: &mut SqliteConnection,
    room: &RoomId,
    users: &BTreeSet<&str>,
    now: StoreTime,
) -> Result<()> {
    sqlx::query(
        "UPDATE room_users SET left_at = ?2 WHERE room_id = ?1 AND left_at IS NULL \
         AND user_id IN (SELECT CAST(value AS BLOB) FROM json_each(?3))",
    )
    .bind(room.as_str().as_bytes())
    .bind(now.as_millis())
    .bind(json(users)?)
    .execute(&mut *connection)
    .await
    .map_err(failed("release seats"))?;
    sqlx::query(
        "UPDATE rooms SET members = members - ?2, empty_since = CASE WHEN members = ?2 THEN ?3 END \
         WHERE room_id = ?1",
    )
    .bind(room.as_str().as_bytes())
    .bind(users.len() as i64)
    .bind(now.as_millis())
    .execute(connection)
    .await
    .map_err(failed("count released seats"))?;
    Ok(())
}

pub(super) async fn mark_read(connection: &mut SqliteConnection, marks: &[ReadMark]) -> Result<()> {
    let mut transaction = super::begin(connection).await?;
    for ReadMark { room, user, position } in marks {
        sqlx::query(
            "UPDATE room_users SET read_epoch = ?3, read_offset = ?4 \
             WHERE room_id = ?1 AND user_id = ?2 AND left_at IS NULL \
             AND (read_epoch IS NULL OR read_epoch <> ?3 OR read_offset < ?4)",
        )
        .bind(room.as_str().as_bytes())
        .bind(user.as_str().as_bytes())
        .bind(bits(position.epoch.as_u64()))
        .bind(offset_bound(position.offset))
        .execute(&mut *transaction)
        .await
        .map_err(failed("note how far a user has read"))?;
    }
    super::commit(transaction).await
}

pub(super) async fn read_positions(
    connection: &mut SqliteConnection,
    room: &RoomId,
    users: &[UserId],
) -> Result<Vec<Option<Position>>> {
    let ids: Vec<&str> = users.iter().map(UserId::as_str).collect();
    let found = sqlx::query(
        "SELECT user_id, read_epoch, read_offset FROM room_users WHERE room_id = ?1 AND left_at IS NULL \
         AND user_id IN (SELECT CAST(value AS BLOB) FROM json_each(?2))",
    )
    .bind(room.as_str().as_bytes())
    .bind(json(&ids)?)
    .fetch_all(connection)
    .await
    .map_err(failed("read how far users have read"))?;
    let mut known = HashMap::with_capacity(found.len());
    for row in &found {
        known.insert(row::user_id(row)?, row::read_position(row)?);
    }
    Ok(users.iter().map(|user| known.get(user).copied().flatten()).collect())
}
