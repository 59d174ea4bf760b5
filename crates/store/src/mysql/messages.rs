//! Durable logs and inboxes in MySQL or MariaDB, shared by any number of push-managers and controllers.

use std::{collections::HashSet, sync::Arc};

use async_trait::async_trait;
use roomcast_runtime::config::{Database, MysqlTarget};
use roomcast_types::{Epoch, MessageId, Position, StoreTime, UserId};

use super::{
    inbox,
    log::{self, Groups},
    schema,
    server::{Server, read},
};
use crate::{
    counters::Counters,
    error::Result,
    log::{Append, Appended, Inbox, Log, LogKey, Page, Put, Read, Retention, Stored},
};

/// Logs and inboxes in a database of a MySQL or MariaDB server. Ages are judged by the server's clock.
///
/// As with [`MysqlRooms`](super::MysqlRooms), only the lost answer to a COMMIT leaves it open whether a call took effect.
/// A transaction that met a conflict was rolled back, and is begun anew; one whose outcome is unknown is not.
#[derive(Debug)]
pub struct MysqlMessages {
    server: Arc<Server>,
    groups: Groups,
}

impl MysqlMessages {
    /// A handle that connects when it is first used. Only settings that can never work are errors.
    pub fn open(target: &MysqlTarget, section: &Database) -> Result<Self> {
        let server = Arc::new(Server::new(target, section)?);
        Ok(Self { groups: Groups::new(server.clone()), server })
    }

    /// In steps, so that nobody waits long for a lock. What a crash leaves behind goes with its age.
    async fn delete_messages(&self, key: &LogKey, epoch: Epoch) -> Result<()> {
        while read!(self, lease => log::delete_messages(lease, key, epoch)).await? > 0 {}
        Ok(())
    }
}

#[async_trait]
impl Log for MysqlMessages {
    async fn append(&self, append: &Append, retention: &Retention) -> Result<Appended> {
        if let Some(appended) = self.groups.append(append, retention).await? {
            return Ok(appended);
        }
        self.server.call(|| log::append(&self.server, append, retention)).await
    }

    async fn read(&self, reads: &[Read]) -> Result<Vec<Page>> {
        let mut pages = Vec::with_capacity(reads.len());
        for question in reads {
            pages.push(read!(self, lease => log::page(lease, question)).await?);
        }
        Ok(pages)
    }

    async fn renew(&self, key: &LogKey, epoch: Epoch) -> Result<Option<Position>> {
        let (position, is_renewed) = self.server.call(|| log::renew(&self.server, key, epoch)).await?;
        if is_renewed {
            self.delete_messages(key, epoch).await?;
        }
        Ok(position)
    }

    async fn remove(&self, key: &LogKey) -> Result<()> {
        if *key == LogKey::Unaddressed {
            return Ok(());
        }
        let removed = self.server.call(|| log::remove(&self.server, key)).await?;
        if let Some(position) = removed {
            self.delete_messages(key, position.epoch).await?;
        }
        Ok(())
    }

    async fn sweep(&self, retention: &Retention) -> Result<u64> {
        read!(self, lease => log::sweep(lease, retention)).await
    }

    async fn ping(&self) -> Result<()> {
        read!(self, lease => schema::check_version(lease)).await
    }

    fn counters(&self) -> Counters {
        self.server.counters()
    }
}

#[async_trait]
impl Inbox for MysqlMessages {
    async fn put(
        &self,
        users: &[UserId],
        message: &Stored,
        messages_max: u32,
        now: StoreTime,
    ) -> Result<Vec<Put>> {
        let mut put = inbox::Putting::new(users);
        for piece in put.pieces() {
            let stored = self.server.call(|| inbox::put(&self.server, &piece, message, messages_max, now));
            put.note(stored.await?);
        }
        Ok(put.answers(users))
    }

    async fn list(
        &self,
        user: &UserId,
        after: Option<MessageId>,
        limit: u32,
        bytes_max: u64,
        now: StoreTime,
    ) -> Result<(Vec<Stored>, bool)> {
        read!(self, lease => inbox::list(lease, user, after, limit, bytes_max, now)).await
    }

    async fn waiting(&self, users: &[UserId], now: StoreTime) -> Result<HashSet<UserId>> {
        read!(self, lease => inbox::waiting(lease, users, now)).await
    }

    async fn take(&self, user: &UserId, messages: &[MessageId]) -> Result<u64> {
        read!(self, lease => inbox::take(lease, user, messages)).await
    }

    async fn sweep(&self, now: StoreTime) -> Result<u64> {
        read!(self, lease => inbox::sweep(lease, now)).await
    }
}
