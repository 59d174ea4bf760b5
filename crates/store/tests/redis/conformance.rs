//! The suites of presence and of logs on each kind of Redis. On the cluster it proves that each script keeps to one hash tag, as
//! a cluster refuses what lies on two slots.

use std::{future::Future, sync::Arc};

use futures_util::FutureExt;
use roomcast_store::{
    Log,
    conformance::{log::Journal, presence::Memory},
};
use roomcast_test_servers::{Redis, RedisCluster, RedisSentinel, unique};

use super::support;

/// A fresh prefix is an empty memory; what has it is flushed on each of `servers`.
async fn fresh(url: String, servers: &'static [&'static Redis]) -> Memory {
    let prefix = format!("{}:", unique("suite"));
    let presence = Arc::new(support::open(&url, &prefix));
    Memory::new(presence, move || {
        servers.iter().for_each(|server| support::delete_all(server, &prefix));
        std::future::ready(()).boxed()
    })
}

fn leaked(servers: Vec<&'static Redis>) -> &'static [&'static Redis] {
    Box::leak(servers.into_boxed_slice())
}

fn on_one_server() -> impl Future<Output = Memory> {
    fresh(Redis::shared().url(), leaked(vec![Redis::shared()]))
}

fn on_a_cluster() -> impl Future<Output = Memory> {
    fresh(RedisCluster::shared().url(), leaked(RedisCluster::shared().masters().iter().collect()))
}

fn through_a_sentinel() -> impl Future<Output = Memory> {
    fresh(RedisSentinel::shared().url(), leaked(vec![RedisSentinel::shared().master()]))
}

/// Two handles.
async fn logs(url: String) -> Journal {
    let prefix = format!("{}:", unique("suite"));
    let handles = [support::open_log(&url, &prefix), support::open_log(&url, &prefix)];
    Journal::new(handles.into_iter().map(|log| Arc::new(log) as Arc<dyn Log>).collect())
}

mod logs_on_one_server {
    roomcast_store::log_conformance!(super::logs(super::Redis::shared().url()));
}

mod logs_on_a_cluster {
    roomcast_store::log_conformance!(super::logs(super::RedisCluster::shared().url()));
}

mod logs_through_a_sentinel {
    roomcast_store::log_conformance!(super::logs(super::RedisSentinel::shared().url()));
}

mod one_server {
    roomcast_store::presence_conformance!(super::on_one_server());
}

mod cluster {
    roomcast_store::presence_conformance!(super::on_a_cluster());
}

mod sentinel {
    roomcast_store::presence_conformance!(super::through_a_sentinel());
}
