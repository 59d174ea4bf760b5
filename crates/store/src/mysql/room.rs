//! Statements on rooms.
//!
//! Creations share the lock of the row of `versions` that deletions take alone, each before it touches a room: so a
//! creation that follows a deletion knows its versions, and the two never wait for each other in a circle.

use roomcast_types::{RoomCard, RoomId, RoomState, StoreTime};

use super::{
    connection::{Lease, Transaction},
    fault::{BACKEND, Result},
    row::{self, room_columns, unsigned},
    server::Server,
};
use crate::{
    error::Error,
    rooms::{NewRoom, RoomChange, RoomRow, RoomTotals},
    sql::{log_word, membership_word, on_log_failure_word},
};

/// `None` when the room is there already. Both versions start above those of every room deleted so far.
pub(super) async fn create(
    server: &Server,
    room: &RoomId,
    new: NewRoom,
    now: StoreTime,
) -> Result<Option<RoomRow>> {
    let mut transaction = server.begin().await?;
    let version = 1 + deleted_version(
        &mut transaction,
        "SELECT value FROM versions WHERE name = 'deleted_rooms' LOCK IN SHARE MODE",
    )
    .await?;
    let insert = sqlx::query(
        "INSERT INTO rooms (room_id, card_version, seat_version, membership, max_users, members, is_auto_created, \
         created_at, updated_at, empty_since, log, on_log_failure) VALUES (?, ?, ?, ?, ?, 0, ?, ?, ?, ?, ?, ?)",
    );
    let insert = insert
        .bind(room.as_str().as_bytes())
        .bind(version as i64)
        .bind(version as i64)
        .bind(membership_word(new.membership))
        .bind(new.max_users)
        .bind(new.is_auto_created)
        .bind(now.as_millis())
        .bind(now.as_millis())
        .bind(now.as_millis())
        .bind(log_word(new.log))
        .bind(on_log_failure_word(new.on_log_failure));
    match transaction.execute("create a room", insert).await {
        Err(fault) if fault.is_duplicate() => {
            transaction.rollback().await?;
            return Ok(None);
        }
        answer => answer?,
    };
    transaction.commit().await?;
    let (membership, max_users) = (new.membership, new.max_users);
    let (log, on_log_failure) = (new.log, new.on_log_failure);
    let state = RoomState::Active;
    let card = RoomCard { room_id: room.clone(), version, state, membership, max_users, log, on_log_failure };
    Ok(Some(RoomRow {
        card,
        members: 0,
        is_auto_created: new.is_auto_created,
        created_at: now,
        empty_since: Some(now),
    }))
}

/// `None` when there is no such room.
pub(super) async fn update(
    server: &Server,
    room: &RoomId,
    change: RoomChange,
    now: StoreTime,
) -> Result<Option<RoomRow>> {
    let mut transaction = server.begin().await?;
    let update = sqlx::query(
        "UPDATE rooms SET card_version = card_version + 1, max_users = COALESCE(?, max_users), \
         membership = COALESCE(?, membership), log = COALESCE(?, log), \
         on_log_failure = COALESCE(?, on_log_failure), updated_at = ? WHERE room_id = ?",
    );
    let update = update
        .bind(change.max_users)
        .bind(change.membership.map(membership_word))
        .bind(change.log.map(log_word))
        .bind(change.on_log_failure.map(on_log_failure_word))
        .bind(now.as_millis())
        .bind(room.as_str().as_bytes());
    transaction.execute("update a room", update).await?;
    let updated = read(&mut transaction, room).await?;
    transaction.commit().await?;
    Ok(updated)
}

