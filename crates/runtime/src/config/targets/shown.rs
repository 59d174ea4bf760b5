//! Targets as logs and `/ready` name them: what and where, without users and passwords.

use std::fmt::{self, Display};

use super::{
    super::stores::{Database, Etcd, Redis, RedisMode},
    DatabaseTarget, EtcdTarget, RedisTarget,
};

/// A section that cannot be read is named by its key: whoever opens it gets the reason.
fn shown<T: Display>(section: &str, target: Result<T, String>) -> String {
    target.map_or_else(|_| section.to_owned(), |target| target.to_string())
}

impl Database {
    /// What and where, for logs and `/ready`.
    pub fn shown(&self) -> String {
        shown("database", self.target())
    }
}

impl Redis {
    /// What and where, for logs and `/ready`.
    pub fn shown(&self) -> String {
        shown("redis", self.target())
    }
}

impl Etcd {
    /// What and where, for logs and `/ready`.
    pub fn shown(&self) -> String {
        shown("etcd", self.target())
    }
}

impl Display for DatabaseTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite { folder } => write!(f, "SQLite in {}", folder.display()),
            Self::Mysql(target) => write!(f, "MySQL {}:{}/{}", target.host, target.port, target.dbname),
        }
    }
}

impl Display for RedisTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Server(server) = self else { return f.write_str("presence in memory") };
        let kind = match server.mode {
            RedisMode::Single => "Redis",
            RedisMode::Sentinel => "Redis behind Sentinels",
            RedisMode::Cluster => "Redis Cluster",
        };
        write!(f, "{kind} {}", listed(&server.addresses))
    }
}

impl Display for EtcdTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("the registry in memory"),
            Self::Servers(servers) => write!(f, "etcd {}", listed(&servers.endpoints)),
        }
    }
}

fn listed(addresses: &[(String, u16)]) -> String {
    let shown: Vec<_> = addresses.iter().map(|(host, port)| format!("{host}:{port}")).collect();
    shown.join(",")
}
