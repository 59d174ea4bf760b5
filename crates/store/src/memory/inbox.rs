//! Inboxes in process memory: of a deployment that is one process, and of tests.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
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

/// Inboxes that one sweep goes through at most.
const USERS_PER_SWEEP: usize = 1_000;

/// Payloads of all inboxes together, in bytes; what does not fit is refused, as a full server would.
const BYTES_MAX: u64 = 512 * 1024 * 1024;

/// What a message takes beside its payload, about.
const ROW_BYTES: u64 = 256;

type Rows = BTreeMap<MessageId, Stored>;

/// Inboxes of one process.
#[derive(Debug)]
pub struct MemoryInbox {
    inboxes: Mutex<Inboxes>,
    is_available: AtomicBool,
    bytes_max: u64,
}

#[derive(Debug, Default)]
struct Inboxes {
    users: HashMap<UserId, Rows>,
    bytes: u64,
}

impl Inboxes {
    /// Drops messages of a user; how many.
    fn drop_if(&mut self, user: &UserId, goes: impl Fn(&Stored) -> bool) -> u64 {
        let Some(rows) = self.users.get_mut(user) else { return 0 };
        let (before, mut freed) = (rows.len(), 0);
        rows.retain(|_, row| {
            let goes = goes(row);
            freed += if goes { size(row) } else { 0 };
            !goes
        });
        let dropped = before - rows.len();
        if rows.is_empty() {
            self.users.remove(user);
        }
        self.bytes -= freed;
        dropped as u64
    }
}

fn size(message: &Stored) -> u64 {
    message.payload.len() as u64 + ROW_BYTES
}

impl Default for MemoryInbox {
    fn default() -> Self {
        Self::with_bytes_max(BYTES_MAX)
    }
}

impl MemoryInbox {
    /// Nothing stored yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// One that is full when all messages take this many bytes.
    pub fn with_bytes_max(bytes_max: u64) -> Self {
        Self { inboxes: Mutex::default(), is_available: AtomicBool::new(true), bytes_max }
    }

    /// For tests: while `false`, every call answers `Unavailable` and changes nothing.
    pub fn set_available(&self, is_available: bool) {
        self.is_available.store(is_available, Ordering::SeqCst);
    }

    fn lock(&self) -> Result<MutexGuard<'_, Inboxes>> {
        if self.is_available.load(Ordering::SeqCst) {
            return Ok(self.inboxes.lock().unwrap_or_else(PoisonError::into_inner));
        }
        Err(unavailable("it was switched off"))
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
        for user in users {
            inboxes.drop_if(user, |row| row.expires_at <= now);
        }
        if inboxes.bytes + size(message) * users.len() as u64 > self.bytes_max {
            return Err(unavailable("it is full"));
        }
        let mut put = |user: &UserId| {
            let rows = inboxes.users.entry(user.clone()).or_default();
            if rows.contains_key(&message.message_id) {
                return Put::Stored;
            }
            if rows.len() >= messages_max as usize {
                return Put::Full;
            }
            rows.insert(message.message_id, message.clone());
            inboxes.bytes += size(message);
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
        let Some(rows) = inboxes.users.get(user) else { return Ok((Vec::new(), false)) };
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

    async fn waiting(&self, users: &[UserId], now: StoreTime) -> Result<HashSet<UserId>> {
        let inboxes = self.lock()?;
        let is_waiting = |rows: &Rows| rows.values().any(|row| row.expires_at > now);
        let waits = |user: &&UserId| inboxes.users.get(*user).is_some_and(is_waiting);
        Ok(users.iter().filter(waits).cloned().collect())
    }

    async fn take(&self, user: &UserId, messages: &[MessageId]) -> Result<u64> {
        Ok(self.lock()?.drop_if(user, |row| messages.contains(&row.message_id)))
    }

    async fn sweep(&self, now: StoreTime) -> Result<u64> {
        let mut inboxes = self.lock()?;
        let has_expired = |rows: &Rows| rows.values().any(|row| row.expires_at <= now);
        let users: Vec<UserId> = inboxes
            .users
            .iter()
            .filter(|(_, rows)| has_expired(rows))
            .map(|(user, _)| user.clone())
            .take(USERS_PER_SWEEP)
            .collect();
        Ok(users.iter().map(|user| inboxes.drop_if(user, |row| row.expires_at <= now)).sum())
    }
}

fn unavailable(why: &str) -> Error {
    Error::Unavailable { backend: "memory", context: why.to_owned(), source: None }
}
