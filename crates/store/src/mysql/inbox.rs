//! Statements on inboxes.

use std::collections::{BTreeSet, HashSet};

use bytes::Bytes;
use roomcast_types::{MessageId, StoreTime, UserId};
use sqlx::{AssertSqlSafe, mysql::MySqlRow};

use super::{
    batch,
    connection::{Lease, Transaction},
    fault::Result,
    row::{self, column, unsigned},
    server::Server,
};
use crate::{
    log::{Put, Stored},
    sql::log::ROWS_PER_SWEEP,
};

/// A lock's row that nobody needed for so long goes; who needs it makes it anew.
const LOCK_KEPT: std::time::Duration = std::time::Duration::from_secs(24 * 60 * 60);

/// A message on its way into the inboxes of many users.
pub(super) struct Putting<'a> {
    /// In order, each once: all who put take locks in the same order.
    users: BTreeSet<&'a str>,
    full: HashSet<String>,
}

impl<'a> Putting<'a> {
    pub(super) fn new(users: &'a [UserId]) -> Self {
        Self { users: users.iter().map(UserId::as_str).collect(), full: HashSet::new() }
    }

    /// Users of one transaction each.
    pub(super) fn pieces(&self) -> Vec<Vec<&'a str>> {
        let users: Vec<&str> = self.users.iter().copied().collect();
        batch::pieces(&users).map(|piece| piece.into_iter().copied().collect()).collect()
    }

    /// Who has no room.
    pub(super) fn note(&mut self, full: HashSet<String>) {
        self.full.extend(full);
    }

    pub(super) fn answers(&self, users: &[UserId]) -> Vec<Put> {
        let answer = |user: &UserId| if self.full.contains(user.as_str()) { Put::Full } else { Put::Stored };
        users.iter().map(answer).collect()
    }
}

/// Puts a message into the inboxes of a piece of the users; whose are full.
pub(super) async fn put(
    server: &Server,
    users: &[&str],
    message: &Stored,
    messages_max: u32,
    now: StoreTime,
) -> Result<HashSet<String>> {
    let mut transaction = server.begin().await?;
    lock(&mut transaction, users, now).await?;
    let full = full(&mut transaction, users, message.message_id, messages_max, now).await?;
    let with_room: Vec<&str> = users.iter().copied().filter(|user| !full.contains(*user)).collect();
    for piece in batch::pieces(&with_room) {
        write(&mut transaction, &piece, message).await?;
    }
    transaction.commit().await?;
    Ok(full)
}

async fn lock(transaction: &mut Transaction<'_>, users: &[&str], now: StoreTime) -> Result<()> {
    let text = batch::statement(
        "INSERT INTO inbox_locks (user_id, used_at) VALUES ",
        "(?, ?)",
        users.len(),
        " ON DUPLICATE KEY UPDATE used_at = VALUES(used_at)",
    );
    let mut upsert = sqlx::query(AssertSqlSafe(text));
    for user in users {
        upsert = upsert.bind(user.as_bytes()).bind(now.as_millis());
    }
    transaction.execute("lock inboxes", upsert).await?;
    Ok(())
}

/// Whose inbox has no place, and not this message either.
async fn full(
    transaction: &mut Transaction<'_>,
    users: &[&str],
    message: MessageId,
    messages_max: u32,
    now: StoreTime,
) -> Result<HashSet<String>> {
    let text = batch::statement(
        "SELECT user_id, COUNT(*) AS messages, CAST(SUM(message_id = ?) AS SIGNED) AS is_there FROM inbox_messages \
         WHERE expires_at > ? AND user_id IN (",
        "?",
        users.len(),
        ") GROUP BY user_id",
    );
    let message = message.to_bytes();
    let mut query = sqlx::query(AssertSqlSafe(text)).bind(&message[..]).bind(now.as_millis());
    for user in users {
        query = query.bind(user.as_bytes());
    }
    let mut full = HashSet::new();
    for found in transaction.all("count the messages of inboxes", query).await? {
        let is_there = unsigned(&found, "is_there")? > 0;
        if !is_there && unsigned(&found, "messages")? >= u64::from(messages_max) {
            full.insert(row::user_id(&found)?.into());
        }
    }
    Ok(full)
}

