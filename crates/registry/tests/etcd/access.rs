//! Servers that ask who is there: user and password, TLS with an authority and certificates of one's own.

use std::{path::PathBuf, time::Duration};

use etcd_client::Client;
use roomcast_registry::{Error, Member, Registry, Roster};
use roomcast_runtime::config::{Etcd as Section, Secret};
use roomcast_test_servers::Etcd;

use crate::support::{ROLE, TTL, answer, has, node, open, prefixed, register, wait_for_key, wait_for_list};

const USER: &str = "root";
const PASSWORD: &str = "correct horse";

/// From now on nobody gets in without a login.
async fn enable_login(etcd: &Etcd) {
    let mut client = Client::connect([etcd.endpoint()], None).await.unwrap();
    client.user_add(USER, PASSWORD, None).await.unwrap();
    client.user_grant_role(USER, "root").await.unwrap();
    client.auth_enable().await.unwrap();
}

fn with_login(etcd: &Etcd, password: &str) -> Section {
    Section { user: USER.to_owned(), password: Secret::new(password), ..prefixed(&etcd.url()) }
}

async fn refused(registry: &dyn Registry) -> String {
    match answer(registry.list(ROLE)).await {
        Err(error @ Error::Unavailable { .. }) => error.to_string(),
        other => panic!("expected a refusal, got {other:?}"),
    }
}

/// What a retry does not mend.
async fn denied(registry: &dyn Registry) -> String {
    match answer(registry.list(ROLE)).await {
        Err(error @ Error::Denied { .. }) => error.to_string(),
        other => panic!("expected to be denied, got {other:?}"),
    }
}

#[tokio::test]
async fn with_user_and_password_a_login_is_renewed_when_the_server_forgot_it() {
    let etcd = Etcd::start();
    enable_login(&etcd).await;
    let section = with_login(&etcd, PASSWORD);
    let (ours, theirs) = (open(&section), open(&section));
    let own = node("own");
    let member = Member::join(ours, own.clone(), TTL).await.unwrap();
    let roster = Roster::start(theirs.clone(), ROLE);
    wait_for_list(&roster, |listing| has(listing, &own)).await;
    // Tokens are in its memory only.
    etcd.kill();
    etcd.start_again();
    wait_for_key(&*theirs, &own).await;
    let late = node("late");
    register(&*theirs, &late).await;
    wait_for_list(&roster, |listing| has(listing, &late) && has(listing, &own)).await;
    member.leave().await;
    wait_for_list(&roster, |listing| !has(listing, &own)).await;
}

#[tokio::test]
async fn calls_that_come_together_all_log_in() {
    let etcd = Etcd::start();
    enable_login(&etcd).await;
    let registry = open(&with_login(&etcd, PASSWORD));
    let lists = (0..50).map(|_| registry.list(ROLE));
    for list in futures_util::future::join_all(lists).await {
        assert_eq!(list.unwrap(), []);
    }
}

#[tokio::test]
async fn whoever_does_not_log_in_right_is_told() {
    let etcd = Etcd::start();
    enable_login(&etcd).await;
    let told = denied(&*open(&with_login(&etcd, "wrong"))).await;
    assert!(told.contains("authentication failed") && !told.contains("wrong"), "{told}");
    let told = denied(&*open(&prefixed(&etcd.url()))).await;
    assert!(told.contains("user name is empty"), "{told}");
    let watched = open(&prefixed(&etcd.url())).watch(ROLE).await;
    assert!(matches!(watched, Err(Error::Denied { .. })));
}

#[tokio::test]
async fn a_login_may_be_asked_for_later() {
    let etcd = Etcd::start();
    let registry = open(&with_login(&etcd, PASSWORD));
    let early = node("early");
    register(&*registry, &early).await;
    enable_login(&etcd).await;
    assert_eq!(registry.list(ROLE).await.unwrap(), [early]);
}

fn with_tls(etcd: &Etcd) -> Section {
    let authority = etcd.authority().expect("started with TLS");
    Section {
        ca_file: authority.ca_file(),
        cert_file: authority.cert_file(),
        key_file: authority.key_file(),
        ..prefixed(&etcd.url())
    }
}

#[tokio::test]
async fn with_tls_both_sides_show_a_certificate() {
    let etcd = Etcd::start_with_tls();
    let section = with_tls(&etcd);
    let registry = open(&section);
    let own = node("own");
    let member = Member::join(registry.clone(), own.clone(), TTL).await.unwrap();
    let roster = Roster::start(registry, ROLE);
    wait_for_list(&roster, |listing| has(listing, &own)).await;
    member.leave().await;
    wait_for_list(&roster, |listing| !has(listing, &own)).await;

    // Without a certificate, with an authority that is not the server's, without TLS at all.
    let told =
        refused(&*open(&Section { cert_file: PathBuf::new(), key_file: PathBuf::new(), ..section.clone() }))
            .await;
    // With TLS 1.3 the server judges a client that counts the handshake as done: its reason may come too late to be told.
    assert!(told.contains(&etcd.endpoint()), "{told}");
    let other = Etcd::start_with_tls();
    let told = refused(&*open(&Section { ca_file: with_tls(&other).ca_file, ..section.clone() })).await;
    assert!(told.contains("invalid peer certificate"), "{told}");
    refused(&*open(&prefixed(&format!("etcd://{}", etcd.endpoint())))).await;
}

#[tokio::test]
async fn a_server_that_freezes_while_it_shakes_hands_is_back_at_once() {
    let etcd = Etcd::start_with_tls();
    let registry = open(&with_tls(&etcd));
    etcd.freeze();
    refused(&*registry).await;
    refused(&*registry).await;
    etcd.thaw();
    let own = node("own");
    let lease = tokio::time::timeout(Duration::from_secs(2), registry.grant(TTL * 100)).await.unwrap();
    assert!(lease.is_ok(), "{lease:?}");
    register(&*registry, &own).await;
}

#[tokio::test]
async fn files_that_are_no_certificates_are_errors_that_name_the_key() {
    let etcd = Etcd::start_with_tls();
    let section = with_tls(&etcd);
    let cases = [
        ("etcd.ca_file", Section { ca_file: "/no/such/file".into(), ..section.clone() }),
        ("etcd.ca_file", Section { ca_file: section.key_file.clone(), ..section.clone() }),
        ("etcd.key_file", Section { key_file: section.cert_file.clone(), ..section.clone() }),
    ];
    for (key, section) in cases {
        let Err(error) = roomcast_registry::open(&section) else { panic!("{key} was taken") };
        assert!(error.to_string().starts_with(key), "{error}");
    }
}