/// With `empty_since`, only if the room is auto-created and has had no seat since then or earlier. Answers the room as
/// it was last, or `None` when nothing was deleted. What belonged to it goes as well, and its versions are remembered:
/// a room created anew under this id must not repeat them, or a late release or a late card of the former one would
/// pass for its own.
pub(super) async fn delete(
    server: &Server,
    room: &RoomId,
    empty_since: Option<StoreTime>,
) -> Result<Option<RoomRow>> {
    let mut transaction = server.begin().await?;
    let before = deleted_version(
        &mut transaction,
        "SELECT value FROM versions WHERE name = 'deleted_rooms' FOR UPDATE",
    )
    .await?;
    let query = sqlx::query(concat!(
        "SELECT seat_version, ",
        room_columns!(),
        " FROM rooms WHERE room_id = ? FOR UPDATE"
    ));
    let found = transaction.one("lock a room", query.bind(room.as_str().as_bytes())).await?;
    let found = match found {
        Some(found) => Some((row::room(&found)?, unsigned(&found, "seat_version")?)),
        None => None,
    };
    let goes = |last: &RoomRow| match empty_since {
        Some(limit) => last.is_auto_created && last.empty_since.is_some_and(|since| since <= limit),
        None => true,
    };
    let Some((last, seat_version)) = found.filter(|(last, _)| goes(last)) else {
        transaction.rollback().await?;
        return Ok(None);
    };
    for (context, statement) in [
        ("delete the seats of a room", "DELETE FROM room_users WHERE room_id = ?"),
        ("delete a room", "DELETE FROM rooms WHERE room_id = ?"),
    ] {
        transaction.execute(context, sqlx::query(statement).bind(room.as_str().as_bytes())).await?;
    }
    // One above the card: the deletion itself is a version of it.
    let highest = before.max(seat_version).max(last.card.version + 1);
    let remember = sqlx::query("UPDATE versions SET value = ? WHERE name = 'deleted_rooms'");
    transaction.execute("remember the versions of a deleted room", remember.bind(highest as i64)).await?;
    transaction.commit().await?;
    Ok(Some(last))
}

/// The highest version of any deleted room, locked as `query` says.
async fn deleted_version(transaction: &mut Transaction<'_>, query: &'static str) -> Result<u64> {
    match transaction.one("read the versions of deleted rooms", sqlx::query(query)).await? {
        Some(found) => Ok(unsigned(&found, "value")?),
        None => {
            let context =
                "table versions has no row deleted_rooms; run controller-manager --migrate".to_owned();
            Err(Error::Failed { backend: BACKEND, context, source: None }.into())
        }
    }
}

pub(super) async fn read(lease: &mut Lease<'_>, room: &RoomId) -> Result<Option<RoomRow>> {
    let query = sqlx::query(concat!("SELECT ", room_columns!(), " FROM rooms WHERE room_id = ?"));
    let found = lease.one("read a room", query.bind(room.as_str().as_bytes())).await?;
    Ok(found.as_ref().map(row::room).transpose()?)
}

pub(super) async fn list(lease: &mut Lease<'_>, after: Option<&RoomId>, limit: u32) -> Result<Vec<RoomRow>> {
    // No id is empty, so the empty one stands before the first.
    let after = after.map_or("", RoomId::as_str);
    let query = sqlx::query(concat!(
        "SELECT ",
        room_columns!(),
        " FROM rooms WHERE room_id > ? ORDER BY room_id LIMIT ?"
    ));
    let found = lease.all("list rooms", query.bind(after.as_bytes()).bind(limit)).await?;
    Ok(found.iter().map(row::room).collect::<crate::Result<_>>()?)
}

pub(super) async fn empty(lease: &mut Lease<'_>, before: StoreTime, limit: u32) -> Result<Vec<RoomId>> {
    let query = sqlx::query(
        "SELECT room_id FROM rooms WHERE is_auto_created = 1 AND empty_since <= ? ORDER BY empty_since LIMIT ?",
    );
    let found = lease.all("list empty rooms", query.bind(before.as_millis()).bind(limit)).await?;
    Ok(found.iter().map(row::room_id).collect::<crate::Result<_>>()?)
}

pub(super) async fn totals(lease: &mut Lease<'_>) -> Result<RoomTotals> {
    let query = sqlx::query(
        "SELECT COUNT(*) AS rooms, CAST(COALESCE(SUM(members), 0) AS SIGNED) AS members FROM rooms",
    );
    let Some(sums) = lease.one("sum over rooms", query).await? else { return Ok(RoomTotals::default()) };
    Ok(RoomTotals { rooms: unsigned(&sums, "rooms")?, members: unsigned(&sums, "members")? })
}
