//! Questions to a log: what it has of them without payloads is read in one statement, so in one state of the log, then
//! the payloads that fit.

use bytes::Bytes;
use sqlx::mysql::MySqlRow;

use super::{begin, line, now_ms};
use crate::{
    log::{Entry, LogKey, Page, Part, Read},
    mysql::{
        connection::Lease,
        fault::{Fault, Result},
        row::{self, column, unsigned},
    },
    sql::log::{Line, bits, fitting, log_key, millis, offset_bound},
};

/// The log with its oldest message, and one line per message in question.
macro_rules! question {
    ($order:literal) => {
        concat!(
            "SELECT l.epoch, l.last_offset, (SELECT f.log_offset FROM log_messages f WHERE f.log_key = l.log_key \
             AND f.epoch = l.epoch AND f.created_at >= ",
            now_ms!(),
            " - ? ORDER BY f.log_offset LIMIT 1) AS first_offset, m.log_offset, m.payload_bytes, m.bytes_before \
             FROM logs l LEFT JOIN log_messages m ON m.log_key = l.log_key AND m.epoch = l.epoch \
             AND m.log_offset > ? AND m.log_offset <= ? AND m.created_at >= ",
            now_ms!(),
            " - ? WHERE l.log_key = ? ORDER BY m.log_offset ",
            $order,
            " LIMIT ?"
        )
    };
}

/// Begins the log when its position is asked for and it has none.
pub(in crate::mysql) async fn page(lease: &mut Lease<'_>, read: &Read) -> Result<Page> {
    let key = log_key(&read.key);
    let mut rows = look(lease, &key, read).await?;
    if rows.is_empty() && read.part == Part::Position && read.key != LogKey::Unaddressed {
        begin(lease, &key).await?;
        rows = look(lease, &key, read).await?;
    }
    let Some(head) = rows.first() else {
        return Ok(Page { position: None, first: 1, entries: Vec::new(), is_cut: false });
    };
    let position = row::position(head, "last_offset")?;
    let first = column::<Option<i64>>(head, "first_offset")?;
    let first = first.map_or(unsigned(head, "last_offset")? + 1, |first| first as u64);
    // A log without a message in question is one row without a line.
    let is_empty = column::<Option<i64>>(head, "log_offset")?.is_none();
    if is_empty || read.part == Part::Position {
        return Ok(Page { position, first, entries: Vec::new(), is_cut: false });
    }
    let lines = rows.iter().map(line).collect::<crate::Result<Vec<_>>>()?;
    let (count, is_cut) = fitting(&lines, read);
    let epoch = position.map_or(0, |position| bits(position.epoch.as_u64()));
    let entries = entries(lease, &key, epoch, &lines[..count]).await?;
    if entries.len() != count {
        return Err(Fault::overtaken("messages went while they were read"));
    }
    Ok(Page { position, first, entries, is_cut })
}

async fn look(lease: &mut Lease<'_>, key: &[u8], read: &Read) -> Result<Vec<MySqlRow>> {
    let (query, above, up_to, limit) = match read.part {
        Part::Position => (question!("ASC"), u64::MAX, 0, 0),
        Part::After { offset, up_to } => (question!("ASC"), offset, up_to, read.limit),
        Part::Before { offset } => (question!("DESC"), 0, offset.saturating_sub(1), read.limit),
    };
    let age = millis(read.age);
    let query = sqlx::query(query)
        .bind(age)
        .bind(offset_bound(above))
        .bind(offset_bound(up_to))
        .bind(age)
        .bind(key)
        .bind(i64::from(limit) + 1);
    lease.all("look a log through", query).await
}

/// With their payloads, oldest first.
async fn entries(lease: &mut Lease<'_>, key: &[u8], epoch: i64, lines: &[Line]) -> Result<Vec<Entry>> {
    let (Some(first), Some(last)) = (lines.first(), lines.last()) else { return Ok(Vec::new()) };
    let query = sqlx::query(
        "SELECT log_offset, message_id, payload FROM log_messages \
         WHERE log_key = ? AND epoch = ? AND log_offset BETWEEN ? AND ? ORDER BY log_offset",
    );
    let query = query
        .bind(key)
        .bind(epoch)
        .bind(first.offset.min(last.offset) as i64)
        .bind(first.offset.max(last.offset) as i64);
    let found = lease.all("read a log", query).await?;
    Ok(found.iter().map(entry).collect::<crate::Result<_>>()?)
}

fn entry(row: &MySqlRow) -> crate::Result<Entry> {
    let payload: &[u8] = column(row, "payload")?;
    let (offset, message_id) = (unsigned(row, "log_offset")?, row::message_id(row)?);
    Ok(Entry { offset, message_id, payload: Bytes::copy_from_slice(payload) })
}
