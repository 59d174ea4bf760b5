//! Statements on seats, except admission.

use roomcast_types::{RoomId, StoreTime, UserId};
use sqlx::SqliteConnection;

use super::{
    fault::{failed, unreadable},
    row,
};
use crate::{error::Result, rooms::SeatRow};

pub(super) async fn list(
    connection: &mut SqliteConnection,
    room: &RoomId,
    after: Option<&UserId>,
    limit: u32,
) -> Result<Vec<SeatRow>> {
    let after = after.map_or("", UserId::as_str);
    let found = sqlx::query(
        "SELECT user_id, user_name, seat_version, joined_at FROM room_users \
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
        "SELECT user_id, user_name, seat_version, joined_at FROM room_users \
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
    let wanted: Vec<(&str, Option<u64>)> =
        seats.iter().map(|(user, version)| (user.as_str(), *version)).collect();
    let wanted = serde_json::to_string(&wanted).map_err(|error| unreadable("name the seats", error))?;
    let mut transaction = super::begin(connection).await?;
    let released = sqlx::query(
        "UPDATE room_users SET left_at = ?2 \
         FROM (SELECT CAST(value ->> 0 AS BLOB) AS user_id, value ->> 1 AS version FROM json_each(?3)) AS wanted \
         WHERE room_users.room_id = ?1 AND room_users.user_id = wanted.user_id AND room_users.left_at IS NULL \
         AND (wanted.version IS NULL OR wanted.version = room_users.seat_version)",
    )
    .bind(room.as_str().as_bytes())
    .bind(now.as_millis())
    .bind(wanted)
    .execute(&mut *transaction)
    .await
    .map_err(failed("release seats"))?
    .rows_affected();
    if released == 0 {
        return Ok(0);
    }
    sqlx::query(
        "UPDATE rooms SET members = members - ?2, empty_since = CASE WHEN members = ?2 THEN ?3 END \
         WHERE room_id = ?1",
    )
    .bind(room.as_str().as_bytes())
    .bind(released as i64)
    .bind(now.as_millis())
    .execute(&mut *transaction)
    .await
    .map_err(failed("count released seats"))?;
    super::commit(transaction).await?;
    Ok(released)
}
