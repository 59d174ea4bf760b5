//! etcd killed, frozen, one of several dead: who is registered and listed then, and after it is back.

use std::time::Duration;

use futures_util::StreamExt;
use roomcast_registry::{Error, Hint, Member, Role, Roster};
use roomcast_test_servers::Etcd;
use tokio::time::{Instant, sleep, timeout};

use crate::support::{
    DEADLINE, ROLE, TTL, answer, has, node, open, prefixed, refusing, register, wait_for_key, wait_for_list,
};

/// Members and rosters try every 2 s at least; more than twice that is not what they promise.
const SOON: Duration = Duration::from_secs(5);

/// Stops etcd in one of several ways for longer than a lease, and looks who is there after it is back.
async fn everybody_is_back(etcd: &Etcd, stop: impl Fn(&Etcd), go_on: impl Fn(&Etcd)) {
    let section = prefixed(&etcd.url());
    let (ours, theirs) = (open(&section), open(&section));
    let own = node("own");
    let member = Member::join(ours.clone(), own.clone(), TTL).await.unwrap();
    let roster = Roster::start(theirs.clone(), ROLE);
    wait_for_list(&roster, |listing| has(listing, &own)).await;

    stop(etcd);
    let stopped = Instant::now();
    let error = answer(theirs.list(ROLE)).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }), "{error}");
    sleep(TTL * 3).await;
    assert!(has(&roster.current(), &own), "the last list stays");
    assert!(roster.current().listed_at.unwrap() <= stopped);

    let going_on = Instant::now();
    go_on(etcd);
    let is_back = Instant::now();
    wait_for_key(&*theirs, &own).await;
    let is_fresh = |at: Option<Instant>| at.is_some_and(|at| at > going_on);
    wait_for_list(&roster, |listing| is_fresh(listing.listed_at) && has(listing, &own)).await;
    assert!(is_back.elapsed() < SOON, "everybody was back only after {:?}", is_back.elapsed());

    let late = node("late");
    register(&*theirs, &late).await;
    wait_for_list(&roster, |listing| has(listing, &late)).await;
    member.leave().await;
    wait_for_list(&roster, |listing| !has(listing, &own)).await;
}

#[tokio::test]
async fn after_etcd_was_killed_everybody_is_back() {
    everybody_is_back(&Etcd::start(), Etcd::kill, Etcd::start_again).await;
}

#[tokio::test]
async fn after_etcd_lost_its_keys_and_leases_everybody_is_back() {
    everybody_is_back(&Etcd::start(), Etcd::kill_and_forget, Etcd::start_again).await;
}

#[tokio::test]
async fn after_etcd_was_frozen_everybody_is_back() {
    everybody_is_back(&Etcd::start(), Etcd::freeze, Etcd::thaw).await;
}

#[tokio::test]
async fn a_key_whose_lease_ended_meanwhile_is_written_again() {
    let etcd = Etcd::start();
    let section = prefixed(&etcd.url());
    let registry = open(&section);
    let own = node("own");
    let _member = Member::join(open(&section), own.clone(), TTL).await.unwrap();
    etcd.freeze();
    sleep(TTL * 2).await;
    etcd.thaw();
    wait_for_key(&*registry, &own).await;
    let kept = Instant::now();
    while kept.elapsed() < TTL * 3 {
        sleep(TTL / 4).await;
        wait_for_key(&*registry, &own).await;
    }
}

#[tokio::test]
async fn a_server_that_refuses_is_passed_over() {
    let section = prefixed(&format!("etcd://{},{}", refusing().await, Etcd::shared().endpoint()));
    let registry = open(&section);
    let own = node("own");
    let started = Instant::now();
    register(&*registry, &own).await;
    for _ in 0..20 {
        assert_eq!(registry.list(Role::ConnectNode).await.unwrap(), std::slice::from_ref(&own));
    }
    assert!(started.elapsed() < Duration::from_secs(5), "took {:?}", started.elapsed());
}

#[tokio::test]
async fn a_server_that_is_frozen_is_passed_over_and_then_avoided() {
    let frozen = Etcd::start();
    let section = prefixed(&format!("etcd://{},{}", frozen.endpoint(), Etcd::shared().endpoint()));
    let registry = open(&section);
    answer(registry.list(ROLE)).await.unwrap();
    frozen.freeze();
    let own = node("own");
    answer(registry.get(ROLE, &own.id)).await.unwrap();
    let started = Instant::now();
    register(&*registry, &own).await;
    for _ in 0..20 {
        assert_eq!(registry.list(ROLE).await.unwrap(), std::slice::from_ref(&own));
    }
    assert!(started.elapsed() < Duration::from_secs(5), "took {:?}", started.elapsed());
}

/// etcd ends connections that ping too fast, or while nothing is asked of it, and with them their watches.
#[tokio::test]
async fn a_watch_that_hears_nothing_for_long_still_hears() {
    let section = prefixed(&Etcd::shared().url());
    let (registry, other) = (open(&section), open(&section));
    let mut hints = registry.watch(ROLE).await.unwrap();
    // Four pings; etcd forgives two that come too early.
    let silence = timeout(Duration::from_secs(26), hints.next()).await;
    assert!(silence.is_err(), "{silence:?}");
    register(&*other, &node("late")).await;
    assert_eq!(timeout(DEADLINE, hints.next()).await, Ok(Some(Hint)));
}
