//! Statements on logs.
//!
//! Whoever appends with a payload holds the row of the log, then that of its key; without a payload only that of the
//! key. So offsets have no hole, a key is used once, and nobody waits in a circle.

mod group;
mod read;

use bytes::Bytes;
use roomcast_types::{Epoch, Position};
use sqlx::mysql::MySqlRow;

pub(super) use self::{group::Groups, read::page};
use super::{
    connection::{Lease, Transaction},
    fault::{BACKEND, Fault, Result},
    row::{self, column, unsigned},
    server::Server,
};
use crate::{
    error::Error,
    log::{Append, Appended, Idempotency, LogKey, Retention},
    sql::log::{
        Head, LINES_PER_TRIM, Line, POSITION_KEPT_MS, ROWS_PER_SWEEP, UsedKey, bits, is_trim_due, log_key,
        millis, trimmed_up_to,
    },
};

/// Milliseconds since 1970 on the server's clock; in UTC, as the session's time may repeat an hour.
macro_rules! now_ms {
    () => {
        "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(3)) DIV 1000"
    };
}
use now_ms;

/// A log that was begun and is gone again was removed in between; more often than this, something removes it in a loop.
const ATTEMPTS: u32 = 3;

pub(super) async fn append(server: &Server, append: &Append, retention: &Retention) -> Result<Appended> {
    let key = log_key(&append.key);
    for _ in 0..ATTEMPTS {
        if let Some(appended) = try_append(server, &key, append, retention).await? {
            return Ok(appended);
        }
        let mut lease = server.pool.lease().await?;
        begin(&mut lease, &key).await?;
        lease.give_back();
    }
    let context = "the log was removed each time it had begun".to_owned();
    Err(Error::Unavailable { backend: BACKEND, context, source: None }.into())
}

/// `None` when the log has to begin first.
async fn try_append(
    server: &Server,
    key: &[u8],
    append: &Append,
    retention: &Retention,
) -> Result<Option<Appended>> {
    let payload = append.payload.as_ref().filter(|_| append.key != LogKey::Unaddressed);
    let mut transaction = server.begin().await?;
    let head = if payload.is_some() {
        lock_head(&mut transaction, key).await?
    } else {
        read_head(&mut transaction, key).await?
    };
    let mut known = None;
    if let Some(own) = &append.idempotency {
        known = used_key(&mut transaction, key, own).await?;
        if let Some((used, true)) = known {
            transaction.rollback().await?;
            return Ok(Some(used.answer(own, head.map(|head| head.position.epoch))));
        }
    }
    let mut position = None;
    if let Some(payload) = payload {
        let Some(before) = head else {
            transaction.rollback().await?;
            return Ok(None);
        };
        let after = write_message(&mut transaction, key, before, append, payload).await?;
        if is_trim_due(after.position.offset, retention) {
            trim(&mut transaction, key, after, retention).await?;
        }
        position = Some(after.position);
    }
    if let Some(own) = &append.idempotency {
        let used = UsedKey { digest: own.digest, message_id: append.message_id, position };
        write_key(&mut transaction, (key, own), used, known.is_some(), retention).await?;
    }
    transaction.commit().await?;
    Ok(Some(Appended::New(position)))
}

/// Gives a log a position unless it has one.
async fn begin(lease: &mut Lease<'_>, key: &[u8]) -> Result<()> {
    let insert = sqlx::query(concat!(
        "INSERT IGNORE INTO logs (log_key, epoch, last_offset, bytes, used_at) VALUES (?, ?, 0, 0, ",
        now_ms!(),
        ")"
    ));
    let epoch = bits(Epoch::random().as_u64());
    lease.execute("begin a log", insert.bind(key).bind(epoch)).await?;
    Ok(())
}

async fn lock_head(transaction: &mut Transaction<'_>, key: &[u8]) -> Result<Option<Head>> {
    let query =
        sqlx::query("SELECT epoch, last_offset, bytes FROM logs WHERE log_key = ? FOR UPDATE").bind(key);
    head(transaction.one("lock a log", query).await?.as_ref())
}

async fn read_head(lease: &mut Lease<'_>, key: &[u8]) -> Result<Option<Head>> {
    let query = sqlx::query("SELECT epoch, last_offset, bytes FROM logs WHERE log_key = ?").bind(key);
    head(lease.one("read a log", query).await?.as_ref())
}

