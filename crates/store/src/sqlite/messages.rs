//! Durable logs and inboxes in SQLite, over connections of their own: what is accepted here lies on the disk.

use std::{
    collections::HashSet,
    path::Path,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use async_trait::async_trait;
use roomcast_types::{Epoch, MessageId, Position, StoreTime, UserId};
use sqlx::{SqliteConnection, sqlite::SqliteSynchronous};
use tokio::sync::MutexGuard;

use super::{
    connection::{self, Connections},
    fault, inbox, log,
};
use crate::{
    counters::Counters,
    error::{Error, Result},
    log::{Append, Appended, Inbox, Log, LogKey, Page, Part, Put, Read, Retention, Stored},
};

/// Logs and inboxes in one SQLite database, beside the record of rooms in the same file. A commit waits until the disk
/// has it (`synchronous = FULL`), so an accepted message outlives a power failure; rooms and seats do without.
///
/// Ages are judged by this machine's wall clock.
#[derive(Debug)]
pub struct SqliteMessages {
    connections: Connections,
    transactions: AtomicU64,
    is_available: AtomicBool,
}

impl SqliteMessages {
    /// As [`SqliteRooms::open`](super::SqliteRooms::open).
    pub async fn open(path: &Path) -> Result<Self> {
        Ok(Self::over(Connections::file(path, SqliteSynchronous::Full).await?))
    }

    /// A database in memory that ends with this value.
    pub async fn ephemeral() -> Result<Self> {
        Ok(Self::over(Connections::memory().await?))
    }

    fn over(connections: Connections) -> Self {
        Self { connections, transactions: AtomicU64::new(0), is_available: AtomicBool::new(true) }
    }

    /// For tests: while `false`, every call answers `Unavailable` and changes nothing.
    pub fn set_available(&self, is_available: bool) {
        self.is_available.store(is_available, Ordering::SeqCst);
    }

    fn check_available(&self) -> Result<()> {
        if self.is_available.load(Ordering::SeqCst) {
            return Ok(());
        }
        let context = "it was switched off by a test".to_owned();
        Err(Error::Unavailable { backend: fault::BACKEND, context, source: None })
    }

    async fn reader(&self) -> Result<MutexGuard<'_, SqliteConnection>> {
        self.check_available()?;
        Ok(self.connections.reader().await)
    }

    async fn writer(&self) -> Result<MutexGuard<'_, SqliteConnection>> {
        self.check_available()?;
        let writer = self.connections.writer().await;
        self.transactions.fetch_add(1, Ordering::Relaxed);
        Ok(writer)
    }

    /// In steps, so that nobody waits long for the writer.
    async fn delete_messages(&self, key: &LogKey, epoch: Epoch) -> Result<()> {
        while log::delete_messages(&mut *self.writer().await?, key, epoch).await? > 0 {}
        Ok(())
    }
}

#[async_trait]
impl Log for SqliteMessages {
    async fn append(&self, append: &Append, retention: &Retention) -> Result<Appended> {
        log::append(&mut *self.writer().await?, append, retention).await
    }

    async fn read(&self, reads: &[Read]) -> Result<Vec<Page>> {
        let mut pages = Vec::with_capacity(reads.len());
        for read in reads {
            let mut page = log::page(&mut *self.reader().await?, read).await?;
            let may_begin = read.part == Part::Position && read.key != LogKey::Unaddressed;
            if page.position.is_none() && may_begin {
                page.position = Some(log::begin(&mut *self.writer().await?, &read.key).await?);
            }
            pages.push(page);
        }
        Ok(pages)
    }

    async fn renew(&self, key: &LogKey, epoch: Epoch) -> Result<Option<Position>> {
        let (position, is_renewed) = log::renew(&mut *self.writer().await?, key, epoch).await?;
        if is_renewed {
            self.delete_messages(key, epoch).await?;
        }
        Ok(position)
    }

    async fn remove(&self, key: &LogKey) -> Result<()> {
        if *key == LogKey::Unaddressed {
            return self.check_available();
        }
        let removed = log::remove(&mut *self.writer().await?, key).await?;
        if let Some(position) = removed {
            self.delete_messages(key, position.epoch).await?;
        }
        Ok(())
    }

    async fn sweep(&self, retention: &Retention) -> Result<u64> {
        log::sweep(&mut *self.writer().await?, retention).await
    }

    async fn ping(&self) -> Result<()> {
        connection::check_version(&mut *self.reader().await?).await
    }

    fn counters(&self) -> Counters {
        Counters { transactions: self.transactions.load(Ordering::Relaxed), ..Counters::default() }
    }
}

#[async_trait]
impl Inbox for SqliteMessages {
    async fn put(
        &self,
        users: &[UserId],
        message: &Stored,
        messages_max: u32,
        now: StoreTime,
    ) -> Result<Vec<Put>> {
        inbox::put(&mut *self.writer().await?, users, message, messages_max, now).await
    }

    async fn list(
        &self,
        user: &UserId,
        after: Option<MessageId>,
        limit: u32,
        bytes_max: u64,
        now: StoreTime,
    ) -> Result<(Vec<Stored>, bool)> {
        inbox::list(&mut *self.reader().await?, user, after, limit, bytes_max, now).await
    }

    async fn waiting(&self, users: &[UserId], now: StoreTime) -> Result<HashSet<UserId>> {
        inbox::waiting(&mut *self.reader().await?, users, now).await
    }

    async fn take(&self, user: &UserId, messages: &[MessageId]) -> Result<u64> {
        inbox::take(&mut *self.writer().await?, user, messages).await
    }

    async fn sweep(&self, now: StoreTime) -> Result<u64> {
        inbox::sweep(&mut *self.writer().await?, now).await
    }
}
