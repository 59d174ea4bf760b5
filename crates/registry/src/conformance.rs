//! What every backend of [`Registry`] must do, as one suite against the trait alone.
//!
//! Each rule is an async function named by the sentence it proves; it takes a fresh backend and panics when the
//! backend breaks it. [`registry_conformance!`](crate::registry_conformance) becomes one test per rule. How long things
//! take comes from the backend's [`Pace`], so that the suite runs on a paused clock and on a real one.

#![allow(clippy::unwrap_used, reason = "a rule fails by panicking")]

mod keys;
mod leases;
mod watches;

use std::{any::Any, sync::Arc, time::Duration};

use roomcast_types::{Incarnation, ServiceId};
use tokio::time::Instant;

pub use self::{keys::*, leases::*, watches::*};
use crate::{Expect, LeaseId, Put, Registration, Registry, Role, State};

/// How fast a backend is.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// The shortest lease that it grants.
    pub ttl: Duration,
    /// How long anything else, and the end of a lease after its ttl, may take at most.
    pub deadline: Duration,
}

/// A fresh, empty registry.
pub struct Backend {
    registry: Arc<dyn Registry>,
    pace: Pace,
    _guard: Box<dyn Any + Send + Sync>,
}

impl Backend {
    /// A registry and how fast it is.
    pub fn new(registry: Arc<dyn Registry>, pace: Pace) -> Self {
        Self { registry, pace, _guard: Box::new(()) }
    }

    /// Keeps something, such as a server's process, for as long as the registry is used.
    pub fn guarded_by(self, guard: impl Any + Send + Sync) -> Self {
        Self { _guard: Box::new(guard), ..self }
    }

    /// A lease that outlives the rule.
    async fn long_lease(&self) -> LeaseId {
        self.registry.grant(self.pace.ttl * 100).await.unwrap()
    }

    async fn put(&self, registration: &Registration, lease: LeaseId, expect: Expect) -> Put {
        self.registry.put(registration, lease, expect).await.unwrap()
    }

    async fn get(&self, registration: &Registration) -> Option<Registration> {
        self.registry.get(registration.role, &registration.id).await.unwrap()
    }
}

macro_rules! suite {
    ($d:tt { $($rule:ident)* }) => {
        /// Runs every rule, each on a backend of its own.
        pub async fn run_all(fresh: impl AsyncFn() -> Backend) {
            $( $rule(&fresh().await).await; )*
        }

        /// One test per rule for a backend of [`Registry`](crate::Registry): the attribute that makes a function a
        /// test, then a future of a [`Backend`](crate::conformance::Backend).
        #[macro_export]
        macro_rules! registry_conformance {
            ($d (#[$d test:meta])+ $d fresh:expr) => {
                $crate::registry_conformance!(@each [$d (#[$d test])+] [$d fresh] $($rule)*);
            };
            (@each $d attributes:tt $d fresh:tt $d ($d rule:ident)*) => {
                $d ( $crate::registry_conformance!(@one $d attributes $d fresh $d rule); )*
            };
            (@one [$d (#[$d test:meta])+] [$d fresh:expr] $d rule:ident) => {
                $d (#[$d test])+
                async fn $d rule() {
                    let backend = $d fresh.await;
                    $d crate::conformance::$d rule(&backend).await;
                }
            };
        }
    };
}

suite! {
    $ {
        a_registration_reads_as_written
        a_list_is_in_order_of_id
        roles_have_their_own_keys
        ids_that_look_alike_are_different_keys
        a_key_that_is_held_is_not_absent
        a_key_changes_hands_only_from_the_holder_expected
        racing_writes_have_one_winner
        only_its_holder_removes_a_key
        a_key_ends_with_its_lease
        a_lease_that_is_kept_does_not_end
        a_lease_that_ended_takes_nothing_more
        a_revoked_lease_ends_with_its_keys_only
        a_key_taken_over_hangs_on_the_new_lease
        a_write_is_hinted
        a_removal_is_hinted
        a_revocation_is_hinted
        the_end_of_a_lease_is_hinted
        every_watcher_gets_a_hint
    }
}

fn registration(role: Role, id: &str) -> Registration {
    Registration {
        role,
        id: ServiceId::new(id).unwrap(),
        grpc_address: "127.0.0.1:1".to_owned(),
        url: "ws://127.0.0.1:2/ws".to_owned(),
        incarnation: Incarnation::random(),
        state: State::Starting,
    }
}

fn node(id: &str) -> Registration {
    registration(Role::ConnectNode, id)
}

/// Waits until `condition` holds; panics after `deadline`.
async fn wait_until(what: &str, deadline: Duration, mut condition: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while !condition().await {
        assert!(started.elapsed() < deadline, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