fn head(found: Option<&MySqlRow>) -> Result<Option<Head>> {
    let Some(found) = found else { return Ok(None) };
    let bytes = unsigned(found, "bytes")?;
    Ok(row::position(found, "last_offset")?.map(|position| Head { position, bytes }))
}

/// Locks the key where it is known; with whether it has not expired.
async fn used_key(
    transaction: &mut Transaction<'_>,
    key: &[u8],
    own: &Idempotency,
) -> Result<Option<(UsedKey, bool)>> {
    let query = sqlx::query(concat!(
        "SELECT digest, message_id, epoch, log_offset, expires_at > ",
        now_ms!(),
        " AS is_valid FROM log_keys WHERE log_key = ? AND idempotency_key = ? FOR UPDATE"
    ));
    let query = query.bind(key).bind(own.key.as_bytes());
    transaction.one("read an idempotency key", query).await?.as_ref().map(used_key_row).transpose()
}

/// With whether it has not expired.
fn used_key_row(row: &MySqlRow) -> Result<(UsedKey, bool)> {
    let used = UsedKey {
        digest: column::<i64>(row, "digest")? as u64,
        message_id: row::message_id(row)?,
        position: row::position(row, "log_offset")?,
    };
    Ok((used, column::<i64>(row, "is_valid")? != 0))
}

/// The log after it.
async fn write_message(
    transaction: &mut Transaction<'_>,
    key: &[u8],
    before: Head,
    append: &Append,
    payload: &Bytes,
) -> Result<Head> {
    let position = Position { offset: before.position.offset + 1, ..before.position };
    let message_id = append.message_id.to_bytes();
    let insert = sqlx::query(concat!(
        "INSERT INTO log_messages (log_key, epoch, log_offset, message_id, payload_bytes, bytes_before, payload, \
         created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ",
        now_ms!(),
        ")"
    ));
    let insert = insert
        .bind(key)
        .bind(bits(position.epoch.as_u64()))
        .bind(position.offset as i64)
        .bind(&message_id[..])
        .bind(payload.len() as i64)
        .bind(before.bytes as i64)
        .bind(&payload[..]);
    transaction.execute("append to a log", insert).await?;
    let bytes = before.bytes + payload.len() as u64;
    let update = sqlx::query(concat!(
        "UPDATE logs SET last_offset = ?, bytes = ?, used_at = ",
        now_ms!(),
        " WHERE log_key = ?"
    ));
    let update = update.bind(position.offset as i64).bind(bytes as i64).bind(key);
    transaction.execute("move the position of a log", update).await?;
    Ok(Head { position, bytes })
}

/// `is_known`: there is a row of it, which expired, and is locked.
async fn write_key(
    transaction: &mut Transaction<'_>,
    (key, own): (&[u8], &Idempotency),
    used: UsedKey,
    is_known: bool,
    retention: &Retention,
) -> Result<()> {
    let statement = if is_known {
        concat!(
            "UPDATE log_keys SET digest = ?, message_id = ?, epoch = ?, log_offset = ?, expires_at = ? + ",
            now_ms!(),
            " WHERE log_key = ? AND idempotency_key = ?"
        )
    } else {
        concat!(
            "INSERT INTO log_keys (digest, message_id, epoch, log_offset, expires_at, log_key, idempotency_key) \
             VALUES (?, ?, ?, ?, ? + ",
            now_ms!(),
            ", ?, ?)"
        )
    };
    let message_id = used.message_id.to_bytes();
    let write = sqlx::query(statement)
        .bind(bits(used.digest))
        .bind(&message_id[..])
        .bind(used.position.map(|position| bits(position.epoch.as_u64())))
        .bind(used.position.map(|position| position.offset as i64))
        .bind(millis(retention.idempotency))
        .bind(key)
        .bind(own.key.as_bytes());
    match transaction.execute("write an idempotency key", write).await {
        Err(fault) if fault.is_duplicate() => Err(Fault::overtaken("the idempotency key was used meanwhile")),
        answer => answer.map(drop),
    }
}

