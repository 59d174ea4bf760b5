//! Inboxes in process memory: of a deployment that is one process, and of tests.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Bound,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;
use roomcast_types::{MessageId, StoreTime, UserId};

use crate::{
    error::{Error, Result},
    log::{Inbox, Put, Stored},
};

/// Messages that one sweep deletes at most.
const SWEPT_MAX: usize = 1_000;

type Rows = BTreeMap<MessageId, Stored>;

/// Inboxes of one process.
#[derive(Debug)]
pub struct MemoryInbox {
    users: Mutex<HashMap<UserId, Rows>>,
    is_available: AtomicBool,
}

impl Default for MemoryInbox {
    fn default() -> Self {
        Self { users: Mutex::default(), is_available: AtomicBool::new(true) }
    }
}

impl MemoryInbox {
    /// Nothing stored yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// For tests: while `false`, every call answers `Unavailable` and changes nothing.
    pub fn set_available(&self, is_available: bool) {
        self.is_available.store(is_available, Ordering::SeqCst);
    }

    fn lock(&self) -> Result<MutexGuard<'_, HashMap<UserId, Rows>>> {
        if self.is_available.load(Ordering::SeqCst) {
            return Ok(self.users.lock().unwrap_or_else(PoisonError::into_inner));
        }
        Err(Error::Unavailable { backend: "memory", context: "switched off".into(), source: None })
    }
}

#[async_trait]
impl Inbox for MemoryInbox {
    async fn put(
        &self,
        users: &[UserId],
        message: &Stored,
        messages_max: u32,
        now: StoreTime,
    ) -> Result<Vec<Put>> {
        let mut inboxes = self.lock()?;
        let mut put = |user: &UserId| {
            let rows = inboxes.entry(user.clone()).or_default();
            rows.retain(|_, row| row.expires_at > now);
            if rows.contains_key(&message.message_id) {
                return Put::Stored;
            }
            if rows.len() >= messages_max as usize {
                return Put::Full;
            }
            rows.insert(message.message_id, message.clone());
            Put::Stored
        };
        Ok(users.iter().map(&mut put).collect())
    }

    async fn list(
        &self,
        user: &UserId,
        after: Option<MessageId>,
        limit: u32,
        bytes_max: u64,
        now: StoreTime,
    ) -> Result<(Vec<Stored>, bool)> {
        let inboxes = self.lock()?;
        let Some(rows) = inboxes.get(user) else { return Ok((Vec::new(), false)) };
        let (mut found, mut bytes) = (Vec::new(), 0);
        let after = after.map_or(Bound::Unbounded, Bound::Excluded);
        for row in rows.range((after, Bound::Unbounded)).map(|(_, row)| row) {
            if row.expires_at <= now {
                continue;
            }
            bytes += row.payload.len() as u64;
            if found.len() >= limit as usize || (bytes > bytes_max && !found.is_empty()) {
                return Ok((found, true));
            }
            found.push(row.clone());
        }
        Ok((found, false))
    }

    async fn take(&self, user: &UserId, messages: &[MessageId]) -> Result<u64> {
        let mut inboxes = self.lock()?;
        let Some(rows) = inboxes.get_mut(user) else { return Ok(0) };
        let taken = messages.iter().filter(|id| rows.remove(id).is_some()).count();
        if rows.is_empty() {
            inboxes.remove(user);
        }
        Ok(taken as u64)
    }

    async fn sweep(&self, now: StoreTime) -> Result<u64> {
        let mut inboxes = self.lock()?;
        let mut deleted = 0;
        for rows in inboxes.values_mut() {
            let left = SWEPT_MAX - deleted;
            let expired = rows.values().filter(|row| row.expires_at <= now).map(|row| row.message_id);
            let expired: Vec<_> = expired.take(left).collect();
            deleted += expired.len();
            for id in expired {
                rows.remove(&id);
            }
        }
        inboxes.retain(|_, rows| !rows.is_empty());
        Ok(deleted as u64)
    }
}
