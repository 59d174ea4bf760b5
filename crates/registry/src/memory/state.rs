//! Leases, keys and watchers as plain data; time comes in from outside.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use roomcast_types::{Incarnation, ServiceId};
use tokio::{sync::mpsc, time::Instant};
use tokio_stream::wrappers::ReceiverStream;

use crate::{
    Expect, Hint, LeaseId, Put,
    registration::{Registration, Role},
};

#[derive(Debug, Default)]
pub(super) struct State {
    leases: HashMap<LeaseId, Lease>,
    last_lease: i64,
    /// Registrations of each role by id, with the lease each hangs on.
    keys: HashMap<Role, BTreeMap<ServiceId, (Registration, LeaseId)>>,
    /// Sender: this state. Receiver: whoever watches. Closing it means that the watch was lost.
    watchers: HashMap<Role, Vec<mpsc::Sender<Hint>>>,
}

#[derive(Debug, Clone, Copy)]
struct Lease {
    ttl: Duration,
    end: Instant,
}

/// One hint that waits says all that a second one would.
const HINTS_WAITING_MAX: usize = 1;

impl State {
    pub(super) fn grant(&mut self, ttl: Duration, now: Instant) -> LeaseId {
        self.last_lease += 1;
        let lease = LeaseId(self.last_lease);
        self.leases.insert(lease, Lease { ttl, end: now + ttl });
        lease
    }

    pub(super) fn keep_alive(&mut self, lease: LeaseId, now: Instant) -> Option<Duration> {
        let lease = self.leases.get_mut(&lease)?;
        lease.end = now + lease.ttl;
        Some(lease.ttl)
    }

    /// Whether the lease was there.
    pub(super) fn revoke(&mut self, lease: LeaseId) -> bool {
        let was_there = self.leases.remove(&lease).is_some();
        let mut roles = Vec::new();
        for (role, keys) in &mut self.keys {
            let before = keys.len();
            keys.retain(|_, (_, holder)| *holder != lease);
            if keys.len() < before {
                roles.push(*role);
            }
        }
        for role in roles {
            self.hint(role);
        }
        was_there
    }

    pub(super) fn revoke_all(&mut self) {
        let leases: Vec<LeaseId> = self.leases.keys().copied().collect();
        for lease in leases {
            self.revoke(lease);
        }
    }

    /// Ends the leases whose time is over.
    pub(super) fn end_leases(&mut self, now: Instant) {
        let ended: Vec<LeaseId> =
            self.leases.iter().filter(|(_, lease)| lease.end <= now).map(|(id, _)| *id).collect();
        for lease in ended {
            self.revoke(lease);
        }
    }

    pub(super) fn next_end(&self) -> Option<Instant> {
        self.leases.values().map(|lease| lease.end).min()
    }

    pub(super) fn lease_of(&self, role: Role, id: &ServiceId) -> Option<LeaseId> {
        Some(self.keys.get(&role)?.get(id)?.1)
    }

    /// `None` when the lease ended.
    pub(super) fn put(&mut self, registration: &Registration, lease: LeaseId, expect: Expect) -> Option<Put> {
        if !self.leases.contains_key(&lease) {
            return None;
        }
        let holder = self.get(registration.role, &registration.id);
        let is_as_expected = match expect {
            Expect::Absent => holder.is_none(),
            Expect::HeldBy(incarnation) => {
                holder.as_ref().is_some_and(|holder| holder.incarnation == incarnation)
            }
        };
        if !is_as_expected {
            return Some(Put::Conflict(holder));
        }
        let keys = self.keys.entry(registration.role).or_default();
        keys.insert(registration.id.clone(), (registration.clone(), lease));
        self.hint(registration.role);
        Some(Put::Written)
    }

    pub(super) fn remove(&mut self, role: Role, id: &ServiceId, incarnation: Incarnation) -> bool {
        let is_holder = self.get(role, id).is_some_and(|holder| holder.incarnation == incarnation);
        if is_holder {
            self.keys.entry(role).or_default().remove(id);
            self.hint(role);
        }
        is_holder
    }

    pub(super) fn get(&self, role: Role, id: &ServiceId) -> Option<Registration> {
        self.keys.get(&role)?.get(id).map(|(registration, _)| registration.clone())
    }

    pub(super) fn list(&self, role: Role) -> Vec<Registration> {
        let keys = self.keys.get(&role).into_iter().flat_map(BTreeMap::values);
        keys.map(|(registration, _)| registration.clone()).collect()
    }

    pub(super) fn watch(&mut self, role: Role) -> ReceiverStream<Hint> {
        let (sender, receiver) = mpsc::channel(HINTS_WAITING_MAX);
        self.watchers.entry(role).or_default().push(sender);
        ReceiverStream::new(receiver)
    }

    pub(super) fn end_watches(&mut self) {
        self.watchers.clear();
    }

    fn hint(&mut self, role: Role) {
        if let Some(watchers) = self.watchers.get_mut(&role) {
            watchers.retain(|watcher| {
                // A full channel: the hint that waits there serves for this one.
                !matches!(watcher.try_send(Hint), Err(mpsc::error::TrySendError::Closed(_)))
            });
        }
    }
}
