//! Registrations in etcd: leases and conditional writes of version 3 of its interface.
//!
//! What Debian's etcd 3.4.23 may do wrong is not hidden here but repaired above, for every backend: a member reads its
//! key back, a roster lists. Here each answer is only taken for what it proves.

mod connect;
mod keys;
mod login;
mod servers;
mod watch;

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use etcd_client::{
    Client, Compare, CompareOp, Error as DriverError, GetOptions, KeyValue, PutOptions, Txn, TxnOp,
    TxnOpResponse,
};
use roomcast_runtime::config::{Etcd, EtcdServers};
use roomcast_types::{Incarnation, ServiceId};
use tokio_stream::wrappers::ReceiverStream;

use self::{keys::Keys, servers::Servers};
use crate::{Error, Expect, Hint, LeaseId, OpenError, Put, Registration, Registry, Result, Role};

/// The key changes between a look and a write at most this often; then something fights over it.
const ATTEMPTS: u32 = 5;

/// Registrations in etcd. Each call asks one server, and others when that one does not answer, for 1.8 s at most.
pub struct EtcdRegistry {
    servers: Servers,
    keys: Keys,
    /// Values that no list can read, as of the last list: each is told of once.
    unreadable: Mutex<HashMap<Role, HashSet<Write>>>,
}

/// A write: its key and its revision.
type Write = (Vec<u8>, i64);

/// What stands under a key.
struct Found {
    registration: Registration,
    /// Of its last write.
    revision: i64,
}

impl EtcdRegistry {
    /// Prepares connections, which are made when they are needed: only addresses and certificates that can never work
    /// are errors. Needs a tokio runtime around it, and lives as long as that one.
    pub fn open(servers: &EtcdServers, section: &Etcd) -> std::result::Result<Self, OpenError> {
        Ok(Self {
            servers: Servers::open(servers)?,
            keys: Keys::new(&section.key_prefix),
            unreadable: Mutex::default(),
        })
    }

    async fn find(&self, context: &str, role: Role, key: &str) -> Result<Option<Found>> {
        let call = |mut client: Client| async move { client.get(key, None).await };
        let answer = self.servers.call(context, call).await?;
        self.read(context, role, answer.kvs().first())
    }

    fn read(&self, context: &str, role: Role, found: Option<&KeyValue>) -> Result<Option<Found>> {
        let Some(found) = found else { return Ok(None) };
        match self.keys.read(role, found.key(), found.value()) {
            Some(registration) => Ok(Some(Found { registration, revision: found.mod_revision() })),
            None => {
                let key = String::from_utf8_lossy(found.key());
                let context = format!("{context}: what etcd holds under {key} is no registration; delete it");
                Err(Error::Unavailable { context, source: None })
            }
        }
    }

    /// Changes a key in one transaction if it is as expected.
    async fn change(
        &self,
        context: &str,
        place: (Role, &ServiceId),
        expect: Expect,
        change: TxnOp,
    ) -> Result<Put> {
        let (role, key) = (place.0, &*self.keys.of(place.0, place.1));
        let mut found = match expect {
            // Looking first would tell nothing that the transaction does not.
            Expect::Absent => None,
            Expect::HeldBy(_) => self.find(context, role, key).await?,
        };
        for _ in 0..ATTEMPTS {
            let revision = match (expect, &found) {
                // That of a key that is not there.
                (Expect::Absent, None) => 0,
                (Expect::HeldBy(expected), Some(Found { registration, revision }))
                    if registration.incarnation == expected =>
                {
                    *revision
                }
                _ => return Ok(Put::Conflict(found.map(|found| found.registration))),
            };
            let change = &change;
            let call = |mut client: Client| async move {
                let is_as_expected = Compare::mod_revision(key, CompareOp::Equal, revision);
                let transaction = Txn::new()
                    .when([is_as_expected])
                    .and_then([change.clone()])
                    .or_else([TxnOp::get(key, None)]);
                client.txn(transaction).await
            };
            let answer = self.servers.call(context, call).await?;
            if answer.succeeded() {
                return Ok(Put::Written);
            }
            found = match answer.op_responses().first() {
                Some(TxnOpResponse::Get(answer)) => self.read(context, role, answer.kvs().first())?,
                _ => None,
            };
        }
        let context = format!("{context}: {key} changes all the time");
        Err(Error::Unavailable { context, source: None })
    }