async fn trim(
    transaction: &mut Transaction<'_>,
    key: &[u8],
    head: Head,
    retention: &Retention,
) -> Result<()> {
    let epoch = bits(head.position.epoch.as_u64());
    let oldest = sqlx::query(
        "SELECT log_offset, payload_bytes, bytes_before FROM log_messages \
         WHERE log_key = ? AND epoch = ? AND log_offset < ? ORDER BY log_offset LIMIT ?",
    );
    let oldest = oldest.bind(key).bind(epoch).bind(head.position.offset as i64).bind(LINES_PER_TRIM);
    let oldest = transaction.all("read the oldest of a log", oldest).await?;
    let oldest = oldest.iter().map(line).collect::<crate::Result<Vec<_>>>()?;
    if let Some(bound) = trimmed_up_to(&oldest, head, retention) {
        let delete =
            sqlx::query("DELETE FROM log_messages WHERE log_key = ? AND epoch = ? AND log_offset <= ?");
        transaction.execute("trim a log", delete.bind(key).bind(epoch).bind(bound as i64)).await?;
    }
    Ok(())
}

fn line(row: &MySqlRow) -> crate::Result<Line> {
    Ok(Line {
        offset: unsigned(row, "log_offset")?,
        bytes: unsigned(row, "payload_bytes")?,
        bytes_before: unsigned(row, "bytes_before")?,
    })
}

/// Where the log is now, and whether it was renewed.
pub(super) async fn renew(server: &Server, key: &LogKey, epoch: Epoch) -> Result<(Option<Position>, bool)> {
    let mut transaction = server.begin().await?;
    let key = log_key(key);
    let position = lock_head(&mut transaction, &key).await?.map(|head| head.position);
    if position.is_none_or(|position| position.epoch != epoch) {
        transaction.rollback().await?;
        return Ok((position, false));
    }
    let fresh = Position { epoch: Epoch::random(), offset: 0 };
    let update = sqlx::query(concat!(
        "UPDATE logs SET epoch = ?, last_offset = 0, bytes = 0, used_at = ",
        now_ms!(),
        " WHERE log_key = ?"
    ));
    transaction.execute("renew a log", update.bind(bits(fresh.epoch.as_u64())).bind(&key)).await?;
    transaction.commit().await?;
    Ok((Some(fresh), true))
}

/// Where the log was; its messages are to be deleted.
pub(super) async fn remove(server: &Server, key: &LogKey) -> Result<Option<Position>> {
    let mut transaction = server.begin().await?;
    let key = log_key(key);
    let head = lock_head(&mut transaction, &key).await?;
    for statement in ["DELETE FROM log_keys WHERE log_key = ?", "DELETE FROM logs WHERE log_key = ?"] {
        transaction.execute("remove a log", sqlx::query(statement).bind(&key)).await?;
    }
    transaction.commit().await?;
    Ok(head.map(|head| head.position))
}

/// A piece of what an epoch left behind; how many messages.
pub(super) async fn delete_messages(lease: &mut Lease<'_>, key: &LogKey, epoch: Epoch) -> Result<u64> {
    let delete =
        sqlx::query("DELETE FROM log_messages WHERE log_key = ? AND epoch = ? ORDER BY log_offset LIMIT ?");
    let delete = delete.bind(log_key(key)).bind(bits(epoch.as_u64())).bind(ROWS_PER_SWEEP);
    lease.execute("delete the messages of a log", delete).await
}

pub(super) async fn sweep(lease: &mut Lease<'_>, retention: &Retention) -> Result<u64> {
    let age = millis(retention.age);
    let mut deleted = 0;
    for (statement, age) in [
        (
            concat!(
                "DELETE FROM log_messages WHERE created_at < ",
                now_ms!(),
                " - ? ORDER BY created_at LIMIT ?"
            ),
            age,
        ),
        (
            concat!(
                "DELETE FROM log_keys WHERE expires_at <= ",
                now_ms!(),
                " - ? ORDER BY expires_at LIMIT ?"
            ),
            0,
        ),
        (
            concat!("DELETE FROM logs WHERE used_at < ", now_ms!(), " - ? ORDER BY used_at LIMIT ?"),
            age.saturating_add(POSITION_KEPT_MS),
        ),
    ] {
        let delete = sqlx::query(statement).bind(age).bind(ROWS_PER_SWEEP);
        deleted += lease.execute("sweep logs", delete).await?;
    }
    Ok(deleted)
}
