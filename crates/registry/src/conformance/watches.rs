//! Rules of hints.

#![allow(missing_docs, reason = "a rule's name is its contract")]

use futures_util::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

use super::{Backend, node};
use crate::{Expect, Hint, Role};

async fn watch(backend: &Backend) -> ReceiverStream<Hint> {
    backend.registry.watch(Role::ConnectNode).await.unwrap()
}

async fn expect_hint(backend: &Backend, hints: &mut ReceiverStream<Hint>, what: &str) {
    let longest = backend.pace.ttl + backend.pace.deadline;
    let hint = tokio::time::timeout(longest, hints.next()).await;
    assert_eq!(hint, Ok(Some(Hint)), "after {what}");
}

pub async fn a_write_is_hinted(backend: &Backend) {
    let lease = backend.long_lease().await;
    let registration = node("n");
    let mut hints = watch(backend).await;
    backend.put(&registration, lease, Expect::Absent).await;
    expect_hint(backend, &mut hints, "a new key").await;
    let mut hints = watch(backend).await;
    backend.put(&registration, lease, Expect::HeldBy(registration.incarnation)).await;
    expect_hint(backend, &mut hints, "a key written again").await;
}

pub async fn a_removal_is_hinted(backend: &Backend) {
    let lease = backend.long_lease().await;
    let registration = node("n");
    backend.put(&registration, lease, Expect::Absent).await;
    let mut hints = watch(backend).await;
    let removed =
        backend.registry.remove(Role::ConnectNode, &registration.id, registration.incarnation).await;
    assert!(removed.unwrap());
    expect_hint(backend, &mut hints, "a removal").await;
}

pub async fn a_revocation_is_hinted(backend: &Backend) {
    let lease = backend.long_lease().await;
    backend.put(&node("n"), lease, Expect::Absent).await;
    let mut hints = watch(backend).await;
    backend.registry.revoke(lease).await.unwrap();
    expect_hint(backend, &mut hints, "a revocation").await;
}

pub async fn the_end_of_a_lease_is_hinted(backend: &Backend) {
    let lease = backend.registry.grant(backend.pace.ttl).await.unwrap();
    let registration = node("n");
    backend.put(&registration, lease, Expect::Absent).await;
    let mut hints = watch(backend).await;
    expect_hint(backend, &mut hints, "the end of a lease").await;
    assert_eq!(backend.get(&registration).await, None);
}

pub async fn every_watcher_gets_a_hint(backend: &Backend) {
    let lease = backend.long_lease().await;
    let mut watchers = [watch(backend).await, watch(backend).await, watch(backend).await];
    backend.put(&node("n"), lease, Expect::Absent).await;
    for hints in &mut watchers {
        expect_hint(backend, hints, "a new key").await;
    }
}
