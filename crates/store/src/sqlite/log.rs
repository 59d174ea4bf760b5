//! Statements on logs.

use bytes::Bytes;
use roomcast_types::{Epoch, Position, unix_millis};
use sqlx::{Connection, SqliteConnection, sqlite::SqliteRow};

use super::{
    fault::failed,
    row::{self, column, unsigned},
};
use crate::{
    error::Result,
    log::{Append, Appended, Entry, Idempotency, LogKey, Page, Part, Read, Retention},
    sql::log::{
        Head, LINES_PER_TRIM, Line, POSITION_KEPT_MS, ROWS_PER_SWEEP, UsedKey, bits, fitting, is_trim_due,
        log_key, millis, offset_bound, trimmed_up_to,
    },
};

pub(super) async fn append(
    connection: &mut SqliteConnection,
    append: &Append,
    retention: &Retention,
) -> Result<Appended> {
    let mut transaction = super::begin(connection).await?;
    let (key, now) = (log_key(&append.key), unix_millis());
    let mut head = read_head(&mut transaction, &key).await?;
    if let Some(own) = &append.idempotency
        && let Some(used) = used_key(&mut transaction, &key, own, now).await?
    {
        return Ok(used.answer(own, head.map(|head| head.position.epoch)));
    }
    let mut position = None;
    if let Some(payload) = append.payload.as_ref().filter(|_| append.key != LogKey::Unaddressed) {
        let before = match head.take() {
            Some(head) => head,
            None => begin_head(&mut transaction, &key, now).await?,
        };
        let after = write_message(&mut transaction, &key, before, append, payload, now).await?;
        if is_trim_due(after.position.offset, retention) {
            trim(&mut transaction, &key, after, retention).await?;
        }
        position = Some(after.position);
    }
    if let Some(own) = &append.idempotency {
        let until = now.saturating_add(millis(retention.idempotency));
        write_key(&mut transaction, &key, own, append, position, until).await?;
    }
    super::commit(transaction).await?;
    Ok(Appended::New(position))
}

/// Gives a log a position unless it has one.
pub(super) async fn begin(connection: &mut SqliteConnection, key: &LogKey) -> Result<Position> {
    let mut transaction = super::begin(connection).await?;
    let key = log_key(key);
    let head = match read_head(&mut transaction, &key).await? {
        Some(head) => head,
        None => begin_head(&mut transaction, &key, unix_millis()).await?,
    };
    super::commit(transaction).await?;
    Ok(head.position)
}

async fn begin_head(connection: &mut SqliteConnection, key: &[u8], now: i64) -> Result<Head> {
    let position = Position { epoch: Epoch::random(), offset: 0 };
    sqlx::query("INSERT INTO logs (log_key, epoch, last_offset, bytes, used_at) VALUES (?1, ?2, 0, 0, ?3)")
        .bind(key)
        .bind(bits(position.epoch.as_u64()))
        .bind(now)
        .execute(connection)
        .await
        .map_err(failed("begin a log"))?;
    Ok(Head { position, bytes: 0 })
}

async fn read_head(connection: &mut SqliteConnection, key: &[u8]) -> Result<Option<Head>> {
    let found = sqlx::query("SELECT epoch, last_offset, bytes FROM logs WHERE log_key = ?1")
        .bind(key)
        .fetch_optional(connection)
        .await
        .map_err(failed("read a log"))?;
    let Some(found) = found else { return Ok(None) };
    let bytes = unsigned(&found, "bytes")?;
    Ok(row::position(&found, "last_offset")?.map(|position| Head { position, bytes }))
}

