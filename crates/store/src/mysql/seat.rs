//! Statements on seats, except admission.

use std::collections::{BTreeSet, HashMap};

use roomcast_types::{Position, RoomId, StoreTime, UserId};
use sqlx::AssertSqlSafe;

use super::{
    batch,
    connection::{Lease, Transaction},
    fault::Result,
    row::{self, unsigned},
    server::Server,
};
use crate::{
    rooms::{ReadMark, SeatRow},
    sql::log::{bits, offset_bound},
};

pub(super) async fn list(
    lease: &mut Lease<'_>,
    room: &RoomId,
    after: Option<&UserId>,
    limit: u32,
) -> Result<Vec<SeatRow>> {
    // No id is empty, so the empty one stands before the first.
    let after = after.map_or("", UserId::as_str);
    let query = sqlx::query(
        "SELECT user_id, user_name, seat_version, joined_at, read_epoch, read_offset FROM room_users \
         WHERE room_id = ? AND left_at IS NULL AND user_id > ? ORDER BY user_id LIMIT ?",
    );
    let query = query.bind(room.as_str().as_bytes()).bind(after.as_bytes()).bind(limit);
    let found = lease.all("list seats", query).await?;
    Ok(found.iter().map(row::seat).collect::<crate::Result<_>>()?)
}

pub(super) async fn read(lease: &mut Lease<'_>, room: &RoomId, user: &UserId) -> Result<Option<SeatRow>> {
    let query = sqlx::query(
        "SELECT user_id, user_name, seat_version, joined_at, read_epoch, read_offset FROM room_users \
         WHERE room_id = ? AND user_id = ? AND left_at IS NULL",
    );
    let query = query.bind(room.as_str().as_bytes()).bind(user.as_str().as_bytes());
    let found = lease.one("read a seat", query).await?;
    Ok(found.as_ref().map(row::seat).transpose()?)
}

pub(super) async fn release(
    server: &Server,
    room: &RoomId,
    seats: &[(UserId, Option<u64>)],
    now: StoreTime,
) -> Result<u64> {
    let mut transaction = server.begin().await?;
    if !lock(&mut transaction, room).await? {
        transaction.rollback().await?;
        return Ok(0);
    }
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
        transaction.rollback().await?;
        return Ok(0);
    }
    let going: Vec<&str> = going.into_iter().collect();
    write_left(&mut transaction, room, &going, now).await?;
    transaction.commit().await?;
    Ok(going.len() as u64)
}

/// Whoever changes seats of a room holds this lock; so does an admission.
async fn lock(transaction: &mut Transaction<'_>, room: &RoomId) -> Result<bool> {
    let query = sqlx::query("SELECT room_id FROM rooms WHERE room_id = ? FOR UPDATE");
    Ok(transaction.one("lock a room", query.bind(room.as_str().as_bytes())).await?.is_some())
}

/// Who of these users holds a seat, and which version of it.
pub(super) async fn versions(
    transaction: &mut Transaction<'_>,
    room: &RoomId,
    users: &[&str],
) -> Result<HashMap<UserId, u64>> {
    let mut versions = HashMap::with_capacity(users.len());
    for piece in batch::pieces(users) {
        let text = batch::statement(
            "SELECT user_id, seat_version FROM room_users WHERE room_id = ? AND left_at IS NULL AND user_id IN (",
            "?",
            piece.len(),
            ")",
        );
        let mut query = sqlx::query(AssertSqlSafe(text)).bind(room.as_str().as_bytes());
        for user in piece {
            query = query.bind(user.as_bytes());
        }
        for found in transaction.all("read the seats of users", query).await? {
            versions.insert(row::user_id(&found)?, unsigned(&found, "seat_version")?);
        }
    }
    Ok(versions)
}

/// Every one of these users holds a seat, and none is named twice.
async fn write_left(
    transaction: &mut Transaction<'_>,
    room: &RoomId,
    users: &[&str],
    now: StoreTime,
) -> Result<()> {
    for piece in batch::pieces(users) {
        let text = batch::statement(
            "UPDATE room_users SET left_at = ? WHERE room_id = ? AND left_at IS NULL AND user_id IN (",
            "?",
            piece.len(),
            ")",
        );
        let mut update =
            sqlx::query(AssertSqlSafe(text)).bind(now.as_millis()).bind(room.as_str().as_bytes());
        for user in piece {
            update = update.bind(user.as_bytes());
        }
        transaction.execute("release seats", update).await?;
    }
    // Assignments are done from left to right: empty_since is set from the members before this.
    let count = sqlx::query(
        "UPDATE rooms SET empty_since = IF(members = ?, ?, NULL), members = members - ? WHERE room_id = ?",
    );
    let gone = users.len() as i64;
    let count = count.bind(gone).bind(now.as_millis()).bind(gone).bind(room.as_str().as_bytes());
    transaction.execute("count released seats", count).await?;
    Ok(())
}

/// Marks of one transaction: each is a statement, and its row is locked until the end.
pub(super) const MARKS_PER_TRANSACTION: usize = 64;

/// By room and user, so that transactions lock in one order.
pub(super) fn in_order(marks: &[ReadMark]) -> Vec<&ReadMark> {
    let mut marks: Vec<&ReadMark> = marks.iter().collect();
    marks.sort_by(|a, b| (&a.room, &a.user).cmp(&(&b.room, &b.user)));
    marks
}

pub(super) async fn mark_read(server: &Server, marks: &[&ReadMark]) -> Result<()> {
    let mut transaction = server.begin().await?;
    for ReadMark { room, user, position } in marks {
        let (epoch, offset) = (bits(position.epoch.as_u64()), offset_bound(position.offset));
        let update = sqlx::query(
            "UPDATE room_users SET read_epoch = ?, read_offset = ? \
             WHERE room_id = ? AND user_id = ? AND left_at IS NULL \
             AND (read_epoch IS NULL OR read_epoch <> ? OR read_offset < ?)",
        );
        let update = update
            .bind(epoch)
            .bind(offset)
            .bind(room.as_str().as_bytes())
            .bind(user.as_str().as_bytes())
            .bind(epoch)
            .bind(offset);
        transaction.execute("note how far a user has read", update).await?;
    }
    transaction.commit().await
}

pub(super) async fn read_positions(
    lease: &mut Lease<'_>,
    room: &RoomId,
    users: &[UserId],
) -> Result<Vec<Option<Position>>> {
    let mut known = HashMap::with_capacity(users.len());
    for piece in batch::pieces(users) {
        let text = batch::statement(
            "SELECT user_id, read_epoch, read_offset FROM room_users \
             WHERE room_id = ? AND left_at IS NULL AND user_id IN (",
            "?",
            piece.len(),
            ")",
        );
        let mut query = sqlx::query(AssertSqlSafe(text)).bind(room.as_str().as_bytes());
        for user in piece {
            query = query.bind(user.as_str().as_bytes());
        }
        for found in lease.all("read how far users have read", query).await? {
            known.insert(row::user_id(&found)?, row::read_position(&found)?);
        }
    }
    Ok(users.iter().map(|user| known.get(user).copied().flatten()).collect())
}