    /// Says of each value that cannot be read, once, that it is there.
    fn report_unreadable(&self, role: Role, unreadable: HashSet<Write>) {
        let mut known = self.unreadable.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known.entry(role).or_default();
        for (key, _) in unreadable.difference(known) {
            let key = String::from_utf8_lossy(key);
            tracing::warn!(%key, "what etcd holds under this key is no registration; it is passed over");
        }
        *known = unreadable;
    }
}

#[async_trait]
impl Registry for EtcdRegistry {
    async fn grant(&self, ttl: Duration) -> Result<LeaseId> {
        let seconds = ttl.as_millis().div_ceil(1_000).try_into().unwrap_or(i64::MAX);
        let call = |mut client: Client| async move { client.lease_grant(seconds, None).await };
        Ok(LeaseId(self.servers.call("grant a lease", call).await?.id()))
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<Duration> {
        let call = |client| keep_alive(client, lease);
        match self.servers.call("keep a lease", call).await? {
            0 => Err(Error::LeaseLost),
            seconds => Ok(Duration::from_secs(seconds)),
        }
    }

    async fn revoke(&self, lease: LeaseId) -> Result<()> {
        let call = |mut client: Client| async move { client.lease_revoke(lease.0).await };
        match self.servers.call("revoke a lease", call).await {
            Ok(_) | Err(Error::LeaseLost) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn put(&self, registration: &Registration, lease: LeaseId, expect: Expect) -> Result<Put> {
        let Registration { role, id, .. } = registration;
        let options = PutOptions::new().with_lease(lease.0);
        let put = TxnOp::put(self.keys.of(*role, id), keys::value(registration), Some(options));
        self.change("register", (*role, id), expect, put).await
    }

    async fn remove(&self, role: Role, id: &ServiceId, incarnation: Incarnation) -> Result<bool> {
        let delete = TxnOp::delete(self.keys.of(role, id), None);
        let expect = Expect::HeldBy(incarnation);
        Ok(self.change("remove a registration", (role, id), expect, delete).await? == Put::Written)
    }

    async fn get(&self, role: Role, id: &ServiceId) -> Result<Option<Registration>> {
        let found = self.find("read a registration", role, &self.keys.of(role, id)).await?;
        Ok(found.map(|found| found.registration))
    }

    async fn list(&self, role: Role) -> Result<Vec<Registration>> {
        let prefix = &*self.keys.of_role(role);
        let call = |mut client: Client| async move {
            client.get(prefix, Some(GetOptions::new().with_prefix())).await
        };
        let answer = self.servers.call("list registrations", call).await?;
        let (mut registrations, mut unreadable) = (Vec::new(), HashSet::new());
        for found in answer.kvs() {
            match self.keys.read(role, found.key(), found.value()) {
                Some(registration) => registrations.push(registration),
                None => {
                    unreadable.insert((found.key().to_owned(), found.mod_revision()));
                }
            }
        }
        self.report_unreadable(role, unreadable);
        // Keys are in the order of the encoded ids.
        registrations.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(registrations)
    }

    async fn watch(&self, role: Role) -> Result<ReceiverStream<Hint>> {
        let prefix = &*self.keys.of_role(role);
        let answers = self.servers.call("watch registrations", |client| watch::begin(client, prefix)).await?;
        Ok(watch::hints(role, answers))
    }
}

/// Seconds left, 0 when the lease is lost. The driver keeps the time that the first answer names to itself (only that
/// it is more than none), so the lease is kept twice on one stream.
async fn keep_alive(mut client: Client, lease: LeaseId) -> std::result::Result<u64, DriverError> {
    let (mut keeper, mut answers) = client.lease_keep_alive(lease.0).await?;
    if keeper.id() == lease.0 {
        keeper.keep_alive().await?;
        if let Some(answer) = answers.message().await?
            && answer.id() == lease.0
        {
            return Ok(u64::try_from(answer.ttl()).unwrap_or(0));
        }
    }
    Err(DriverError::Internal("the answer is none to this lease".to_owned()))
}