/// The payload travels once: the rows of the locks, which are there, name the users.
async fn write(transaction: &mut Transaction<'_>, users: &[&&str], message: &Stored) -> Result<()> {
    let text = batch::statement(
        "INSERT IGNORE INTO inbox_messages (user_id, message_id, payload, expires_at) \
         SELECT user_id, ?, ?, ? FROM inbox_locks WHERE user_id IN (",
        "?",
        users.len(),
        ")",
    );
    let message_id = message.message_id.to_bytes();
    let mut insert = sqlx::query(AssertSqlSafe(text))
        .bind(&message_id[..])
        .bind(&message.payload[..])
        .bind(message.expires_at.as_millis());
    for user in users {
        insert = insert.bind(user.as_bytes());
    }
    transaction.execute("put a message into inboxes", insert).await?;
    Ok(())
}

pub(super) async fn list(
    lease: &mut Lease<'_>,
    user: &UserId,
    after: Option<MessageId>,
    limit: u32,
    bytes_max: u64,
    now: StoreTime,
) -> Result<(Vec<Stored>, bool)> {
    // Nothing sorts before an empty one.
    let after = after.map_or(Vec::new(), |after| after.to_bytes().to_vec());
    let query = sqlx::query(
        "SELECT message_id, payload, expires_at FROM inbox_messages \
         WHERE user_id = ? AND message_id > ? AND expires_at > ? ORDER BY message_id LIMIT ?",
    );
    let query =
        query.bind(user.as_str().as_bytes()).bind(after).bind(now.as_millis()).bind(i64::from(limit) + 1);
    let found = lease.all("read an inbox", query).await?;
    let mut messages = found.iter().map(stored).collect::<crate::Result<Vec<_>>>()?;
    let is_cut = Stored::cut(&mut messages, limit, bytes_max);
    Ok((messages, is_cut))
}

pub(super) async fn waiting(
    lease: &mut Lease<'_>,
    users: &[UserId],
    now: StoreTime,
) -> Result<HashSet<UserId>> {
    let mut waiting = HashSet::new();
    for piece in batch::pieces(users) {
        let text = batch::statement(
            "SELECT DISTINCT user_id FROM inbox_messages WHERE expires_at > ? AND user_id IN (",
            "?",
            piece.len(),
            ")",
        );
        let mut query = sqlx::query(AssertSqlSafe(text)).bind(now.as_millis());
        for user in piece {
            query = query.bind(user.as_str().as_bytes());
        }
        for found in lease.all("find inboxes with messages", query).await? {
            waiting.insert(row::user_id(&found)?);
        }
    }
    Ok(waiting)
}

fn stored(row: &MySqlRow) -> crate::Result<Stored> {
    let payload: &[u8] = column(row, "payload")?;
    Ok(Stored {
        message_id: row::message_id(row)?,
        payload: Bytes::copy_from_slice(payload),
        expires_at: StoreTime::from_millis(column(row, "expires_at")?),
    })
}

pub(super) async fn take(lease: &mut Lease<'_>, user: &UserId, messages: &[MessageId]) -> Result<u64> {
    let mut taken = 0;
    for piece in batch::pieces(messages) {
        let text = batch::statement(
            "DELETE FROM inbox_messages WHERE user_id = ? AND message_id IN (",
            "?",
            piece.len(),
            ")",
        );
        let mut delete = sqlx::query(AssertSqlSafe(text)).bind(user.as_str().as_bytes());
        for message in piece {
            delete = delete.bind(message.to_bytes().to_vec());
        }
        taken += lease.execute("take messages out of an inbox", delete).await?;
    }
    Ok(taken)
}

pub(super) async fn sweep(lease: &mut Lease<'_>, now: StoreTime) -> Result<u64> {
    let mut deleted = 0;
    for (statement, bound) in [
        ("DELETE FROM inbox_messages WHERE expires_at <= ? ORDER BY expires_at LIMIT ?", now),
        ("DELETE FROM inbox_locks WHERE used_at <= ? ORDER BY used_at LIMIT ?", now.minus(LOCK_KEPT)),
    ] {
        let delete = sqlx::query(statement).bind(bound.as_millis()).bind(ROWS_PER_SWEEP);
        deleted += lease.execute("sweep inboxes", delete).await?;
    }
    Ok(deleted)
}
