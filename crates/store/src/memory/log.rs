//! Logs in process memory: of a deployment that is one process, and of tests.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use roomcast_types::{Epoch, MessageId, Position};
use tokio::time::Instant;

use crate::{
    counters::Counters,
    error::{Error, Result},
    log::{Append, Appended, Entry, Log, LogKey, Page, Part, Read, Retention},
};

/// Idempotency keys between two looks for those that are over.
const KEYS_PER_SWEEP: usize = 1_024;

/// Logs of one process.
#[derive(Debug)]
pub struct MemoryLog {
    state: Mutex<State>,
    is_available: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    logs: HashMap<LogKey, Kept>,
    keys: HashMap<(LogKey, String), Used>,
    keys_since_sweep: usize,
}

#[derive(Debug, Clone)]
struct Kept {
    position: Position,
    entries: VecDeque<Line>,
    bytes: u64,
}

#[derive(Debug, Clone)]
struct Line {
    offset: u64,
    message_id: MessageId,
    payload: Bytes,
    at: Instant,
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
pub struct Dump(HashMap<LogKey, Kept>);

impl Kept {
    fn new(offset: u64) -> Self {
        Self { position: Position { epoch: Epoch::random(), offset }, entries: VecDeque::new(), bytes: 0 }
    }

    fn trim(&mut self, retention: &Retention, now: Instant) {
        while self.entries.len() > 1 && self.is_over(retention, now) {
            if let Some(line) = self.entries.pop_front() {
                self.bytes -= line.payload.len() as u64;
            }
        }
    }

    fn is_over(&self, retention: &Retention, now: Instant) -> bool {
        let too_old = |line: &Line| now.duration_since(line.at) > retention.age;
        self.entries.len() > retention.messages as usize
            || self.bytes > retention.bytes
            || self.entries.front().is_some_and(too_old)
    }

    fn page(&self, read: &Read, now: Instant) -> Page {
        let is_kept = |line: &&Line| now.duration_since(line.at) <= read.age;
        let first = self.entries.iter().find(is_kept).map_or(self.position.offset + 1, |line| line.offset);
        let kept = self.entries.iter().filter(is_kept);
        let (entries, is_cut) = match read.part {
            Part::Position => (Vec::new(), false),
            Part::After { offset, up_to } => {
                let wanted = kept.filter(|line| line.offset > offset && line.offset <= up_to);
                take(wanted, read)
            }
            Part::Before { offset } => {
                let (mut entries, is_cut) = take(kept.rev().filter(|line| line.offset < offset), read);
                entries.reverse();
                (entries, is_cut)
            }
        };
        Page { position: Some(self.position), first, entries, is_cut }
    }
}

fn take<'a>(lines: impl Iterator<Item = &'a Line>, read: &Read) -> (Vec<Entry>, bool) {
    let (mut entries, mut bytes) = (Vec::new(), 0);
    for line in lines {
        bytes += line.payload.len() as u64;
        if entries.len() >= read.limit as usize || (bytes > read.bytes_max && !entries.is_empty()) {
            return (entries, true);
        }
        let Line { offset, message_id, ref payload, .. } = *line;
        entries.push(Entry { offset, message_id, payload: payload.clone() });
    }
    (entries, false)
}

impl Default for MemoryLog {
    fn default() -> Self {
        Self { state: Mutex::default(), is_available: AtomicBool::new(true) }
    }
}

impl MemoryLog {
    /// Nothing logged yet.
    pub fn new() -> Self {
        Self::default()
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
        *self.lock() = State { logs: dump.0, ..State::default() };
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check_available(&self) -> Result<()> {
        if self.is_available.load(Ordering::SeqCst) {
            return Ok(());
        }
        Err(Error::Unavailable { backend: "memory", context: "switched off".into(), source: None })
    }
}

impl State {
    fn forget_keys(&mut self, now: Instant) {
        self.keys_since_sweep += 1;
        if self.keys_since_sweep >= KEYS_PER_SWEEP {
            self.keys_since_sweep = 0;
            self.keys.retain(|_, used| used.until > now);
        }
    }
}

#[async_trait]
impl Log for MemoryLog {
    async fn append(&self, append: &Append, retention: &Retention) -> Result<Appended> {
        self.check_available()?;
        let now = Instant::now();
        let mut state = self.lock();
        let used = append.idempotency.as_ref().map(|own| (append.key.clone(), own.key.clone()));
        if let (Some(used), Some(own)) = (&used, &append.idempotency)
            && let Some(first) = state.keys.get(used).filter(|first| first.until > now)
        {
            let Used { message_id, digest, .. } = *first;
            let epoch = state.logs.get(&append.key).map(|kept| kept.position.epoch);
            let position = first.position.filter(|position| Some(position.epoch) == epoch);
            return Ok(if digest == own.digest {
                Appended::Repeat { message_id, position }
            } else {
                Appended::KeyTaken { message_id }
            });
        }
        let position = append.payload.as_ref().map(|payload| {
            let kept = state.logs.entry(append.key.clone()).or_insert_with(|| Kept::new(0));
            kept.position.offset += 1;
            let (offset, message_id) = (kept.position.offset, append.message_id);
            kept.entries.push_back(Line { offset, message_id, payload: payload.clone(), at: now });
            kept.bytes += payload.len() as u64;
            kept.trim(retention, now);
            kept.position
        });
        if let (Some(used), Some(own)) = (used, &append.idempotency) {
            let until = now + retention.idempotency;
            let first = Used { digest: own.digest, message_id: append.message_id, position, until };
            state.keys.insert(used, first);
            state.forget_keys(now);
        }
        Ok(Appended::New(position))
    }

    async fn read(&self, reads: &[Read]) -> Result<Vec<Page>> {
        self.check_available()?;
        let now = Instant::now();
        let mut state = self.lock();
        let page = |read: &Read| {
            if read.part == Part::Position {
                state.logs.entry(read.key.clone()).or_insert_with(|| Kept::new(0));
            }
            let nothing = Page { position: None, first: 1, entries: Vec::new(), is_cut: false };
            state.logs.get(&read.key).map_or(nothing, |kept| kept.page(read, now))
        };
        Ok(reads.iter().map(page).collect())
    }

    async fn renew(&self, key: &LogKey, epoch: Epoch) -> Result<Option<Position>> {
        self.check_available()?;
        let mut state = self.lock();
        let Some(kept) = state.logs.get_mut(key) else { return Ok(None) };
        if kept.position.epoch == epoch {
            *kept = Kept::new(0);
        }
        Ok(Some(kept.position))
    }

    async fn remove(&self, key: &LogKey) -> Result<()> {
        self.check_available()?;
        let mut state = self.lock();
        state.logs.remove(key);
        state.keys.retain(|(of, _), _| of != key);
        Ok(())
    }

    async fn sweep(&self, retention: &Retention) -> Result<u64> {
        self.check_available()?;
        let now = Instant::now();
        let mut deleted = 0;
        for kept in self.lock().logs.values_mut() {
            let before = kept.entries.len();
            kept.trim(retention, now);
            let is_last_over = kept.entries.len() == 1 && kept.is_over(retention, now);
            if is_last_over && kept.entries.front().is_some_and(|line| now - line.at > retention.age) {
                kept.entries.clear();
                kept.bytes = 0;
            }
            deleted += before - kept.entries.len();
        }
        Ok(deleted as u64)
    }

    async fn ping(&self) -> Result<()> {
        self.check_available()
    }

    fn counters(&self) -> Counters {
        Counters::default()
    }
}

/// Longer than anything is kept: for reads that take everything that still lies there.
pub const ANY_AGE: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);
