//! Admission: gives seats in one room, one transaction for all requests that came together.

mod together;

use roomcast_types::{RoomId, StoreTime};
use sqlx::AssertSqlSafe;

pub(super) use self::together::admit_together;
use super::{
    batch,
    connection::Transaction,
    fault::{BACKEND, Result},
    room,
    row::{self, room_columns, unsigned},
    seat,
    server::Server,
};
use crate::{
    admission::decide,
    error::Error,
    rooms::{Admission, NewRoom, RoomRow, SeatRequest},
};

/// A room that was there and is gone again was deleted in between; more often than this, something deletes it in a
/// loop.
const ATTEMPTS: u32 = 3;

pub(super) async fn admit(
    server: &Server,
    room: &RoomId,
    requests: &[SeatRequest],
    create: Option<NewRoom>,
    now: StoreTime,
) -> Result<Admission> {
    for _ in 0..ATTEMPTS {
        if let Some(admission) = try_admit(server, room, requests, now).await? {
            return Ok(admission);
        }
        let Some(new) = create else { return Err(Error::NoSuchRoom(room.clone()).into()) };
        // Somebody else may have created it meanwhile: just as well.
        room::create(server, room, new, now).await?;
    }
    let context = format!("room {room} was deleted each time it had been created");
    Err(Error::Unavailable { backend: BACKEND, context, source: None }.into())
}

/// `None` when there is no such room.
async fn try_admit(
    server: &Server,
    room: &RoomId,
    requests: &[SeatRequest],
    now: StoreTime,
) -> Result<Option<Admission>> {
    let mut transaction = server.begin().await?;
    let Some((found, version)) = lock(&mut transaction, room).await? else {
        transaction.rollback().await?;
        return Ok(None);
    };
    let users: Vec<&str> = requests.iter().map(|request| request.user_id.as_str()).collect();
    let holders = seat::versions(&mut transaction, room, &users).await?;
    let decision = decide(requests, &holders, &found);
    let members = found.members + decision.new_seats;
    write_seats(&mut transaction, room, &decision.seats, version, now).await?;
    if decision.new_seats > 0 {
        write_members(&mut transaction, room, members).await?;
    }
    transaction.commit().await?;
    Ok(Some(Admission { card: found.card, members, admitted: decision.admitted }))
}

/// Takes the room's lock by its new seat version, before anything is read. The rows read after it are those of whoever
/// held the lock last: READ COMMITTED looks anew with each statement.
async fn lock(transaction: &mut Transaction<'_>, room: &RoomId) -> Result<Option<(RoomRow, u64)>> {
    let update = sqlx::query("UPDATE rooms SET seat_version = seat_version + 1 WHERE room_id = ?");
    if transaction.execute("lock a room", update.bind(room.as_str().as_bytes())).await? == 0 {
        return Ok(None);
    }
    let query =
        sqlx::query(concat!("SELECT seat_version, ", room_columns!(), " FROM rooms WHERE room_id = ?"));
    match transaction.one("read a locked room", query.bind(room.as_str().as_bytes())).await? {
        Some(found) => Ok(Some((row::room(&found)?, unsigned(&found, "seat_version")?))),
        None => Ok(None),
    }
}

/// A holder keeps when it took its seat, and its name when none is given. VALUES() is the one form that MySQL and
/// MariaDB share; assignments are done from left to right, so left_at, which the others ask, comes last.
const SEAT_TAKEN: &str = " ON DUPLICATE KEY UPDATE \
    user_name = IF(left_at IS NULL AND CHAR_LENGTH(VALUES(user_name)) = 0, user_name, VALUES(user_name)), \
    joined_at = IF(left_at IS NULL, joined_at, VALUES(joined_at)), \
    seat_version = VALUES(seat_version), left_at = NULL";

async fn write_seats(
    transaction: &mut Transaction<'_>,
    room: &RoomId,
    seats: &[(&str, &str)],
    version: u64,
    now: StoreTime,
) -> Result<()> {
    for piece in batch::pieces(seats) {
        let text = batch::statement(
            "INSERT INTO room_users (room_id, user_id, user_name, seat_version, joined_at, left_at) VALUES ",
            "(?,?,?,?,?,NULL)",
            piece.len(),
            SEAT_TAKEN,
        );
        let mut insert = sqlx::query(AssertSqlSafe(text));
        for (user, name) in piece {
            insert = insert
                .bind(room.as_str().as_bytes())
                .bind(user.as_bytes())
                .bind(*name)
                .bind(version as i64)
                .bind(now.as_millis());
        }
        transaction.execute("write seats", insert).await?;
    }
    Ok(())
}

async fn write_members(transaction: &mut Transaction<'_>, room: &RoomId, members: u64) -> Result<()> {
    let update = sqlx::query("UPDATE rooms SET members = ?, empty_since = NULL WHERE room_id = ?");
    let update = update.bind(members as i64).bind(room.as_str().as_bytes());
    transaction.execute("count seats", update).await?;
    Ok(())
}
