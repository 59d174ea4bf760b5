//! A member keeps its registration through everything but a live rival and its own leave.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{sync::Arc, time::Duration};

use roomcast_registry::{
    Error, Expect, LeaseId, Member, MemoryRegistry, Registration, Registry, Role, State,
};
use roomcast_types::{Incarnation, ServiceId};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    time::{Instant, sleep, timeout},
};

const TTL: Duration = Duration::from_secs(10);
const ROLE: Role = Role::ConnectNode;

fn id() -> ServiceId {
    ServiceId::new("n1").unwrap()
}

/// A life of the same node at an address.
fn life(grpc_address: &str) -> Registration {
    Registration {
        role: ROLE,
        id: id(),
        grpc_address: grpc_address.to_owned(),
        url: "ws://n1/ws".to_owned(),
        incarnation: Incarnation::random(),
        state: State::Starting,
    }
}

async fn join(registry: &Arc<MemoryRegistry>, registration: &Registration) -> Member {
    Member::join(registry.clone(), registration.clone(), TTL).await.unwrap()
}

async fn found(registry: &MemoryRegistry) -> Option<Registration> {
    registry.get(ROLE, &id()).await.unwrap()
}

/// Writes a rival's key under a lease of its own, whatever is there.
async fn seize(registry: &MemoryRegistry, rival: &Registration) -> LeaseId {
    let lease = registry.grant(TTL * 1_000).await.unwrap();
    let expect = found(registry).await.map_or(Expect::Absent, |holder| Expect::HeldBy(holder.incarnation));
    registry.put(rival, lease, expect).await.unwrap();
    lease
}

/// How long it takes until the registration reads so.
async fn wait_for(registry: &MemoryRegistry, expected: Option<&Registration>) -> Duration {
    let started = Instant::now();
    while found(registry).await.as_ref() != expected {
        assert!(started.elapsed() < Duration::from_secs(60), "waited in vain for {expected:?}");
        sleep(Duration::from_millis(5)).await;
    }
    started.elapsed()
}

/// An address that accepts connections for as long as the listener lives.
async fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

/// An address that refuses connections.
async fn refusing() -> String {
    listener().await.1
}

fn assert_held(answer: Result<Member, Error>, expected: &Registration) {
    match answer {
        Err(Error::Held { holder }) => assert_eq!(*holder, *expected),
        other => panic!("expected the holder's name, got {other:?}"),
    }
}

#[tokio::test]
async fn a_key_whose_holder_accepts_connections_is_not_taken() {
    let registry = Arc::new(MemoryRegistry::new());
    let (_alive, address) = listener().await;
    let holder = life(&address);
    seize(&registry, &holder).await;
    let answer = Member::join(registry.clone(), life("127.0.0.1:1"), TTL).await;
    assert!(answer.as_ref().unwrap_err().to_string().contains(&address));
    assert_held(answer, &holder);
    assert_eq!(found(&registry).await, Some(holder));
}

#[tokio::test]
async fn a_key_whose_holder_refuses_connections_is_taken_over() {
    let registry = Arc::new(MemoryRegistry::new());
    seize(&registry, &life(&refusing().await)).await;
    let own = life("127.0.0.1:1");
    let _member = join(&registry, &own).await;
    assert_eq!(found(&registry).await, Some(own));
}

#[tokio::test]
async fn a_holder_that_does_not_answer_is_not_dead() {
    let registry = Arc::new(MemoryRegistry::new());
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let frozen = socket.listen(1).unwrap();
    let address = frozen.local_addr().unwrap();
    // Nobody accepts: once the queue is full, further connections get no answer at all.
    let mut queue = Vec::new();
    while let Ok(Ok(waiting)) = timeout(Duration::from_millis(200), TcpStream::connect(address)).await {
        queue.push(waiting);
        assert!(queue.len() < 100, "the queue never fills");
    }
    let holder = life(&address.to_string());
    seize(&registry, &holder).await;
    assert_held(Member::join(registry.clone(), life("127.0.0.1:1"), TTL).await, &holder);
}

#[tokio::test]
async fn an_address_that_cannot_be_dialled_is_not_a_refusal() {
    let registry = Arc::new(MemoryRegistry::new());
    let holder = life("no port");
    seize(&registry, &holder).await;
    assert_held(Member::join(registry.clone(), life("127.0.0.1:1"), TTL).await, &holder);
}

#[tokio::test]
async fn a_former_life_at_our_own_address_is_taken_over() {
    let registry = Arc::new(MemoryRegistry::new());
    let (_ours, address) = listener().await;
    seize(&registry, &life(&address)).await;
    let own = life(&address);
    let _member = join(&registry, &own).await;
    assert_eq!(found(&registry).await, Some(own));
}

