//! Registrations in a real etcd: the rules of the registry, and what becomes of them when servers fail.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod access;
mod defects;
mod outages;
mod stub;
mod support;

use std::{sync::Arc, time::Duration};

use roomcast_registry::{
    EtcdRegistry, Registry, Role,
    conformance::{Backend, Pace},
};
use roomcast_runtime::config::EtcdTarget;
use roomcast_test_servers::Etcd;

use self::support::{TTL, node, open, prefixed, section};

async fn fresh() -> Backend {
    let pace = Pace { ttl: TTL, deadline: Duration::from_secs(10) };
    Backend::new(open(&prefixed(&Etcd::shared().url())), pace)
}

mod etcd {
    roomcast_registry::registry_conformance!(
        #[tokio::test]
        super::fresh()
    );
}

#[tokio::test]
async fn platforms_with_different_prefixes_do_not_see_each_other() {
    let url = Etcd::shared().url();
    let (here, there) = (open(&prefixed(&url)), open(&prefixed(&url)));
    support::register(&*here, &node("n")).await;
    assert_eq!(here.list(Role::ConnectNode).await.unwrap().len(), 1);
    assert_eq!(there.list(Role::ConnectNode).await.unwrap(), []);
}

#[tokio::test]
async fn a_value_that_is_no_registration_does_not_hide_the_others() {
    let section = prefixed(&Etcd::shared().url());
    let registry = open(&section);
    let known = node("known");
    support::register(&*registry, &known).await;
    let mut client = etcd_client::Client::connect([Etcd::shared().endpoint()], None).await.unwrap();
    let key = format!("{}/services/connect-node/foreign", section.key_prefix);
    client.put(key.as_str(), "not ours", None).await.unwrap();
    assert_eq!(registry.list(Role::ConnectNode).await.unwrap(), [known]);
    let error = registry.get(Role::ConnectNode, &node("foreign").id).await.unwrap_err();
    assert!(error.to_string().contains(&key), "{error}");
}

#[tokio::test]
async fn what_is_kept_is_what_the_server_says() {
    let registry = open(&prefixed(&Etcd::shared().url()));
    let lease = registry.grant(Duration::from_millis(2_001)).await.unwrap();
    assert_eq!(registry.keep_alive(lease).await.unwrap(), Duration::from_secs(3), "etcd counts in seconds");
}

#[tokio::test]
async fn memory_needs_no_server() {
    let registry = open(&section("memory:"));
    assert_eq!(registry.list(Role::ConnectNode).await.unwrap(), []);
}

#[tokio::test]
async fn a_server_that_is_away_is_no_reason_not_to_open() {
    let section = section(&format!("etcd://{}", support::refusing().await));
    let EtcdTarget::Servers(servers) = section.target().unwrap() else { panic!("memory") };
    let registry: Arc<dyn Registry> = Arc::new(EtcdRegistry::open(&servers, &section).unwrap());
    let error = registry.list(Role::ConnectNode).await.unwrap_err();
    let address = &section.url.expose()["etcd://".len()..];
    let error = error.to_string();
    assert!(error.contains(address) && error.contains("Connection refused"), "{error}");
}
