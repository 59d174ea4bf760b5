//! Who is alive: registrations under a lease, behind one trait.

mod call;
pub mod conformance;
pub mod error;
pub mod etcd;
pub mod member;
pub mod memory;
mod open;
pub mod registration;
pub mod roster;

pub use error::{Error, Result};
pub use etcd::EtcdRegistry;
pub use member::Member;
pub use memory::MemoryRegistry;
pub use open::{OpenError, open};
pub use registration::{Registration, Role, State};
pub use roster::{Listing, Roster};

use async_trait::async_trait;
use roomcast_types::{Incarnation, ServiceId};
use std::time::Duration;
use tokio_stream::wrappers::ReceiverStream;

/// What a conditional write expects to find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// No key.
    Absent,
    /// A key held by this incarnation.
    HeldBy(Incarnation),
}

/// A lease as the backend names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LeaseId(pub i64);

/// That something of this role may have changed: list again. Hints may be lost, repeated or late.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hint;

/// The primitives a backend offers. Everything else (keeping a registration alive, taking a key over, repairing it,
/// keeping a list) is built on them once, in this crate, for all backends.
#[async_trait]
pub trait Registry: Send + Sync + 'static {
    /// Opens a lease that ends `ttl` after its last keep-alive.
    async fn grant(&self, ttl: Duration) -> Result<LeaseId>;

    /// Keeps a lease; the time it has left from now. [`Error::LeaseLost`] when it ended or was revoked.
    async fn keep_alive(&self, lease: LeaseId) -> Result<Duration>;

    /// Ends a lease and removes its keys at once. Not an error when it is gone.
    async fn revoke(&self, lease: LeaseId) -> Result<()>;

    /// Writes a registration under a lease if the key is as expected; else answers what holds it.
    /// [`Error::LeaseLost`] when the lease ended.
    async fn put(&self, registration: &Registration, lease: LeaseId, expect: Expect) -> Result<Put>;

    /// Removes a registration if it is held by this incarnation; whether it was.
    async fn remove(&self, role: Role, id: &ServiceId, incarnation: Incarnation) -> Result<bool>;

    /// One registration.
    async fn get(&self, role: Role, id: &ServiceId) -> Result<Option<Registration>>;

    /// All registrations of a role, by id: the truth.
    async fn list(&self, role: Role) -> Result<Vec<Registration>>;

    /// Hints that the list of a role changed. The stream ends when the backend lost it: watch again.
    async fn watch(&self, role: Role) -> Result<ReceiverStream<Hint>>;
}

/// What a conditional write came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Put {
    /// Written.
    Written,
    /// The key is not as expected; what holds it, `None` when nothing does.
    Conflict(Option<Registration>),
}
