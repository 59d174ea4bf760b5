//! Takes a key and finds out who else may hold it.

use std::{collections::HashSet, io, sync::Arc, time::Duration};

use roomcast_types::Incarnation;
use tokio::{net::TcpStream, time::Instant};

use crate::{Error, Expect, LeaseId, Put, Registration, Registry, Result, State, call::bounded};

/// A live holder accepts within this; one that does not answer at all may be frozen, so it is not dead.
const REFUSES_WITHIN: Duration = Duration::from_secs(1);

/// The key changes hands between a look and a write at most this often; then something fights over it.
const ATTEMPTS: u32 = 5;

/// One registration and the lease that it is written under.
pub(super) struct Claimant {
    registry: Arc<dyn Registry>,
    registration: Registration,
    ttl: Duration,
    lease: Option<LeaseId>,
    /// When the lease was last asked for: its time may run from then on.
    lease_since: Instant,
    /// Lives at our own address that this process has displaced since it joined. A dead one does not come back: when
    /// it holds the key again, two live processes were given one address.
    displaced: HashSet<Incarnation>,
    has_joined: bool,
}

impl Claimant {
    pub(super) fn new(registry: Arc<dyn Registry>, registration: Registration, ttl: Duration) -> Self {
        let (lease, lease_since) = (None, Instant::now());
        Self { registry, registration, ttl, lease, lease_since, displaced: HashSet::new(), has_joined: false }
    }

    pub(super) fn registration(&self) -> &Registration {
        &self.registration
    }

    pub(super) fn ttl(&self) -> Duration {
        self.ttl
    }

    pub(super) fn lease_since(&self) -> Instant {
        self.lease_since
    }

    /// The first claim; a lease that it did not need is given back.
    pub(super) async fn claim_first(&mut self) -> Result<()> {
        let claimed = self.claim().await;
        if claimed.is_err() {
            self.revoke().await;
        }
        self.has_joined = claimed.is_ok();
        claimed
    }

    /// Writes the key under the lease at hand, or under a new one when it ended.
    pub(super) async fn claim(&mut self) -> Result<()> {
        match self.claim_under_lease().await {
            Err(Error::LeaseLost) => {
                self.lease = None;
                self.claim_under_lease().await
            }
            answer => answer,
        }
    }

    async fn claim_under_lease(&mut self) -> Result<()> {
        let lease = self.lease().await?;
        let own = self.registration.incarnation;
        let mut expect = if self.has_joined { Expect::HeldBy(own) } else { Expect::Absent };
        for _ in 0..ATTEMPTS {
            let put = bounded("register", self.registry.put(&self.registration, lease, expect)).await?;
            expect = match put {
                Put::Written => return Ok(()),
                Put::Conflict(None) => Expect::Absent,
                Put::Conflict(Some(holder)) => self.contest(holder).await?,
            };
        }
        let context = format!("register: {} changes hands all the time", self.registration.key());
        Err(Error::Unavailable { context, source: None })
    }

    async fn lease(&mut self) -> Result<LeaseId> {
        if let Some(lease) = self.lease {
            return Ok(lease);
        }
        self.lease_since = Instant::now();
        let lease = bounded("grant a lease", self.registry.grant(self.ttl)).await?;
        self.lease = Some(lease);
        Ok(lease)
    }

    /// Whether the key may be taken from its holder: what to expect when writing it.
    async fn contest(&mut self, holder: Registration) -> Result<Expect> {
        let incarnation = holder.incarnation;
        if incarnation == self.registration.incarnation {
            return Ok(Expect::HeldBy(incarnation));
        }
        let is_dead = if holder.grpc_address == self.registration.grpc_address {
            !self.has_joined || self.displaced.insert(incarnation)
        } else {
            refuses(&holder.grpc_address).await
        };
        if !is_dead {
            return Err(Error::Held { holder: Box::new(holder) });
        }
        tracing::info!(role = %holder.role, id = %holder.id, %incarnation, address = holder.grpc_address,
            "taking over the registration of a dead process");
        Ok(Expect::HeldBy(incarnation))
    }

    /// Keeps the lease. `LeaseLost` also when there is none yet.
    pub(super) async fn keep_alive(&mut self) -> Result<()> {
        let lease = self.lease.ok_or(Error::LeaseLost)?;
        let kept = bounded("keep the lease", self.registry.keep_alive(lease)).await;
        if matches!(kept, Err(Error::LeaseLost)) {
            self.lease = None;
        }
        kept.map(drop)
    }

    /// Whether the key holds what it should.
    pub(super) async fn is_in_place(&self) -> Result<bool> {
        let (role, id) = (self.registration.role, &self.registration.id);
        let found = bounded("read the registration back", self.registry.get(role, id)).await?;
        Ok(found.as_ref() == Some(&self.registration))
    }

    /// Changes the state, in the registry too.
    pub(super) async fn write_state(&mut self, state: State) -> Result<()> {
        self.registration.state = state;
        self.claim().await
    }

    /// Gives the key and the lease back, as far as the registry answers.
    pub(super) async fn give_back(&mut self) {
        let Registration { role, id, incarnation, .. } = &self.registration;
        let removed = bounded("remove the registration", self.registry.remove(*role, id, *incarnation)).await;
        if let Err(error) = removed {
            tracing::warn!(%role, %id, %error, "cannot remove the registration; its lease will run out");
            return;
        }
        self.revoke().await;
    }

    async fn revoke(&mut self) {
        let Some(lease) = self.lease.take() else { return };
        if let Err(error) = bounded("revoke the lease", self.registry.revoke(lease)).await {
            tracing::debug!(%error, "cannot revoke a lease; it will run out");
        }
    }
}

/// Only a refusal proves that nobody is there; a time-out, or a name that cannot be resolved, does not.
async fn refuses(address: &str) -> bool {
    match tokio::time::timeout(REFUSES_WITHIN, TcpStream::connect(address)).await {
        Ok(Err(error)) => error.kind() == io::ErrorKind::ConnectionRefused,
        Ok(Ok(_)) | Err(_) => false,
    }
}
