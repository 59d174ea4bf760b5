//! The proxies of a platform, by who dials whom.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
};

use roomcast_test_servers::free_port;

use super::{dialer, part::Place};
use crate::{backends::Servers, proxy::Proxy};

/// Whoever is no part of the platform: publishers, clients, the test itself.
pub const OUTSIDE: &str = "outside";
/// WebSocket clients, on a way of their own.
const CLIENTS: &str = "clients";

/// Which processes the parts are at the moment, by index.
#[derive(Debug, Clone, Default)]
pub struct Pids(Arc<Mutex<Vec<Option<u32>>>>);

impl Pids {
    pub fn set(&self, index: usize, pid: Option<u32>) {
        let mut pids = self.0.lock().unwrap();
        if pids.len() <= index {
            pids.resize(index + 1, None);
        }
        pids[index] = pid;
    }

    fn all(&self) -> Vec<Option<u32>> {
        self.0.lock().unwrap().clone()
    }
}

/// Where one part finds the stores.
pub struct Stores {
    pub etcd: String,
    pub redis: String,
    pub mariadb: String,
}

struct Way {
    dialer: String,
    target: String,
    at: SocketAddr,
    proxy: Proxy,
}

/// All proxies.
pub struct Ways {
    ways: Vec<Way>,
    /// Where each part has its ways to the stores.
    own: Vec<Ipv4Addr>,
    /// The stores themselves.
    servers: [(&'static str, SocketAddr); 3],
}

impl Ways {
    /// No proxies: parts dial each other and the stores themselves.
    pub fn none(servers: &Servers) -> Self {
        Self { ways: Vec::new(), own: Vec::new(), servers: servers.addresses() }
    }

    /// One proxy from each part to each store, and one before each part, which tells apart who dials.
    pub async fn start(places: &[Place], servers: &Servers, pids: &Pids) -> Self {
        let mut ways = Vec::new();
        for place in places {
            for (store, to) in servers.addresses() {
                let at = SocketAddr::from((place.stores, free_port()));
                let proxy = Proxy::start(at, to).await;
                ways.push(Way { dialer: place.name.clone(), target: store.to_owned(), at, proxy });
            }
            let at = SocketAddr::from((place.advertised, place.grpc));
            let (pids, parts) = (pids.clone(), places.len());
            // The last way is that of everybody else.
            let sort = move |peer| dialer::find(peer, at, &pids.all()).unwrap_or(parts);
            let shares = Proxy::sorted(at, (place.own, place.grpc).into(), parts + 1, sort).await;
            let dialers = places.iter().map(|place| place.name.as_str()).chain([OUTSIDE]);
            for (dialer, proxy) in dialers.zip(shares) {
                ways.push(Way { dialer: dialer.to_owned(), target: place.name.clone(), at, proxy });
            }
            if place.role == "connect-node" {
                let at = SocketAddr::from((place.advertised, place.http));
                let proxy = Proxy::start(at, (place.own, place.http).into()).await;
                ways.push(Way { dialer: CLIENTS.to_owned(), target: place.name.clone(), at, proxy });
            }
        }
        let own = places.iter().map(|place| place.stores).collect();
        Self { ways, own, servers: servers.addresses() }
    }

    /// Where one part finds the stores: at proxies of its own, if there are proxies.
    pub fn stores(&self, part: usize, database: &str) -> Stores {
        let at = |store: &str| {
            let is_own = |way: &&Way| way.target == store && way.at.ip() == self.own[part];
            let way = self.ways.iter().find(is_own).map(|way| way.at);
            let server = self.servers.iter().find(|(name, _)| *name == store).map(|(_, at)| *at);
            way.or(server).expect("it is one of the three")
        };
        Stores {
            etcd: format!("etcd://{}", at("etcd")),
            redis: format!("redis://{}/0", at("redis")),
            mariadb: format!("mysql://root@{}/{database}", at("mariadb")),
        }
    }

    /// All ways between the two, in either direction.
    pub fn between(&self, one: &str, other: &str) -> Vec<&Proxy> {
        let joins = |way: &&Way| {
            (is(&way.dialer, one) && is(&way.target, other))
                || (is(&way.dialer, other) && is(&way.target, one))
        };
        let found: Vec<_> = self.ways.iter().filter(joins).map(|way| &way.proxy).collect();
        assert!(!found.is_empty(), "there is no proxy between {one} and {other}");
        found
    }

    /// The way of clients to a node.
    pub fn clients(&self, node: &str) -> &Proxy {
        let found = self.ways.iter().find(|way| way.dialer == CLIENTS && way.target == node);
        &found.unwrap_or_else(|| panic!("there is no proxy before {node}")).proxy
    }

    pub fn mend(&self) {
        self.ways.iter().for_each(|way| way.proxy.mend());
    }
}

/// Whether a part is meant by a name or by a role.
fn is(name: &str, meant: &str) -> bool {
    name.strip_prefix(meant).is_some_and(|rest| {
        rest.is_empty()
            || rest.strip_prefix('-').is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
    })
}

#[cfg(test)]
mod tests {
    use super::is;

    #[test]
    fn a_role_means_all_of_its_parts_and_a_name_means_one() {
        assert!(is("connect-node-1", "connect-node") && is("connect-node-1", "connect-node-1"));
        assert!(is("etcd", "etcd"));
        assert!(!is("connect-node-12", "connect-node-1") && !is("connect-node-1", "connect"));
        assert!(!is("controller-1", "connect-node"));
    }
}
