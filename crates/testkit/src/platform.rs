//! The platform as it runs in earnest: one process for each part, on etcd, MariaDB and Redis, with a proxy on every way
//! between two of them.
//!
//! Parts are named by role and number (`connect-node-1`), stores `etcd`, `redis` and `mariadb`; whoever else connects is
//! `outside`. A role alone means all parts of it. Everything is on loopback: part number N of the platform listens on
//! 127.0.1.N, is advertised as 127.0.2.N, where its proxy is, and finds the stores at 127.0.3.N.

mod dialer;
mod logs;
mod part;
mod ways;

use std::path::{Path, PathBuf};

use futures_util::future::join_all;

use self::{
    part::Place,
    ways::{Pids, Ways},
};
pub use self::{
    part::{Part, Resources},
    ways::OUTSIDE,
};
use crate::backends::Servers;

/// Names what to start.
#[derive(Debug)]
pub struct PlatformBuilder {
    programs: PathBuf,
    counts: [usize; 3],
    sets: Vec<String>,
    is_proxied: bool,
}

/// Role words, in the order in which they are counted and started.
const ROLES: [&str; 3] = ["controller", "push-manager", "connect-node"];

impl PlatformBuilder {
    /// How many connect-nodes (3).
    pub fn nodes(mut self, count: usize) -> Self {
        self.counts[2] = count;
        self
    }

    /// How many push-managers (2).
    pub fn push_managers(mut self, count: usize) -> Self {
        self.counts[1] = count;
        self
    }

    /// How many controllers (2).
    pub fn controllers(mut self, count: usize) -> Self {
        self.counts[0] = count;
        self
    }

    /// Sets a configuration key of all of them: `path=value`.
    pub fn set(mut self, assignment: &str) -> Self {
        self.sets.push(assignment.to_owned());
        self
    }

    /// Without proxies: no way can be broken, and none costs anything.
    pub fn direct(mut self) -> Self {
        self.is_proxied = false;
        self
    }

    /// Starts everything and returns when all parts are ready.
    pub async fn start(self) -> Platform {
        let servers = Servers::start().await;
        self.start_on(servers).await.ready().await
    }

    /// Starts everything on these servers, which may be away; returns at once.
    pub async fn start_on(self, servers: Servers) -> Platform {
        let names = ROLES
            .iter()
            .zip(self.counts)
            .flat_map(|(role, count)| (1..=count).map(move |number| (*role, format!("{role}-{number}"))));
        let place = |(index, (role, name))| Place::new(index, role, name, self.is_proxied);
        let places: Vec<_> = names.enumerate().map(place).collect();
        let pids = Pids::default();
        let ways = match self.is_proxied {
            true => Ways::start(&places, &servers, &pids).await,
            false => Ways::none(&servers),
        };
        let parts = places.into_iter().enumerate().map(|(index, place)| {
            let stores = ways.stores(index, servers.database());
            Part::start(place, &self.programs, &stores, &self.sets, pids.clone(), index)
        });
        Platform { parts: parts.collect(), ways, servers }
    }
}

/// The running platform; all of it ends when it is dropped.
pub struct Platform {
    parts: Vec<Part>,
    ways: Ways,
    servers: Servers,
}

impl Platform {
    /// Two controllers, two push-managers and three nodes of the programs in a folder.
    pub fn builder(programs: &Path) -> PlatformBuilder {
        PlatformBuilder {
            programs: programs.to_owned(),
            counts: [2, 2, 3],
            sets: Vec::new(),
            is_proxied: true,
        }
    }

    /// Waits until every part is ready and does without nothing.
    pub async fn ready(self) -> Self {
        join_all(self.parts.iter().map(Part::until_whole)).await;
        self
    }

    /// The stores.
    pub fn servers(&self) -> &Servers {
        &self.servers
    }

    /// All parts.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// One part.
    pub fn part(&self, name: &str) -> &Part {
        let found = self.parts.iter().find(|part| part.name() == name);
        found.unwrap_or_else(|| panic!("there is no {name}"))
    }

    /// All parts of a role.
    pub fn role(&self, role: &str) -> Vec<&Part> {
        self.parts.iter().filter(|part| part.role() == role).collect()
    }

    /// The ways between two of them, whoever dials: to be broken.
    pub fn between(&self, one: &str, other: &str) -> Vec<&crate::proxy::Proxy> {
        self.ways.between(one, other)
    }

    /// The way of WebSocket clients that connect to [`Part::ws_proxied`] of a node.
    pub fn clients(&self, node: &str) -> &crate::proxy::Proxy {
        self.ways.clients(node)
    }

    /// No way is broken any more.
    pub fn mend(&self) {
        self.ways.mend();
    }

    /// Lines of level ERROR and panics in all logs, but those with one of these words in them.
    pub fn complaints(&self, expected: &[&str]) -> Vec<String> {
        self.parts.iter().flat_map(|part| logs::complaints(part.name(), &part.said(), expected)).collect()
    }

    /// Copies all logs into a folder, which is made.
    pub fn keep_logs(&self, folder: &Path) -> std::io::Result<()> {
        std::fs::create_dir_all(folder)?;
        for part in &self.parts {
            std::fs::write(folder.join(format!("{}.log", part.name())), part.said())?;
        }
        Ok(())
    }
}