async fn used_key(
    connection: &mut SqliteConnection,
    key: &[u8],
    own: &Idempotency,
    now: i64,
) -> Result<Option<UsedKey>> {
    let found = sqlx::query(
        "SELECT digest, message_id, epoch, log_offset FROM log_keys \
         WHERE log_key = ?1 AND idempotency_key = ?2 AND expires_at > ?3",
    )
    .bind(key)
    .bind(own.key.as_bytes())
    .bind(now)
    .fetch_optional(connection)
    .await
    .map_err(failed("read an idempotency key"))?;
    let Some(found) = found else { return Ok(None) };
    Ok(Some(UsedKey {
        digest: column::<i64>(&found, "digest")? as u64,
        message_id: row::message_id(&found)?,
        position: row::position(&found, "log_offset")?,
    }))
}

/// The log after it.
async fn write_message(
    connection: &mut SqliteConnection,
    key: &[u8],
    before: Head,
    append: &Append,
    payload: &Bytes,
    now: i64,
) -> Result<Head> {
    let position = Position { offset: before.position.offset + 1, ..before.position };
    sqlx::query(
        "INSERT INTO log_messages (log_key, epoch, log_offset, message_id, payload_bytes, bytes_before, \
         created_at, payload) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )
    .bind(key)
    .bind(bits(position.epoch.as_u64()))
    .bind(position.offset as i64)
    .bind(&append.message_id.to_bytes()[..])
    .bind(payload.len() as i64)
    .bind(before.bytes as i64)
    .bind(now)
    .bind(&payload[..])
    .execute(&mut *connection)
    .await
    .map_err(failed("append to a log"))?;
    let bytes = before.bytes + payload.len() as u64;
    sqlx::query("UPDATE logs SET last_offset = ?2, bytes = ?3, used_at = ?4 WHERE log_key = ?1")
        .bind(key)
        .bind(position.offset as i64)
        .bind(bytes as i64)
        .bind(now)
        .execute(connection)
        .await
        .map_err(failed("move the position of a log"))?;
    Ok(Head { position, bytes })
}

async fn write_key(
    connection: &mut SqliteConnection,
    key: &[u8],
    own: &Idempotency,
    append: &Append,
    position: Option<Position>,
    until: i64,
) -> Result<()> {
    sqlx::query(
        "INSERT INTO log_keys (log_key, idempotency_key, digest, message_id, epoch, log_offset, expires_at) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (log_key, idempotency_key) DO UPDATE SET \
         digest = excluded.digest, message_id = excluded.message_id, epoch = excluded.epoch, \
         log_offset = excluded.log_offset, expires_at = excluded.expires_at",
    )
    .bind(key)
    .bind(own.key.as_bytes())
    .bind(bits(own.digest))
    .bind(&append.message_id.to_bytes()[..])
    .bind(position.map(|position| bits(position.epoch.as_u64())))
    .bind(position.map(|position| position.offset as i64))
    .bind(until)
    .execute(connection)
    .await
    .map_err(failed("write an idempotency key"))?;
    Ok(())
}

async fn trim(
    connection: &mut SqliteConnection,
    key: &[u8],
    head: Head,
    retention: &Retention,
) -> Result<()> {
    let epoch = bits(head.position.epoch.as_u64());
    let oldest = sqlx::query(
        "SELECT log_offset, payload_bytes, bytes_before FROM log_messages \
         WHERE log_key = ?1 AND epoch = ?2 AND log_offset < ?3 ORDER BY log_offset LIMIT ?4",
    )
    .bind(key)
    .bind(epoch)
    .bind(head.position.offset as i64)
    .bind(LINES_PER_TRIM)
    .fetch_all(&mut *connection)
    .await
    .map_err(failed("read the oldest of a log"))?;
    let oldest = oldest.iter().map(line).collect::<Result<Vec<_>>>()?;
    if let Some(bound) = trimmed_up_to(&oldest, head, retention) {
        sqlx::query("DELETE FROM log_messages WHERE log_key = ?1 AND epoch = ?2 AND log_offset <= ?3")
            .bind(key)
            .bind(epoch)
            .bind(bound as i64)
            .execute(connection)
            .await
            .map_err(failed("trim a log"))?;
    }
    Ok(())
}

fn line(row: &SqliteRow) -> Result<Line> {
    Ok(Line {
        offset: unsigned(row, "log_offset")?,
        bytes: unsigned(row, "payload_bytes")?,
        bytes_before: unsigned(row, "bytes_before")?,
    })
}

/// In one transaction, so that what it answers fits together.
pub(super) async fn page(connection: &mut SqliteConnection, read: &Read) -> Result<Page> {
    let mut transaction = connection.begin().await.map_err(failed("begin to read"))?;
    let key = log_key(&read.key);
    let Some(head) = read_head(&mut transaction, &key).await? else {
        return Ok(Page { position: None, first: 1, entries: Vec::new(), is_cut: false });
    };
    let epoch = bits(head.position.epoch.as_u64());
    let since = unix_millis().saturating_sub(millis(read.age));
    let first: Option<i64> = sqlx::query_scalar(
        "SELECT log_offset FROM log_messages WHERE log_key = ?1 AND epoch = ?2 AND created_at >= ?3 \
         ORDER BY log_offset LIMIT 1",
    )
    .bind(&key)
    .bind(epoch)
    .bind(since)
    .fetch_optional(&mut *transaction)
    .await
    .map_err(failed("read the oldest of a log"))?;
    let lines = lines(&mut transaction, &key, epoch, read, since).await?;
    let (count, is_cut) = fitting(&lines, read);
    let entries = entries(&mut transaction, &key, epoch, &lines[..count]).await?;
    super::commit(transaction).await?;
    let first = first.map_or(head.position.offset + 1, |first| first as u64);
    Ok(Page { position: Some(head.position), first, entries, is_cut })
}

/// The messages that a question is about, nearest first, and one more than its limit.
async fn lines(
    connection: &mut SqliteConnection,
    key: &[u8],
    epoch: i64,
    read: &Read,
    since: i64,
) -> Result<Vec<Line>> {
    let (query, above, up_to) = match read.part {
        Part::Position => return Ok(Vec::new()),
        Part::After { offset, up_to } => (
            "SELECT log_offset, payload_bytes, bytes_before FROM log_messages WHERE log_key = ?1 AND epoch = ?2 \
             AND log_offset > ?3 AND log_offset <= ?4 AND created_at >= ?5 ORDER BY log_offset LIMIT ?6",
            offset,
            up_to,
        ),
        Part::Before { offset } => (
            "SELECT log_offset, payload_bytes, bytes_before FROM log_messages WHERE log_key = ?1 AND epoch = ?2 \
             AND log_offset > ?3 AND log_offset <= ?4 AND created_at >= ?5 ORDER BY log_offset DESC LIMIT ?6",
            0,
            offset.saturating_sub(1),
        ),
    };
    let found = sqlx::query(query)
        .bind(key)
        .bind(epoch)
        .bind(offset_bound(above))
        .bind(offset_bound(up_to))
        .bind(since)
        .bind(i64::from(read.limit) + 1)
        .fetch_all(connection)
        .await
        .map_err(failed("look a log through"))?;
    found.iter().map(line).collect()
}

/// With their payloads, oldest first.
async fn entries(
    connection: &mut SqliteConnection,
    key: &[u8],
    epoch: i64,
    lines: &[Line],
) -> Result<Vec<Entry>> {
    let (Some(first), Some(last)) = (lines.first(), lines.last()) else { return Ok(Vec::new()) };
    let found = sqlx::query(
        "SELECT log_offset, message_id, payload FROM log_messages \
         WHERE log_key = ?1 AND epoch = ?2 AND log_offset BETWEEN ?3 AND ?4 ORDER BY log_offset",
    )
    .bind(key)
    .bind(epoch)
    .bind(first.offset.min(last.offset) as i64)
    .bind(first.offset.max(last.offset) as i64)
    .fetch_all(connection)
    .await
    .map_err(failed("read a log"))?;
    found.iter().map(entry).collect()
}

fn entry(row: &SqliteRow) -> Result<Entry> {
    let payload: &[u8] = column(row, "payload")?;
    let (offset, message_id) = (unsigned(row, "log_offset")?, row::message_id(row)?);
    Ok(Entry { offset, message_id, payload: Bytes::copy_from_slice(payload) })
}

/// Where the log is now, and whether it was renewed.
pub(super) async fn renew(
    connection: &mut SqliteConnection,
    key: &LogKey,
    epoch: Epoch,
) -> Result<(Option<Position>, bool)> {
    let mut transaction = super::begin(connection).await?;
    let key = log_key(key);
    let position = read_head(&mut transaction, &key).await?.map(|head| head.position);
    if position.is_none_or(|position| position.epoch != epoch) {
        return Ok((position, false));
    }
    let fresh = Position { epoch: Epoch::random(), offset: 0 };
    sqlx::query("UPDATE logs SET epoch = ?2, last_offset = 0, bytes = 0, used_at = ?3 WHERE log_key = ?1")
        .bind(&key)
        .bind(bits(fresh.epoch.as_u64()))
        .bind(unix_millis())
        .execute(&mut *transaction)
        .await
        .map_err(failed("renew a log"))?;
    super::commit(transaction).await?;
    Ok((Some(fresh), true))
}

/// Where the log was; its messages are to be deleted.
pub(super) async fn remove(connection: &mut SqliteConnection, key: &LogKey) -> Result<Option<Position>> {
    let mut transaction = super::begin(connection).await?;
    let key = log_key(key);
    let head = read_head(&mut transaction, &key).await?;
    for statement in ["DELETE FROM log_keys WHERE log_key = ?1", "DELETE FROM logs WHERE log_key = ?1"] {
        let delete = sqlx::query(statement).bind(&key).execute(&mut *transaction).await;
        delete.map_err(failed("remove a log"))?;
    }
    super::commit(transaction).await?;
    Ok(head.map(|head| head.position))
}

/// A piece of what an epoch left behind; how many messages.
pub(super) async fn delete_messages(
    connection: &mut SqliteConnection,
    key: &LogKey,
    epoch: Epoch,
) -> Result<u64> {
    let deleted = sqlx::query(
        "DELETE FROM log_messages WHERE rowid IN \
         (SELECT rowid FROM log_messages WHERE log_key = ?1 AND epoch = ?2 LIMIT ?3)",
    )
    .bind(log_key(key))
    .bind(bits(epoch.as_u64()))
    .bind(ROWS_PER_SWEEP)
    .execute(connection)
    .await
    .map_err(failed("delete the messages of a log"))?;
    Ok(deleted.rows_affected())
}

pub(super) async fn sweep(connection: &mut SqliteConnection, retention: &Retention) -> Result<u64> {
    let now = unix_millis();
    let old = now.saturating_sub(millis(retention.age));
    let mut deleted = 0;
    for (statement, bound) in [
        (
            "DELETE FROM log_messages WHERE rowid IN \
             (SELECT rowid FROM log_messages WHERE created_at < ?1 ORDER BY created_at LIMIT ?2)",
            old,
        ),
        (
            "DELETE FROM log_keys WHERE (log_key, idempotency_key) IN \
             (SELECT log_key, idempotency_key FROM log_keys WHERE expires_at <= ?1 LIMIT ?2)",
            now,
        ),
        (
            "DELETE FROM logs WHERE log_key IN (SELECT log_key FROM logs WHERE used_at < ?1 LIMIT ?2)",
            old.saturating_sub(POSITION_KEPT_MS),
        ),
    ] {
        let done = sqlx::query(statement).bind(bound).bind(ROWS_PER_SWEEP).execute(&mut *connection).await;
        deleted += done.map_err(failed("sweep logs"))?.rows_affected();
    }
    Ok(deleted)
}
