//! What etcd 3.4.23 may do wrong, and that it does not last.

use etcd_client::Client;
use futures_util::StreamExt;
use roomcast_registry::{Error, Member, Roster};
use roomcast_test_servers::Etcd;
use tokio::time::{Instant, sleep, timeout};

use crate::{
    stub::{KeepAlives, Stub},
    support::{DEADLINE, ROLE, TTL, has, node, open, prefixed, register, wait_for_key, wait_for_list},
};

#[tokio::test]
async fn a_keep_alive_counts_only_when_it_names_time_for_this_lease() {
    let stub = Stub::start().await;
    let registry = open(&prefixed(&stub.url()));
    let lease = registry.grant(TTL).await.unwrap();
    assert_eq!(registry.keep_alive(lease).await.unwrap(), TTL);
    stub.answer_keep_alives(KeepAlives::OnceAlive);
    assert!(matches!(registry.keep_alive(lease).await, Err(Error::LeaseLost)));
    stub.answer_keep_alives(KeepAlives::OfAnother);
    assert!(matches!(registry.keep_alive(lease).await, Err(Error::Unavailable { .. })));
    stub.answer_keep_alives(KeepAlives::Honest);
    stub.forget_leases();
    assert!(matches!(registry.keep_alive(lease).await, Err(Error::LeaseLost)));
}

/// The key still reads as written, so only the keep-alive tells that it will not stay.
#[tokio::test]
async fn a_key_left_without_its_lease_is_written_under_a_new_one() {
    let stub = Stub::start().await;
    let registry = open(&prefixed(&stub.url()));
    let own = node("own");
    let _member = Member::join(registry.clone(), own.clone(), TTL).await.unwrap();
    stub.forget_leases();
    wait_until("the key hangs on a lease again", || stub.keys_are_leased()).await;
    assert_eq!(registry.get(ROLE, &own.id).await.unwrap(), Some(own));
}

#[tokio::test]
async fn a_key_that_vanished_while_keep_alives_were_answered_is_written_again_by_the_same_life() {
    let stub = Stub::start().await;
    let registry = open(&prefixed(&stub.url()));
    let own = node("own");
    let _member = Member::join(registry.clone(), own.clone(), TTL).await.unwrap();
    for _ in 0..2 {
        stub.answer_keep_alives(KeepAlives::AlwaysAlive);
        stub.revoke_all();
        wait_for_key(&*registry, &own).await;
        assert!(stub.keys_are_leased());
    }
}

#[tokio::test]
async fn events_that_were_lost_are_found_by_the_list() {
    let stub = Stub::start().await;
    let registry = open(&prefixed(&stub.url()));
    let roster = Roster::start(registry.clone(), ROLE);
    wait_for_list(&roster, |listing| listing.listed_at.is_some()).await;
    stub.lose_events();
    let late = node("late");
    register(&*registry, &late).await;
    wait_for_list(&roster, |listing| has(listing, &late)).await;
    registry.remove(ROLE, &late.id, late.incarnation).await.unwrap();
    wait_for_list(&roster, |listing| !has(listing, &late)).await;
}

#[tokio::test]
async fn a_watch_behind_a_compaction_ends_and_another_one_begins() {
    let stub = Stub::start().await;
    let registry = open(&prefixed(&stub.url()));
    let mut hints = registry.watch(ROLE).await.unwrap();
    stub.compact();
    assert_eq!(timeout(DEADLINE, hints.next()).await, Ok(None));

    let roster = Roster::start(registry.clone(), ROLE);
    wait_for_list(&roster, |listing| listing.listed_at.is_some()).await;
    stub.compact();
    let late = node("late");
    register(&*registry, &late).await;
    wait_for_list(&roster, |listing| has(listing, &late)).await;
}

/// As after a change of the leader, in a real etcd.
#[tokio::test]
async fn leases_that_etcd_revoked_are_replaced_by_the_same_lives() {
    let etcd = Etcd::start();
    let registry = open(&prefixed(&etcd.url()));
    let lives = [node("one"), node("two")];
    let mut members = Vec::new();
    for life in &lives {
        members.push(Member::join(registry.clone(), life.clone(), TTL).await.unwrap());
    }
    let roster = Roster::start(registry.clone(), ROLE);
    wait_for_list(&roster, |listing| listing.registrations == lives).await;
    let mut client = Client::connect([etcd.endpoint()], None).await.unwrap();
    for lease in client.leases().await.unwrap().leases() {
        client.lease_revoke(lease.id()).await.unwrap();
    }
    assert_eq!(registry.list(ROLE).await.unwrap(), []);
    for life in &lives {
        wait_for_key(&*registry, life).await;
    }
    wait_for_list(&roster, |listing| listing.registrations == lives).await;
}

async fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < DEADLINE, "waited in vain until {what}");
        sleep(TTL / 100).await;
    }
}
