//! A roster has the list of its role: fast with hints, in seconds without, and the last one while the registry is away.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use roomcast_registry::{
    Expect, Hint, LeaseId, Listing, MemoryRegistry, Put, Registration, Registry, Result, Role, Roster, State,
};
use roomcast_types::{Incarnation, ServiceId};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;

const ROLE: Role = Role::ConnectNode;
const LONG: Duration = Duration::from_secs(100_000);

fn node(id: &str) -> Registration {
    Registration {
        role: ROLE,
        id: ServiceId::new(id).unwrap(),
        grpc_address: "127.0.0.1:1".to_owned(),
        url: String::new(),
        incarnation: Incarnation::random(),
        state: State::Ready,
    }
}

async fn add(registry: &dyn Registry, id: &str) -> LeaseId {
    let lease = registry.grant(LONG).await.unwrap();
    assert_eq!(registry.put(&node(id), lease, Expect::Absent).await.unwrap(), Put::Written);
    lease
}

fn ids(listing: &Listing) -> Vec<String> {
    listing.registrations.iter().map(|registration| registration.id.as_str().to_owned()).collect()
}

/// How long it takes until the roster has exactly these.
async fn wait_for(roster: &Roster, expected: &[&str]) -> Duration {
    let started = Instant::now();
    let mut listings = roster.subscribe();
    let has_come = listings.wait_for(|listing| listing.listed_at.is_some() && ids(listing) == expected);
    timeout(Duration::from_secs(60), has_come).await.expect("the roster never got there").unwrap();
    started.elapsed()
}

/// Counts lists, and can keep hints back or end every watch at once.
struct Odd {
    inner: Arc<MemoryRegistry>,
    lists: AtomicU64,
    watches: AtomicU64,
    watching: Watching,
}

#[derive(Clone, Copy, PartialEq)]
enum Watching {
    Works,
    IsSilent,
    EndsAtOnce,
}

impl Odd {
    fn new(watching: Watching) -> Arc<Self> {
        Arc::new(Self {
            inner: Arc::new(MemoryRegistry::new()),
            lists: AtomicU64::new(0),
            watches: AtomicU64::new(0),
            watching,
        })
    }