#[tokio::test(start_paused = true)]
async fn joining_needs_the_registry() {
    let registry = Arc::new(MemoryRegistry::new());
    registry.set_available(false);
    let answer = Member::join(registry, life("127.0.0.1:1"), TTL).await;
    assert!(matches!(answer, Err(Error::Unavailable { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_registration_outlives_its_lease_many_times() {
    let registry = Arc::new(MemoryRegistry::new());
    let own = life("127.0.0.1:1");
    let _member = join(&registry, &own).await;
    let started = Instant::now();
    while started.elapsed() < TTL * 20 {
        assert_eq!(found(&registry).await.as_ref(), Some(&own), "after {:?}", started.elapsed());
        sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_state_is_written_at_once() {
    let registry = Arc::new(MemoryRegistry::new());
    let own = life("127.0.0.1:1");
    let member = join(&registry, &own).await;
    for state in [State::Ready, State::Draining] {
        member.set_state(state);
        let expected = Registration { state, ..own.clone() };
        assert!(wait_for(&registry, Some(&expected)).await < Duration::from_millis(50));
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_that_vanished_is_written_again_by_the_same_life() {
    let registry = Arc::new(MemoryRegistry::new());
    let own = life("127.0.0.1:1");
    let member = join(&registry, &own).await;
    member.set_state(State::Ready);
    let ready = Registration { state: State::Ready, ..own };
    wait_for(&registry, Some(&ready)).await;
    for _ in 0..3 {
        assert!(registry.remove(ROLE, &id(), ready.incarnation).await.unwrap());
        assert!(wait_for(&registry, Some(&ready)).await <= Duration::from_millis(2_100));
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_lease_is_replaced() {
    let registry = Arc::new(MemoryRegistry::new());
    let own = life("127.0.0.1:1");
    let _member = join(&registry, &own).await;
    registry.revoke_all();
    assert!(wait_for(&registry, Some(&own)).await <= Duration::from_millis(2_100));
    assert!(registry.expire(ROLE, &id()));
    assert!(wait_for(&registry, Some(&own)).await <= Duration::from_millis(2_100));
    sleep(TTL * 3).await;
    assert_eq!(found(&registry).await, Some(own));
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_was_away_finds_the_last_state() {
    let registry = Arc::new(MemoryRegistry::new());
    let own = life("127.0.0.1:1");
    let member = join(&registry, &own).await;
    registry.set_available(false);
    sleep(Duration::from_secs(30)).await;
    member.set_state(State::Draining);
    member.set_state(State::Ready);
    sleep(Duration::from_secs(30)).await;
    registry.set_available(true);
    let ready = Registration { state: State::Ready, ..own };
    assert!(wait_for(&registry, Some(&ready)).await <= Duration::from_millis(2_100));
}

#[tokio::test(start_paused = true)]
async fn leaving_gives_the_key_back() {
    let registry = Arc::new(MemoryRegistry::new());
    let member = join(&registry, &life("127.0.0.1:1")).await;
    member.leave().await;
    assert_eq!(found(&registry).await, None);
    sleep(TTL).await;
    assert_eq!(found(&registry).await, None);
    member.leave().await;
    let nobody = timeout(TTL, member.lost()).await;
    assert!(nobody.is_err(), "{nobody:?}");
}

#[tokio::test(start_paused = true)]
async fn leaving_does_not_wait_for_a_registry_that_is_away() {
    let registry = Arc::new(MemoryRegistry::new());
    let member = join(&registry, &life("127.0.0.1:1")).await;
    registry.set_available(false);
    timeout(Duration::from_secs(5), member.leave()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn leaving_spares_the_key_of_another_life() {
    let registry = Arc::new(MemoryRegistry::new());
    let member = join(&registry, &life("127.0.0.1:1")).await;
    let rival = life("no port");
    seize(&registry, &rival).await;
    member.leave().await;
    assert_eq!(found(&registry).await, Some(rival));
}

#[tokio::test(start_paused = true)]
async fn dropped_it_leaves_its_key_until_the_lease_ends() {
    let registry = Arc::new(MemoryRegistry::new());
    let own = life("127.0.0.1:1");
    let member = join(&registry, &own).await;
    sleep(TTL * 2).await;
    drop(member);
    sleep(Duration::from_secs(5)).await;
    assert_eq!(found(&registry).await, Some(own));
    sleep(TTL).await;
    assert_eq!(found(&registry).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_a_live_process_took_is_lost_and_names_it() {
    let registry = Arc::new(MemoryRegistry::new());
    let own = life("127.0.0.1:1");
    let member = join(&registry, &own).await;
    let rival = life("no port");
    let rival_lease = seize(&registry, &rival).await;
    let error = timeout(Duration::from_secs(10), member.lost()).await.unwrap();
    assert!(matches!(&error, Error::Held { holder } if **holder == rival), "{error}");
    assert_eq!(found(&registry).await, Some(rival));

    registry.revoke(rival_lease).await.unwrap();
    wait_for(&registry, Some(&own)).await;
    sleep(Duration::from_secs(5)).await;
    assert!(timeout(TTL, member.lost()).await.is_err(), "the key is ours again");
}

#[test]
fn a_registration_that_nothing_keeps_any_more_is_an_error() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (keeping, asking) = (runtime(), runtime());
    let registry = Arc::new(MemoryRegistry::new());
    let member = keeping.block_on(join(&registry, &life("127.0.0.1:1")));
    // A panic of its task has the same effect.
    drop(keeping);
    let error = asking.block_on(async { timeout(TTL, member.lost()).await.unwrap() });
    assert!(matches!(error, Error::Unavailable { .. }), "{error}");
}

#[tokio::test]
async fn a_key_that_a_dead_process_left_is_taken_back() {
    let registry = Arc::new(MemoryRegistry::new());
    let own = life("127.0.0.1:1");
    let member = join(&registry, &own).await;
    seize(&registry, &life(&refusing().await)).await;
    wait_for(&registry, Some(&own)).await;
    assert!(timeout(Duration::ZERO, member.lost()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn of_two_lives_at_one_address_one_gives_up() {
    let registry = Arc::new(MemoryRegistry::new());
    let address = "127.0.0.1:1";
    let first = join(&registry, &life(address)).await;
    let second = join(&registry, &life(address)).await;
    tokio::select! {
        error = first.lost() => assert!(matches!(error, Error::Held { .. })),
        error = second.lost() => assert!(matches!(error, Error::Held { .. })),
        () = sleep(Duration::from_secs(30)) => panic!("they take the key from each other for ever"),
    }
}
