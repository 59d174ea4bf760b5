//! Statements on inboxes.

use std::collections::HashSet;

use bytes::Bytes;
use roomcast_types::{MessageId, StoreTime, UserId};
use sqlx::{SqliteConnection, sqlite::SqliteRow};

use super::{
    fault::failed,
    row::{self, column},
};
use crate::{
    error::Result,
    log::{Put, Stored},
    sql::log::ROWS_PER_SWEEP,
};

pub(super) async fn put(
    connection: &mut SqliteConnection,
    users: &[UserId],
    message: &Stored,
    messages_max: u32,
    now: StoreTime,
) -> Result<Vec<Put>> {
    let mut transaction = super::begin(connection).await?;
    let mut answers = Vec::with_capacity(users.len());
    for user in users {
        let (count, is_there): (i64, bool) = sqlx::query_as(
            "SELECT COUNT(*), COALESCE(MAX(message_id = ?2), 0) FROM inbox_messages \
             WHERE user_id = ?1 AND expires_at > ?3",
        )
        .bind(user.as_str().as_bytes())
        .bind(&message.message_id.to_bytes()[..])
        .bind(now.as_millis())
        .fetch_one(&mut *transaction)
        .await
        .map_err(failed("count the messages of an inbox"))?;
        if !is_there && count >= i64::from(messages_max) {
            answers.push(Put::Full);
            continue;
        }
        write(&mut transaction, user, message).await?;
        answers.push(Put::Stored);
    }
    super::commit(transaction).await?;
    Ok(answers)
}

async fn write(connection: &mut SqliteConnection, user: &UserId, message: &Stored) -> Result<()> {
    sqlx::query(
        "INSERT INTO inbox_messages (user_id, message_id, payload, expires_at) VALUES (?1, ?2, ?3, ?4) \
         ON CONFLICT (user_id, message_id) DO NOTHING",
    )
    .bind(user.as_str().as_bytes())
    .bind(&message.message_id.to_bytes()[..])
    .bind(&message.payload[..])
    .bind(message.expires_at.as_millis())
    .execute(connection)
    .await
    .map_err(failed("put a message into an inbox"))?;
    Ok(())
}

pub(super) async fn list(
    connection: &mut SqliteConnection,
    user: &UserId,
    after: Option<MessageId>,
    limit: u32,
    bytes_max: u64,
    now: StoreTime,
) -> Result<(Vec<Stored>, bool)> {
    // Nothing sorts before an empty one.
    let after = after.map_or(Vec::new(), |after| after.to_bytes().to_vec());
    let found = sqlx::query(
        "SELECT message_id, payload, expires_at FROM inbox_messages \
         WHERE user_id = ?1 AND message_id > ?2 AND expires_at > ?3 ORDER BY message_id LIMIT ?4",
    )
    .bind(user.as_str().as_bytes())
    .bind(after)
    .bind(now.as_millis())
    .bind(i64::from(limit) + 1)
    .fetch_all(connection)
    .await
    .map_err(failed("read an inbox"))?;
    let mut messages = found.iter().map(stored).collect::<Result<Vec<_>>>()?;
    let is_cut = Stored::cut(&mut messages, limit, bytes_max);
    Ok((messages, is_cut))
}

pub(super) async fn waiting(
    connection: &mut SqliteConnection,
    users: &[UserId],
    now: StoreTime,
) -> Result<HashSet<UserId>> {
    let mut waiting = HashSet::new();
    for user in users {
        let is_waiting: bool = sqlx::query_scalar(
            "SELECT EXISTS (SELECT 1 FROM inbox_messages WHERE user_id = ?1 AND expires_at > ?2)",
        )
        .bind(user.as_str().as_bytes())
        .bind(now.as_millis())
        .fetch_one(&mut *connection)
        .await
        .map_err(failed("find inboxes with messages"))?;
        if is_waiting {
            waiting.insert(user.clone());
        }
    }
    Ok(waiting)
}

fn stored(row: &SqliteRow) -> Result<Stored> {
    let payload: &[u8] = column(row, "payload")?;
    Ok(Stored {
        message_id: row::message_id(row)?,
        payload: Bytes::copy_from_slice(payload),
        expires_at: StoreTime::from_millis(column(row, "expires_at")?),
    })
}

pub(super) async fn take(
    connection: &mut SqliteConnection,
    user: &UserId,
    messages: &[MessageId],
) -> Result<u64> {
    let mut transaction = super::begin(connection).await?;
    let mut taken = 0;
    for message in messages {
        let deleted = sqlx::query("DELETE FROM inbox_messages WHERE user_id = ?1 AND message_id = ?2")
            .bind(user.as_str().as_bytes())
            .bind(&message.to_bytes()[..])
            .execute(&mut *transaction)
            .await
            .map_err(failed("take messages out of an inbox"))?;
        taken += deleted.rows_affected();
    }
    super::commit(transaction).await?;
    Ok(taken)
}

pub(super) async fn sweep(connection: &mut SqliteConnection, now: StoreTime) -> Result<u64> {
    let deleted = sqlx::query(
        "DELETE FROM inbox_messages WHERE rowid IN \
         (SELECT rowid FROM inbox_messages WHERE expires_at <= ?1 ORDER BY expires_at LIMIT ?2)",
    )
    .bind(now.as_millis())
    .bind(ROWS_PER_SWEEP)
    .execute(connection)
    .await
    .map_err(failed("sweep inboxes"))?;
    Ok(deleted.rows_affected())
}