    fn lists(&self) -> u64 {
        self.lists.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Registry for Odd {
    async fn grant(&self, ttl: Duration) -> Result<LeaseId> {
        self.inner.grant(ttl).await
    }
    async fn keep_alive(&self, lease: LeaseId) -> Result<Duration> {
        self.inner.keep_alive(lease).await
    }
    async fn revoke(&self, lease: LeaseId) -> Result<()> {
        self.inner.revoke(lease).await
    }
    async fn put(&self, registration: &Registration, lease: LeaseId, expect: Expect) -> Result<Put> {
        self.inner.put(registration, lease, expect).await
    }
    async fn remove(&self, role: Role, id: &ServiceId, incarnation: Incarnation) -> Result<bool> {
        self.inner.remove(role, id, incarnation).await
    }
    async fn get(&self, role: Role, id: &ServiceId) -> Result<Option<Registration>> {
        self.inner.get(role, id).await
    }
    async fn list(&self, role: Role) -> Result<Vec<Registration>> {
        self.lists.fetch_add(1, Ordering::SeqCst);
        self.inner.list(role).await
    }
    async fn watch(&self, role: Role) -> Result<ReceiverStream<Hint>> {
        self.watches.fetch_add(1, Ordering::SeqCst);
        let (sender, receiver) = mpsc::channel(1);
        match self.watching {
            Watching::Works => return self.inner.watch(role).await,
            Watching::IsSilent => drop(tokio::spawn(async move {
                sender.closed().await;
            })),
            Watching::EndsAtOnce => drop(sender),
        }
        Ok(ReceiverStream::new(receiver))
    }
}

#[tokio::test(start_paused = true)]
async fn it_lists_at_once() {
    let registry = Arc::new(MemoryRegistry::new());
    add(&*registry, "a").await;
    let roster = Roster::start(registry, ROLE);
    assert_eq!(roster.current().listed_at, None);
    assert!(wait_for(&roster, &["a"]).await < Duration::from_millis(50));
}

#[tokio::test(start_paused = true)]
async fn an_empty_list_is_a_list() {
    let roster = Roster::start(Arc::new(MemoryRegistry::new()), ROLE);
    let mut listings = roster.subscribe();
    timeout(Duration::from_secs(1), listings.changed()).await.unwrap().unwrap();
    assert!(listings.borrow().listed_at.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_hint_makes_it_fast() {
    let registry = Arc::new(MemoryRegistry::new());
    let roster = Roster::start(registry.clone(), ROLE);
    wait_for(&roster, &[]).await;
    let lease = add(&*registry, "b").await;
    assert!(wait_for(&roster, &["b"]).await < Duration::from_millis(50));
    add(&*registry, "a").await;
    assert!(wait_for(&roster, &["a", "b"]).await < Duration::from_millis(50));
    registry.revoke(lease).await.unwrap();
    assert!(wait_for(&roster, &["a"]).await < Duration::from_millis(50));
}

#[tokio::test(start_paused = true)]
async fn many_hints_are_answered_by_few_lists() {
    let registry = Odd::new(Watching::Works);
    let roster = Roster::start(registry.clone(), ROLE);
    wait_for(&roster, &[]).await;
    let lease = registry.grant(LONG).await.unwrap();
    for number in 0..1_000 {
        registry.put(&node(&format!("n{number:03}")), lease, Expect::Absent).await.unwrap();
    }
    let mut listings = roster.subscribe();
    let all = listings.wait_for(|listing| listing.registrations.len() == 1_000);
    timeout(Duration::from_secs(1), all).await.unwrap().unwrap();
    assert!(registry.lists() < 10, "{} lists", registry.lists());
}

#[tokio::test(start_paused = true)]
async fn without_hints_it_takes_five_seconds() {
    let registry = Odd::new(Watching::IsSilent);
    let roster = Roster::start(registry.clone(), ROLE);
    wait_for(&roster, &[]).await;
    for (id, expected) in [("a", vec!["a"]), ("b", vec!["a", "b"])] {
        add(&*registry, id).await;
        assert!(wait_for(&roster, &expected).await <= Duration::from_millis(5_050));
    }
}

#[tokio::test(start_paused = true)]
async fn watches_that_end_at_once_are_not_asked_for_in_a_tight_loop() {
    let registry = Odd::new(Watching::EndsAtOnce);
    let roster = Roster::start(registry.clone(), ROLE);
    sleep(Duration::from_secs(10)).await;
    let watches = registry.watches.load(Ordering::SeqCst);
    assert!((2..=110).contains(&watches), "{watches} watches in 10 s");
    add(&*registry, "a").await;
    wait_for(&roster, &["a"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_refresh_returns_with_a_list_begun_after_it() {
    let registry = Odd::new(Watching::IsSilent);
    let roster = Roster::start(registry.clone(), ROLE);
    wait_for(&roster, &[]).await;
    for (id, expected) in [("a", vec!["a"]), ("b", vec!["a", "b"])] {
        add(&*registry, id).await;
        let started = Instant::now();
        roster.refresh().await;
        assert_eq!(ids(&roster.current()), expected);
        assert!(started.elapsed() < Duration::from_millis(50));
    }
}

#[tokio::test(start_paused = true)]
async fn refreshes_that_come_together_are_all_answered() {
    let registry = Odd::new(Watching::IsSilent);
    let roster = Arc::new(Roster::start(registry, ROLE));
    let refreshes = (0..50).map(|_| {
        let roster = roster.clone();
        tokio::spawn(async move { roster.refresh().await })
    });
    let all = futures_util::future::join_all(refreshes.collect::<Vec<_>>());
    timeout(Duration::from_secs(1), all).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn while_the_registry_is_away_the_last_list_stays_and_tells_its_age() {
    let registry = Arc::new(MemoryRegistry::new());
    add(&*registry, "a").await;
    let roster = Roster::start(registry.clone(), ROLE);
    wait_for(&roster, &["a"]).await;
    registry.set_available(false);
    let last = roster.current();
    sleep(Duration::from_secs(60)).await;
    timeout(Duration::from_secs(5), roster.refresh()).await.unwrap();
    assert_eq!(roster.current(), last);
    assert!(last.listed_at.unwrap().elapsed() >= Duration::from_secs(60));

    registry.set_available(true);
    add(&*registry, "b").await;
    assert!(wait_for(&roster, &["a", "b"]).await <= Duration::from_millis(1_100));
    add(&*registry, "c").await;
    assert!(wait_for(&roster, &["a", "b", "c"]).await < Duration::from_millis(50), "it watches again");
}

#[tokio::test(start_paused = true)]
async fn a_list_that_only_is_younger_wakes_nobody() {
    let registry = Arc::new(MemoryRegistry::new());
    add(&*registry, "a").await;
    let roster = Roster::start(registry.clone(), ROLE);
    wait_for(&roster, &["a"]).await;
    let first = roster.current().listed_at.unwrap();
    let mut listings = roster.subscribe();
    assert_eq!(ids(&listings.borrow_and_update()), ["a"]);
    assert!(timeout(Duration::from_secs(20), listings.changed()).await.is_err());
    assert!(roster.current().listed_at.unwrap() >= first + Duration::from_secs(15));
}

#[tokio::test(start_paused = true)]
async fn dropped_it_stops_listing() {
    let registry = Odd::new(Watching::Works);
    let roster = Roster::start(registry.clone(), ROLE);
    wait_for(&roster, &[]).await;
    let mut listings = roster.subscribe();
    listings.mark_unchanged();
    drop(roster);
    assert!(listings.changed().await.is_err(), "the sender went with the task");
    assert_eq!(Arc::strong_count(&registry), 1);
}
