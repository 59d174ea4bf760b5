//! Admission to several rooms in one transaction of four exchanges, whatever their number.
//!
//! It locks those rooms that nobody else holds, and skips the others: no room waits for another one, and two
//! controllers that want the same rooms meet no deadlock.

use std::collections::HashMap;

use roomcast_types::{RoomId, StoreTime, UserId};
use sqlx::mysql::MySqlRow;

use crate::{
    admission::{Decision, decide},
    mysql::{
        connection::Transaction,
        fault::Result,
        row::{self, room_columns, unsigned},
        server::Server,
        text::{Hex, Rows},
    },
    rooms::{Admission, RoomRequests, RoomRow},
};

/// Users of one statement: its text stays far below the smallest `max_allowed_packet`.
const USERS_MAX: usize = 1_024;

/// Users that hold a seat, with its version, by room.
type Holders = HashMap<RoomId, HashMap<UserId, u64>>;

/// A room that was locked, its new seat version, and what is decided.
struct Decided<'a> {
    row: RoomRow,
    version: u64,
    decision: Decision<'a>,
}

/// A conflict ends the transaction: nothing was done then for any room.
pub(in crate::mysql) async fn admit_together(
    server: &Server,
    rooms: &[RoomRequests],
    now: StoreTime,
) -> Result<Vec<Option<Admission>>> {
    if rooms.is_empty() {
        return Ok(Vec::new());
    }
    match try_admit(server, rooms, now).await {
        Err(fault) if fault.is_conflict() => Ok(vec![None; rooms.len()]),
        admissions => admissions,
    }
}

async fn try_admit(
    server: &Server,
    rooms: &[RoomRequests],
    now: StoreTime,
) -> Result<Vec<Option<Admission>>> {
    let mut transaction = server.begin().await?;
    let locked = transaction.text("lock rooms", lock(rooms)).await?;
    let mut locked: HashMap<RoomId, (RoomRow, u64)> = locked.iter().map(locked_row).collect::<Result<_>>()?;
    if locked.is_empty() {
        transaction.rollback().await?;
        return Ok(vec![None; rooms.len()]);
    }
    let holders = holders(&mut transaction, rooms, &locked).await?;
    let nobody = HashMap::new();
    let decided: Vec<Option<Decided<'_>>> = rooms
        .iter()
        .map(|RoomRequests { room, requests }| {
            let (row, version) = locked.remove(room)?;
            let decision = decide(requests, holders.get(room).unwrap_or(&nobody), &row);
            Some(Decided { row, version, decision })
        })
        .collect();
    write(transaction, &decided, now).await?;
    let admission = |decided: Decided<'_>| Admission {
        members: decided.row.members + decided.decision.new_seats,
        card: decided.row.card,
        admitted: decided.decision.admitted,
    };
    Ok(decided.into_iter().map(|decided| decided.map(admission)).collect())
}

/// A locking read sees what whoever held the lock last has committed. Without the hint a small table is read, and
/// locked, as a whole.
fn lock(rooms: &[RoomRequests]) -> String {
    let mut ids = Rows::default();
    for room in rooms {
        ids.push(&id(&room.room));
    }
    let columns = room_columns!();
    format!(
        "SELECT seat_version, {columns} FROM rooms FORCE INDEX (PRIMARY) WHERE room_id IN ({ids}) \
         ORDER BY room_id FOR UPDATE SKIP LOCKED"
    )
}

fn id(room: &RoomId) -> String {
    Hex(room.as_str().as_bytes()).to_string()
}

/// With the version of the seats that are given now.
fn locked_row(found: &MySqlRow) -> Result<(RoomId, (RoomRow, u64))> {
    let row = row::room(found)?;
    Ok((row.card.room_id.clone(), (row, unsigned(found, "seat_version")? + 1)))
}

/// Who of those that ask holds a seat in the locked rooms.
async fn holders(
    transaction: &mut Transaction<'_>,
    rooms: &[RoomRequests],
    locked: &HashMap<RoomId, (RoomRow, u64)>,
) -> Result<Holders> {
    let mut holders = Holders::new();
    let asked = rooms.iter().filter(|asked| locked.contains_key(&asked.room));
    let users = asked.flat_map(|asked| asked.requests.iter().map(|request| (&asked.room, &request.user_id)));
    for piece in users.collect::<Vec<_>>().chunks(USERS_MAX) {
        let mut wanted = Vec::new();
        for of_one in piece.chunk_by(|one, next| one.0 == next.0) {
            let mut users = Rows::default();
            for (_, user) in of_one {
                users.push(&Hex(user.as_str().as_bytes()).to_string());
            }
            wanted.push(format!("(room_id = {} AND user_id IN ({users}))", id(of_one[0].0)));
        }
        let wanted = wanted.join(" OR ");
        let query = format!(
            "SELECT room_id, user_id, seat_version FROM room_users FORCE INDEX (PRIMARY) \
             WHERE left_at IS NULL AND ({wanted})"
        );
        for found in transaction.text("read seats", query).await? {
            let seats = holders.entry(row::room_id(&found)?).or_default();
            seats.insert(row::user_id(&found)?, unsigned(&found, "seat_version")?);
        }
    }
    Ok(holders)
}

/// Writes what was decided, and commits.
async fn write(
    mut transaction: Transaction<'_>,
    decided: &[Option<Decided<'_>>],
    now: StoreTime,
) -> Result<()> {
    let mut rows = Vec::new();
    for Decided { row, version, decision } in decided.iter().flatten() {
        let room = id(&row.card.room_id);
        rows.extend(decision.seats.iter().map(|(user, name)| {
            let (user, name) = (Hex(user.as_bytes()), Hex(name.as_bytes()));
            format!("({room},{user},_utf8mb4 {name},{version},{},NULL)", now.as_millis())
        }));
    }
    // The last piece goes with the rest.
    let mut writes = String::new();
    for piece in rows.chunks(USERS_MAX) {
        if !writes.is_empty() {
            transaction.text("write seats", std::mem::take(&mut writes)).await?;
        }
        let mut seats = Rows::default();
        piece.iter().for_each(|row| seats.push(row));
        writes = format!(
            "INSERT INTO room_users (room_id, user_id, user_name, seat_version, joined_at, left_at) VALUES {seats}{}; ",
            super::SEAT_TAKEN
        );
    }
    writes.push_str(&count(decided));
    transaction.commit_after("write seats and count them", writes).await
}

/// Assignments are done from left to right: `members` is the new number where it is asked.
fn count(decided: &[Option<Decided<'_>>]) -> String {
    let (mut ids, mut cases) = (Rows::default(), String::new());
    for Decided { row, decision, .. } in decided.iter().flatten() {
        let room = id(&row.card.room_id);
        cases.push_str(&format!(" WHEN {room} THEN {}", decision.new_seats));
        ids.push(&room);
    }
    format!(
        "UPDATE rooms FORCE INDEX (PRIMARY) SET seat_version = seat_version + 1, \
         members = members + CASE room_id{cases} ELSE 0 END, empty_since = IF(members > 0, NULL, empty_since) \
         WHERE room_id IN ({ids})"
    )
}
