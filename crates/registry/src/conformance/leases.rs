//! Rules of leases.

#![allow(missing_docs, reason = "a rule's name is its contract")]

use tokio::time::Instant;

use super::{Backend, node, wait_until};
use crate::{Error, Expect, LeaseId, Put, Registration, Role, State};

async fn wait_for_end(backend: &Backend, registration: &Registration) {
    let longest = backend.pace.ttl + backend.pace.deadline;
    wait_until("the key ended", longest, async || backend.get(registration).await.is_none()).await;
}

async fn keep_alive_is_lost(backend: &Backend, lease: LeaseId) -> bool {
    matches!(backend.registry.keep_alive(lease).await, Err(Error::LeaseLost))
}

pub async fn a_key_ends_with_its_lease(backend: &Backend) {
    let lease = backend.registry.grant(backend.pace.ttl).await.unwrap();
    let other_lease = backend.long_lease().await;
    let (mortal, twin, other) = (node("mortal"), node("twin"), node("other"));
    let granted = Instant::now();
    backend.put(&mortal, lease, Expect::Absent).await;
    backend.put(&twin, lease, Expect::Absent).await;
    backend.put(&other, other_lease, Expect::Absent).await;
    wait_for_end(backend, &mortal).await;
    // A tenth for what a server rounds away.
    assert!(granted.elapsed() >= backend.pace.ttl * 9 / 10, "ended after {:?}", granted.elapsed());
    wait_for_end(backend, &twin).await;
    assert_eq!(backend.registry.list(Role::ConnectNode).await.unwrap(), [other]);
}

pub async fn a_lease_that_is_kept_does_not_end(backend: &Backend) {
    let lease = backend.registry.grant(backend.pace.ttl).await.unwrap();
    let kept = node("n");
    backend.put(&kept, lease, Expect::Absent).await;
    let started = Instant::now();
    while started.elapsed() < backend.pace.ttl * 3 + backend.pace.deadline {
        tokio::time::sleep(backend.pace.ttl / 3).await;
        let left = backend.registry.keep_alive(lease).await.unwrap();
        assert!(left > backend.pace.ttl / 2, "{left:?} left");
        assert_eq!(backend.get(&kept).await.as_ref(), Some(&kept));
    }
}

pub async fn a_lease_that_ended_takes_nothing_more(backend: &Backend) {
    let lease = backend.registry.grant(backend.pace.ttl).await.unwrap();
    let registration = node("n");
    backend.put(&registration, lease, Expect::Absent).await;
    wait_for_end(backend, &registration).await;
    assert!(keep_alive_is_lost(backend, lease).await);
    let put = backend.registry.put(&registration, lease, Expect::Absent).await;
    assert!(matches!(put, Err(Error::LeaseLost)), "{put:?}");
    backend.registry.revoke(lease).await.unwrap();
    assert_eq!(backend.get(&registration).await, None);
}

pub async fn a_revoked_lease_ends_with_its_keys_only(backend: &Backend) {
    let (lease, other_lease) = (backend.long_lease().await, backend.long_lease().await);
    assert_ne!(lease, other_lease);
    let (one, two, other) = (node("one"), node("two"), node("other"));
    backend.put(&one, lease, Expect::Absent).await;
    backend.put(&two, lease, Expect::Absent).await;
    backend.put(&other, other_lease, Expect::Absent).await;
    backend.registry.revoke(lease).await.unwrap();
    assert_eq!(backend.registry.list(Role::ConnectNode).await.unwrap(), [other]);
    assert!(keep_alive_is_lost(backend, lease).await);
    backend.registry.revoke(lease).await.unwrap();
    backend.registry.keep_alive(other_lease).await.unwrap();
}

pub async fn a_key_taken_over_hangs_on_the_new_lease(backend: &Backend) {
    let (old_lease, new_lease) = (backend.long_lease().await, backend.long_lease().await);
    let (first, second) = (node("n"), node("n"));
    backend.put(&first, old_lease, Expect::Absent).await;
    backend.put(&second, new_lease, Expect::HeldBy(first.incarnation)).await;
    backend.registry.revoke(old_lease).await.unwrap();
    assert_eq!(backend.get(&first).await, Some(second.clone()));

    let newest_lease = backend.long_lease().await;
    let ready = Registration { state: State::Ready, ..second.clone() };
    let put = backend.put(&ready, newest_lease, Expect::HeldBy(second.incarnation)).await;
    assert_eq!(put, Put::Written);
    backend.registry.revoke(new_lease).await.unwrap();
    assert_eq!(backend.get(&first).await, Some(ready));
    backend.registry.revoke(newest_lease).await.unwrap();
    assert_eq!(backend.get(&first).await, None);
}
