//! Registrations in process memory: for a deployment that is one process, and for tests.

mod state;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use roomcast_types::{Incarnation, ServiceId};
use tokio::{sync::Notify, time::Instant};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::AbortOnDropHandle;

use self::state::State;
use crate::{
    Error, Expect, Hint, LeaseId, Put, Registry, Result,
    registration::{Registration, Role},
};

/// Registrations under leases, in this process. Leases run on tokio's clock, so a paused one is obeyed; they go on
/// running out while the registry is switched off.
#[derive(Debug)]
pub struct MemoryRegistry {
    shared: Arc<Shared>,
    /// Ends leases in time, so that watchers hear of it; runs where the first lease was granted.
    reaper: Mutex<Option<AbortOnDropHandle<()>>>,
    is_available: AtomicBool,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// Wakes the reaper when a lease was granted that may end first.
    lease_granted: Notify,
}

impl Shared {
    /// The state without the leases whose time is over.
    fn state(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.end_leases(Instant::now());
        state
    }
}

impl Default for MemoryRegistry {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryRegistry {
    /// An empty registry.
    pub fn new() -> Self {
        Self { shared: Arc::default(), reaper: Mutex::default(), is_available: AtomicBool::new(true) }
    }

    /// For tests: while `false`, every call answers `Unavailable`; turning it off ends all watches.
    pub fn set_available(&self, is_available: bool) {
        self.is_available.store(is_available, Ordering::SeqCst);
        if !is_available {
            self.shared.state().end_watches();
        }
    }

    /// For tests: ends the lease that holds this key, with all its keys, as a server does when it runs out; whether
    /// there was one.
    pub fn expire(&self, role: Role, id: &ServiceId) -> bool {
        let mut state = self.shared.state();
        let lease = state.lease_of(role, id);
        lease.is_some_and(|lease| state.revoke(lease))
    }

    /// For tests: ends all leases and so removes all keys, as a server that lost its data does.
    pub fn revoke_all(&self) {
        self.shared.state().revoke_all();
    }

    fn state(&self, context: &str) -> Result<MutexGuard<'_, State>> {
        if self.is_available.load(Ordering::SeqCst) {
            return Ok(self.shared.state());
        }
        Err(Error::Unavailable { context: format!("{context}: it was switched off by a test"), source: None })
    }

    fn start_reaper(&self) {
        let mut reaper = self.reaper.lock().unwrap_or_else(PoisonError::into_inner);
        if reaper.as_ref().is_none_or(AbortOnDropHandle::is_finished) {
            *reaper = Some(AbortOnDropHandle::new(tokio::spawn(reap(self.shared.clone()))));
        }
    }
}

async fn reap(shared: Arc<Shared>) {
    loop {
        let next_end = shared.state().next_end();
        match next_end {
            Some(end) => tokio::select! {
                () = tokio::time::sleep_until(end) => {}
                () = shared.lease_granted.notified() => {}
            },
            None => shared.lease_granted.notified().await,
        }
    }
}

#[async_trait]
impl Registry for MemoryRegistry {
    async fn grant(&self, ttl: Duration) -> Result<LeaseId> {
        let lease = self.state("grant a lease")?.grant(ttl, Instant::now());
        self.start_reaper();
        self.shared.lease_granted.notify_one();
        Ok(lease)
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<Duration> {
        self.state("keep a lease")?.keep_alive(lease, Instant::now()).ok_or(Error::LeaseLost)
    }

    async fn revoke(&self, lease: LeaseId) -> Result<()> {
        self.state("revoke a lease")?.revoke(lease);
        Ok(())
    }

    async fn put(&self, registration: &Registration, lease: LeaseId, expect: Expect) -> Result<Put> {
        self.state("register")?.put(registration, lease, expect).ok_or(Error::LeaseLost)
    }

    async fn remove(&self, role: Role, id: &ServiceId, incarnation: Incarnation) -> Result<bool> {
        Ok(self.state("remove a registration")?.remove(role, id, incarnation))
    }

    async fn get(&self, role: Role, id: &ServiceId) -> Result<Option<Registration>> {
        Ok(self.state("read a registration")?.get(role, id))
    }

    async fn list(&self, role: Role) -> Result<Vec<Registration>> {
        Ok(self.state("list registrations")?.list(role))
    }

    async fn watch(&self, role: Role) -> Result<ReceiverStream<Hint>> {
        Ok(self.state("watch registrations")?.watch(role))
    }
}
