//! Admission: gives seats in one room, one transaction for all requests that came together.

use roomcast_types::{RoomId, StoreTime};
use sqlx::SqliteConnection;

use super::{
    SqliteRooms,
    fault::{BACKEND, failed},
    room,
    row::{self, json, room_columns, unsigned},
    seat,
};
use crate::{
    admission::decide,
    error::{Error, Result},
    rooms::{Admission, NewRoom, RoomRequests, RoomRow, SeatRequest},
};

/// A room that was there and is gone again was deleted in between; more often than this, something deletes it in a
/// loop.
const ATTEMPTS: u32 = 3;

pub(super) async fn admit(
    rooms: &SqliteRooms,
    room: &RoomId,
    requests: &[SeatRequest],
    create: Option<NewRoom>,
    now: StoreTime,
) -> Result<Admission> {
    for _ in 0..ATTEMPTS {
        if let Some(admission) = try_admit(&mut *rooms.writer().await?, room, requests, now).await? {
            return Ok(admission);
        }
        let Some(new) = create else { return Err(Error::NoSuchRoom(room.clone())) };
        // Somebody else may have created it meanwhile: just as well.
        room::create(&mut *rooms.writer().await?, room, new, now).await?;
    }
    Err(Error::Unavailable {
        backend: BACKEND,
        context: format!("room {room} was deleted each time it had been created"),
        source: None,
    })
}

/// In one transaction: there is one writer anyway, and so one commit.
pub(super) async fn admit_together(
    rooms: &SqliteRooms,
    asked: &[RoomRequests],
    now: StoreTime,
) -> Result<Vec<Option<Admission>>> {
    let mut writer = rooms.writer().await?;
    let mut transaction = super::begin(&mut writer).await?;
    let mut admissions = Vec::with_capacity(asked.len());
    for RoomRequests { room, requests } in asked {
        admissions.push(admit_within(&mut transaction, room, requests, now).await?);
    }
    super::commit(transaction).await?;
    Ok(admissions)
}

/// `None` when there is no such room.
async fn try_admit(
    connection: &mut SqliteConnection,
    room: &RoomId,
    requests: &[SeatRequest],
    now: StoreTime,
) -> Result<Option<Admission>> {
    let mut transaction = super::begin(connection).await?;
    let admission = admit_within(&mut transaction, room, requests, now).await?;
    super::commit(transaction).await?;
    Ok(admission)
}

/// As [`try_admit`], in a transaction that is under way.
async fn admit_within(
    transaction: &mut SqliteConnection,
    room: &RoomId,
    requests: &[SeatRequest],
    now: StoreTime,
) -> Result<Option<Admission>> {
    let Some((found, version)) = lock(transaction, room).await? else { return Ok(None) };
    let users: Vec<&str> = requests.iter().map(|request| request.user_id.as_str()).collect();
    let holders = seat::versions(transaction, room, &users).await?;
    let decision = decide(requests, &holders, &found);
    let members = found.members + decision.new_seats;
    if !decision.seats.is_empty() {
        write_seats(transaction, room, &decision.seats, version, now).await?;
    }
    if decision.new_seats > 0 {
        write_members(transaction, room, members).await?;
    }
    Ok(Some(Admission { card: found.card, members, admitted: decision.admitted }))
}

/// Takes the room's lock by its new seat version, before anything is read.
async fn lock(connection: &mut SqliteConnection, room: &RoomId) -> Result<Option<(RoomRow, u64)>> {
    let found = sqlx::query(concat!(
        "UPDATE rooms SET seat_version = seat_version + 1 WHERE room_id = ?1 RETURNING seat_version, ",
        room_columns!()
    ))
    .bind(room.as_str().as_bytes())
    .fetch_optional(connection)
    .await
    .map_err(failed("lock a room"))?;
    match found {
        Some(found) => Ok(Some((row::room(&found)?, unsigned(&found, "seat_version")?))),
        None => Ok(None),
    }
}

/// A holder keeps when it took its seat, and its name when none is given.
async fn write_seats(
    connection: &mut SqliteConnection,
    room: &RoomId,
    seats: &[(&str, &str)],
    version: u64,
    now: StoreTime,
) -> Result<()> {
    // "WHERE true" keeps SQLite from reading ON CONFLICT as a join constraint.
    sqlx::query(
        "INSERT INTO room_users (room_id, user_id, user_name, seat_version, joined_at, left_at) \
         SELECT ?1, CAST(value ->> 0 AS BLOB), value ->> 1, ?2, ?3, NULL FROM json_each(?4) WHERE true \
         ON CONFLICT (room_id, user_id) DO UPDATE SET \
         user_name = CASE WHEN room_users.left_at IS NULL AND excluded.user_name = '' \
             THEN room_users.user_name ELSE excluded.user_name END, \
         joined_at = CASE WHEN room_users.left_at IS NULL THEN room_users.joined_at ELSE excluded.joined_at END, \
         seat_version = excluded.seat_version, left_at = NULL",
    )
    .bind(room.as_str().as_bytes())
    .bind(version as i64)
    .bind(now.as_millis())
    .bind(json(&seats)?)
    .execute(connection)
    .await
    .map_err(failed("write seats"))?;
    Ok(())
}

async fn write_members(connection: &mut SqliteConnection, room: &RoomId, members: u64) -> Result<()> {
    sqlx::query("UPDATE rooms SET members = ?2, empty_since = NULL WHERE room_id = ?1")
        .bind(room.as_str().as_bytes())
        .bind(members as i64)
        .execute(connection)
        .await
        .map_err(failed("count seats"))?;
    Ok(())
}
