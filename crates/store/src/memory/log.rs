//! Logs in process memory: of a deployment that is one process, and of tests.

mod kept;

use std::{
    collections::HashMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use foldhash::fast::RandomState;
use roomcast_types::{Epoch, MessageId, Position};
use tokio::time::Instant;

use self::kept::Kept;
use crate::{
    counters::Counters,
    error::{Error, Result},
    log::{Append, Appended, Idempotency, Log, LogKey, Page, Part, Read, Retention},
};

/// A log without messages is forgotten when nobody asked for its position for so long.
const POSITION_KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// Payloads of all logs together, in bytes; what does not fit is refused, as a full server would.
const BYTES_MAX: u64 = 512 * 1024 * 1024;

/// Logs, and idempotency keys; a further one is refused. Bounds what ids that nobody uses again can take.
const COUNT_MAX: usize = 1_000_000;

/// Appends between two looks for what is over, at least: a look visits everything.
const APPENDS_PER_LOOK: usize = 1_024;

/// Between two looks of logs that are full.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Logs of one process. Keeps itself within its bounds: every thousand appends, or as many as there are logs, it drops
/// what is over its age; when that is not enough, it answers `Unavailable`.
#[derive(Debug)]
pub struct MemoryLog {
    state: Mutex<State>,
    is_available: AtomicBool,
    refused: AtomicU64,
    bytes_max: u64,
}

#[derive(Debug, Default)]
struct State {
    logs: HashMap<LogKey, Kept, RandomState>,
    keys: HashMap<(LogKey, String), Used>,
    /// Payloads of all logs.
    bytes: u64,
    appends_since_look: usize,
    looked_at: Option<Instant>,
}

#[derive(Debug, Clone)]
struct Used {
    digest: u64,
    message_id: MessageId,
    position: Option<Position>,
    until: Instant,
}

/// What the logs held at one moment; see [`MemoryLog::dump`].
#[derive(Debug)]
pub struct Dump(HashMap<LogKey, Kept, RandomState>);

impl Default for MemoryLog {
    fn default() -> Self {
        Self::with_bytes_max(BYTES_MAX)
    }
}

impl MemoryLog {
    /// Nothing logged yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// One that is full when the payloads of all logs have this many bytes.
    pub fn with_bytes_max(bytes_max: u64) -> Self {
        let (is_available, refused) = (AtomicBool::new(true), AtomicU64::new(0));
        Self { state: Mutex::default(), is_available, refused, bytes_max }
    }

    /// For tests: while `false`, every call answers `Unavailable` and changes nothing.
    pub fn set_available(&self, is_available: bool) {
        self.is_available.store(is_available, Ordering::SeqCst);
    }

    /// For tests: loses everything at once, as FLUSHALL would.
    pub fn flush(&self) {
        *self.lock() = State::default();
    }

    /// For tests: what a dump of a store would hold now.
    pub fn dump(&self) -> Dump {
        Dump(self.lock().logs.clone())
    }

    /// For tests: goes back to a dump, as a store that is restarted from an old one.
    pub fn restore(&self, dump: Dump) {
        let bytes = dump.0.values().map(Kept::bytes).sum();
        *self.lock() = State { logs: dump.0, bytes, ..State::default() };
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check_available(&self) -> Result<()> {
        if self.is_available.load(Ordering::SeqCst) {
            Ok(())
        } else {
            Err(self.refuse("it was switched off"))
        }
    }

    fn refuse(&self, why: &str) -> Error {
        self.refused.fetch_add(1, Ordering::Relaxed);
        Error::Unavailable { backend: "memory", context: why.to_owned(), source: None }
    }
}

impl State {
    /// The answer to an append whose key was used before.
    fn used(&self, log: &LogKey, own: &Idempotency, now: Instant) -> Option<Appended> {
        let first = self.keys.get(&(log.clone(), own.key.clone())).filter(|first| first.until > now)?;
        let Used { message_id, digest, position, .. } = *first;
        if digest != own.digest {
            return Some(Appended::KeyTaken { message_id });
        }
        let epoch = self.logs.get(log).map(|kept| kept.position().epoch);
        let position = position.filter(|position| Some(position.epoch) == epoch);
        Some(Appended::Repeat { message_id, position })
    }

    /// Whether so many more bytes fit; `log` may be new.
    fn has_room(&self, log: &LogKey, bytes: u64, bytes_max: u64) -> bool {
        self.bytes + bytes <= bytes_max
            && self.keys.len() < COUNT_MAX
            && (self.logs.len() < COUNT_MAX || self.logs.contains_key(log))
    }

    fn is_look_due(&self, is_full: bool, now: Instant) -> bool {
        let is_rested = self.looked_at.is_none_or(|at| now.duration_since(at) >= LOOK_EVERY);
        self.appends_since_look >= APPENDS_PER_LOOK.max(self.logs.len()) || (is_full && is_rested)
    }

    /// Drops what is over; how much.
    fn look(&mut self, retention: &Retention, now: Instant) -> u64 {
        (self.appends_since_look, self.looked_at) = (0, Some(now));
        let (logs, keys) = (self.logs.len(), self.keys.len());
        let mut messages = 0;
        for kept in self.logs.values_mut() {
            messages += kept.drop_old(retention.age, now);
        }
        self.logs.retain(|_, kept| !kept.is_empty() || now.duration_since(kept.used_at()) < POSITION_KEPT);
        self.keys.retain(|_, used| used.until > now);
        self.bytes = self.logs.values().map(Kept::bytes).sum();
        messages + (logs - self.logs.len() + keys - self.keys.len()) as u64
    }
}

#[async_trait]
impl Log for MemoryLog {
    async fn append(&self, append: &Append, retention: &Retention) -> Result<Appended> {
        self.check_available()?;
        let now = Instant::now();
        let mut state = self.lock();
        if let Some(answer) = append.idempotency.as_ref().and_then(|own| state.used(&append.key, own, now)) {
            return Ok(answer);
        }
        let payload = append.payload.as_ref().filter(|_| append.key != LogKey::Unaddressed);
        let bytes = payload.map_or(0, |payload| payload.len() as u64);
        state.appends_since_look += 1;
        if state.is_look_due(!state.has_room(&append.key, bytes, self.bytes_max), now) {
            state.look(retention, now);
        }
        if !state.has_room(&append.key, bytes, self.bytes_max) {
            return Err(self.refuse("it is full"));
        }
        let position = payload.map(|payload| {
            let kept = state.logs.entry(append.key.clone()).or_insert_with(|| Kept::new(now));
            let before = kept.bytes();
            let position = kept.append(append.message_id, payload.clone(), retention, now);
            let after = kept.bytes();
            state.bytes = state.bytes + after - before;
            position
        });
        if let Some(own) = &append.idempotency {
            let (digest, message_id) = (own.digest, append.message_id);
            let first = Used { digest, message_id, position, until: now + retention.idempotency };
            state.keys.insert((append.key.clone(), own.key.clone()), first);
        }
        Ok(Appended::New(position))
    }

    async fn read(&self, reads: &[Read]) -> Result<Vec<Page>> {
        self.check_available()?;
        let now = Instant::now();
        let mut state = self.lock();
        let page = |read: &Read| {
            let may_begin = read.part == Part::Position && read.key != LogKey::Unaddressed;
            if may_begin && state.logs.len() < COUNT_MAX {
                state.logs.entry(read.key.clone()).or_insert_with(|| Kept::new(now));
            }
            let nothing = Page { position: None, first: 1, entries: Vec::new(), is_cut: false };
            state.logs.get_mut(&read.key).map_or(nothing, |kept| kept.page(read, now))
        };
        Ok(reads.iter().map(page).collect())
    }

    async fn renew(&self, key: &LogKey, epoch: Epoch) -> Result<Option<Position>> {
        self.check_available()?;
        let mut state = self.lock();
        let Some(kept) = state.logs.get_mut(key) else { return Ok(None) };
        let mut freed = 0;
        if kept.position().epoch == epoch {
            freed = kept.bytes();
            *kept = Kept::new(Instant::now());
        }
        let position = kept.position();
        state.bytes -= freed;
        Ok(Some(position))
    }

    async fn remove(&self, key: &LogKey) -> Result<()> {
        self.check_available()?;
        if *key == LogKey::Unaddressed {
            return Ok(());
        }
        let mut state = self.lock();
        if let Some(kept) = state.logs.remove(key) {
            state.bytes -= kept.bytes();
        }
        state.keys.retain(|(of, _), _| of != key);
        Ok(())
    }

    async fn sweep(&self, retention: &Retention) -> Result<u64> {
        self.check_available()?;
        Ok(self.lock().look(retention, Instant::now()))
    }

    async fn ping(&self) -> Result<()> {
        self.check_available()
    }

    fn counters(&self) -> Counters {
        Counters { calls_refused: self.refused.load(Ordering::Relaxed), ..Counters::default() }
    }
}
