//! Process memory keeps the rules of the registry, and its test controls do what they say.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt;
use roomcast_registry::{
    Error, Expect, Hint, MemoryRegistry, Registration, Registry, Role, State,
    conformance::{Backend, Pace},
};
use roomcast_types::{Incarnation, ServiceId};
use tokio_stream::wrappers::ReceiverStream;

async fn fresh() -> Backend {
    let pace = Pace { ttl: Duration::from_secs(10), deadline: Duration::from_millis(100) };
    Backend::new(Arc::new(MemoryRegistry::new()), pace)
}

mod memory {
    roomcast_registry::registry_conformance!(
        #[tokio::test(start_paused = true)]
        super::fresh()
    );
}

const TTL: Duration = Duration::from_secs(10);

async fn next(hints: &mut ReceiverStream<Hint>) -> Option<Hint> {
    tokio::time::timeout(TTL, hints.next()).await.expect("neither a hint nor the end of the watch")
}

fn node(id: &str) -> Registration {
    Registration {
        role: Role::ConnectNode,
        id: ServiceId::new(id).unwrap(),
        grpc_address: "127.0.0.1:1".to_owned(),
        url: String::new(),
        incarnation: Incarnation::random(),
        state: State::Ready,
    }
}

#[tokio::test(start_paused = true)]
async fn switched_off_it_answers_unavailable_and_ends_watches() {
    let registry = MemoryRegistry::new();
    let mut hints = registry.watch(Role::ConnectNode).await.unwrap();
    registry.set_available(false);
    assert_eq!(next(&mut hints).await, None);
    assert!(matches!(registry.grant(TTL).await, Err(Error::Unavailable { .. })));
    assert!(matches!(registry.list(Role::ConnectNode).await, Err(Error::Unavailable { .. })));
    assert!(matches!(registry.watch(Role::ConnectNode).await, Err(Error::Unavailable { .. })));
    registry.set_available(true);
    assert_eq!(registry.list(Role::ConnectNode).await.unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn leases_run_out_while_it_is_switched_off() {
    let registry = MemoryRegistry::new();
    let lease = registry.grant(TTL).await.unwrap();
    registry.put(&node("n"), lease, Expect::Absent).await.unwrap();
    registry.set_available(false);
    tokio::time::sleep(TTL).await;
    registry.set_available(true);
    assert_eq!(registry.list(Role::ConnectNode).await.unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn expire_ends_the_lease_of_one_key() {
    let registry = MemoryRegistry::new();
    let (lease, other) = (registry.grant(TTL).await.unwrap(), registry.grant(TTL).await.unwrap());
    registry.put(&node("n"), lease, Expect::Absent).await.unwrap();
    registry.put(&node("o"), other, Expect::Absent).await.unwrap();
    let mut hints = registry.watch(Role::ConnectNode).await.unwrap();
    assert!(registry.expire(Role::ConnectNode, &node("n").id));
    assert!(!registry.expire(Role::ConnectNode, &node("n").id));
    assert_eq!(next(&mut hints).await, Some(Hint));
    assert!(matches!(registry.keep_alive(lease).await, Err(Error::LeaseLost)));
    assert_eq!(registry.list(Role::ConnectNode).await.unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn revoke_all_leaves_nothing() {
    let registry = MemoryRegistry::new();
    let lease = registry.grant(TTL).await.unwrap();
    registry.put(&node("n"), lease, Expect::Absent).await.unwrap();
    registry.revoke_all();
    assert_eq!(registry.list(Role::ConnectNode).await.unwrap(), []);
    assert!(matches!(registry.keep_alive(lease).await, Err(Error::LeaseLost)));
}

#[tokio::test(start_paused = true)]
async fn a_watcher_that_does_not_read_loses_hints_and_nothing_else() {
    let registry = MemoryRegistry::new();
    let mut hints = registry.watch(Role::ConnectNode).await.unwrap();
    let lease = registry.grant(TTL).await.unwrap();
    for number in 0..1_000 {
        registry.put(&node(&format!("n{number}")), lease, Expect::Absent).await.unwrap();
    }
    assert_eq!(next(&mut hints).await, Some(Hint));
    assert_eq!(registry.list(Role::ConnectNode).await.unwrap().len(), 1_000);
}
