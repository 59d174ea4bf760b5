//! Rows as SQLite gives them, and the ids and versions in them.

use roomcast_types::{MessageId, Position, RoomCard, RoomId, RoomState, StoreTime, UserId};
use sqlx::{Row, sqlite::SqliteRow};

use super::fault::{failed, unreadable};
use crate::{
    error::Result,
    rooms::{RoomRow, SeatRow},
    sql,
};

/// Columns that [`room`] reads.
macro_rules! room_columns {
    () => {
        "room_id, card_version, membership, max_users, members, is_auto_created, created_at, empty_since, log, \
         on_log_failure"
    };
}
pub(super) use room_columns;

pub(super) fn room(row: &SqliteRow) -> Result<RoomRow> {
    Ok(RoomRow {
        card: RoomCard {
            room_id: room_id(row)?,
            version: unsigned(row, "card_version")?,
            state: RoomState::Active,
            membership: word(column(row, "membership")?, sql::parse_membership)?,
            max_users: column(row, "max_users")?,
            log: word(column(row, "log")?, sql::parse_log)?,
            on_log_failure: word(column(row, "on_log_failure")?, sql::parse_on_log_failure)?,
        },
        members: unsigned(row, "members")?,
        is_auto_created: column(row, "is_auto_created")?,
        created_at: StoreTime::from_millis(column(row, "created_at")?),
        empty_since: column::<Option<i64>>(row, "empty_since")?.map(StoreTime::from_millis),
    })
}

pub(super) fn seat(row: &SqliteRow) -> Result<SeatRow> {
    Ok(SeatRow {
        user_id: user_id(row)?,
        user_name: column(row, "user_name")?,
        joined_at: StoreTime::from_millis(column(row, "joined_at")?),
        version: unsigned(row, "seat_version")?,
        read: read_position(row)?,
    })
}

/// How far the holder of a seat has read.
pub(super) fn read_position(row: &SqliteRow) -> Result<Option<Position>> {
    let (epoch, offset): (Option<i64>, Option<i64>) =
        (column(row, "read_epoch")?, column(row, "read_offset")?);
    let position = epoch.and_then(sql::log::epoch).zip(offset);
    Ok(position.map(|(epoch, offset)| Position { epoch, offset: offset as u64 }))
}

pub(super) fn room_id(row: &SqliteRow) -> Result<RoomId> {
    RoomId::new(text(row, "room_id")?).map_err(|error| unreadable("read a room id", error))
}

pub(super) fn user_id(row: &SqliteRow) -> Result<UserId> {
    UserId::new(text(row, "user_id")?).map_err(|error| unreadable("read a user id", error))
}

pub(super) fn unsigned(row: &SqliteRow, name: &'static str) -> Result<u64> {
    let value: i64 = column(row, name)?;
    u64::try_from(value).map_err(|error| unreadable(format!("read column {name}"), error))
}

pub(super) fn message_id(row: &SqliteRow) -> Result<MessageId> {
    MessageId::from_bytes(column(row, "message_id")?)
        .ok_or_else(|| unreadable("read column message_id", "it has not 16 bytes"))
}

/// Of the columns `epoch` and `name`; `None` where they are NULL.
pub(super) fn position(row: &SqliteRow, name: &'static str) -> Result<Option<Position>> {
    let Some(bits) = column::<Option<i64>>(row, "epoch")? else { return Ok(None) };
    let epoch = sql::log::epoch(bits).ok_or_else(|| unreadable("read column epoch", "it is 0"))?;
    Ok(Some(Position { epoch, offset: unsigned(row, name)? }))
}

fn text<'r>(row: &'r SqliteRow, name: &'static str) -> Result<&'r str> {
    let bytes: &[u8] = row.try_get(name).map_err(failed("read a row"))?;
    std::str::from_utf8(bytes).map_err(|error| unreadable(format!("read column {name}"), error))
}

pub(super) fn column<'r, T>(row: &'r SqliteRow, name: &'static str) -> Result<T>
where
    T: sqlx::Decode<'r, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>,
{
    row.try_get(name).map_err(failed("read a row"))
}

/// What a word of this program means.
fn word<T>(word: &str, parse: fn(&str) -> Option<T>) -> Result<T> {
    parse(word).ok_or_else(|| unreadable("read a room", format!("{word:?} is not a word of this program")))
}

/// Values as one parameter: a batch of any size is the same statement, and stays prepared.
pub(super) fn json(values: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(values).map_err(|error| unreadable("write a batch as JSON", error))
}
