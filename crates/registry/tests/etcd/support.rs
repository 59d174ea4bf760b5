//! What the tests of etcd share.

use std::{sync::Arc, time::Duration};

use roomcast_registry::{Expect, LeaseId, Listing, Put, Registration, Registry, Role, Roster, State};
use roomcast_runtime::config::{Config, Etcd, SecretUrl};
use roomcast_test_servers::unique;
use roomcast_types::{Incarnation, ServiceId};
use tokio::{
    net::TcpListener,
    time::{Instant, sleep, timeout},
};

/// The shortest that etcd grants.
pub const TTL: Duration = Duration::from_secs(2);
pub const ROLE: Role = Role::ConnectNode;

/// Far more than anything takes; a test that waits so long fails.
pub const DEADLINE: Duration = Duration::from_secs(30);

pub fn section(url: &str) -> Etcd {
    Etcd { url: SecretUrl::new(url), ..Config::default().etcd }
}

/// With keys that no other test has.
pub fn prefixed(url: &str) -> Etcd {
    Etcd { key_prefix: format!("/{}", unique("registry")), ..section(url) }
}

pub fn open(section: &Etcd) -> Arc<dyn Registry> {
    roomcast_registry::open(section).unwrap()
}

pub fn node(id: &str) -> Registration {
    Registration {
        role: ROLE,
        id: ServiceId::new(id).unwrap(),
        grpc_address: "127.0.0.1:1".to_owned(),
        url: "ws://127.0.0.1:2/ws".to_owned(),
        incarnation: Incarnation::random(),
        state: State::Ready,
    }
}

/// Writes a registration under a lease that outlives the test.
pub async fn register(registry: &dyn Registry, registration: &Registration) -> LeaseId {
    let lease = registry.grant(TTL * 100).await.unwrap();
    assert_eq!(registry.put(registration, lease, Expect::Absent).await.unwrap(), Put::Written);
    lease
}

/// An address that refuses connections.
pub async fn refusing() -> String {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string()
}

/// How long it takes until the key reads so; while the registry is away it does not.
pub async fn wait_for_key(registry: &dyn Registry, expected: &Registration) -> Duration {
    let started = Instant::now();
    while registry.get(ROLE, &expected.id).await.ok().flatten().as_ref() != Some(expected) {
        assert!(started.elapsed() < DEADLINE, "waited in vain for {expected:?}");
        sleep(Duration::from_millis(10)).await;
    }
    started.elapsed()
}

/// How long it takes until the list is as told.
pub async fn wait_for_list(roster: &Roster, mut is_there: impl FnMut(&Listing) -> bool) -> Duration {
    let started = Instant::now();
    while !is_there(&roster.current()) {
        assert!(started.elapsed() < DEADLINE, "waited in vain; listed is {:?}", roster.current());
        sleep(Duration::from_millis(10)).await;
    }
    started.elapsed()
}

pub fn has(listing: &Listing, expected: &Registration) -> bool {
    listing.registrations.contains(expected)
}

/// The answer of a call that has to come within its own bound.
pub async fn answer<T>(call: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(2), call).await.expect("a call takes 1.8 s at most")
}
