//! What the services of a cluster stand on: the embedded stores, or servers that the test started.

use std::{net::SocketAddr, sync::Arc};

use roomcast_registry::{MemoryRegistry, Registry};
use roomcast_runtime::Config;
use roomcast_store::{Logs, MemoryPresence, Presence, Rooms, SqliteRooms};
use roomcast_test_servers::{Etcd, MariaDb, Redis};

/// etcd, MariaDB and Redis of one test alone, to be killed and frozen at will.
#[derive(Debug)]
pub struct Servers {
    /// Who is alive.
    pub etcd: Etcd,
    /// The record of rooms.
    pub mariadb: MariaDb,
    /// The shared memory.
    pub redis: Redis,
    database: String,
}

impl Servers {
    /// Starts all three, with the tables in place.
    pub async fn start() -> Self {
        let (etcd, mariadb, redis) = tokio::join!(
            tokio::task::spawn_blocking(Etcd::start),
            tokio::task::spawn_blocking(MariaDb::start),
            tokio::task::spawn_blocking(Redis::start),
        );
        let mariadb = mariadb.expect("MariaDB starts");
        let database = mariadb.create_database();
        mariadb.run(&database, include_str!("../../../schema.sql"));
        Self { etcd: etcd.expect("etcd starts"), mariadb, redis: redis.expect("Redis starts"), database }
    }

    /// Where they are, as configuration keys.
    pub(crate) fn sets(&self) -> [String; 3] {
        [
            format!("etcd.url={}", self.etcd.url()),
            format!("redis.url={}", self.redis.url()),
            format!("database.url={}", self.mariadb.url(&self.database)),
        ]
    }

    /// Where each of them listens, by name.
    pub(crate) fn addresses(&self) -> [(&'static str, SocketAddr); 3] {
        let at = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        let etcd = self.etcd.endpoint().parse().expect("an address has no name");
        [("etcd", etcd), ("redis", at(self.redis.port())), ("mariadb", at(self.mariadb.port()))]
    }

    /// The database with the tables.
    pub(crate) fn database(&self) -> &str {
        &self.database
    }

    /// Values of one column that a query finds in the record.
    pub fn query(&self, sql: &str) -> Vec<String> {
        self.mariadb.run(&self.database, sql).lines().map(str::to_owned).collect()
    }
}

/// How a service of a cluster gets at its stores.
#[derive(Clone)]
pub(crate) enum Backends {
    /// One of each, shared by all services.
    Embedded {
        registry: Arc<MemoryRegistry>,
        rooms: Arc<SqliteRooms>,
        presence: Arc<MemoryPresence>,
        logs: Logs,
    },
    /// Each service connects by itself, as processes do.
    Configured,
}

impl Backends {
    /// To be called on the runtime of the service, so that its connections end with it.
    pub(crate) fn registry(&self, config: &Config) -> Arc<dyn Registry> {
        match self {
            Self::Embedded { registry, .. } => registry.clone(),
            Self::Configured => roomcast_registry::open(&config.etcd).expect("the registry is configured"),
        }
    }

    /// As [`Self::registry`].
    pub(crate) async fn rooms(&self, config: &Config) -> Arc<dyn Rooms> {
        match self {
            Self::Embedded { rooms, .. } => rooms.clone(),
            Self::Configured => roomcast_store::open_rooms(&config.database).await.expect("is configured"),
        }
    }

    /// As [`Self::registry`].
    pub(crate) async fn presence(&self, config: &Config) -> Arc<dyn Presence> {
        match self {
            Self::Embedded { presence, .. } => presence.clone(),
            Self::Configured => roomcast_store::open_presence(&config.redis).expect("is configured"),
        }
    }

    /// As [`Self::registry`].
    pub(crate) async fn logs(&self, config: &Config) -> Logs {
        match self {
            Self::Embedded { logs, .. } => logs.clone(),
            Self::Configured => {
                let opened = roomcast_store::open_logs(&config.database, &config.redis).await;
                opened.expect("is configured")
            }
        }
    }
}
