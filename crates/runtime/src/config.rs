//! The configuration of all tiers: embedded defaults, then a file, then the environment, then flags.

mod layers;
mod model;
mod secret;
mod stores;
mod targets;
mod units;
mod validate;

pub use layers::{EMBEDDED, Layers, Program};
pub use model::{
    Config, ConnectNode, Limits, Log, LogFormat, Network, OtlpProtocol, PushManager, Room, Server, Telemetry,
};
pub use secret::{Secret, SecretUrl};
pub use stores::{Database, DatabaseTls, Etcd, Redis, RedisMode};
pub use targets::{DatabaseTarget, EtcdServers, EtcdTarget, MysqlTarget, RedisServer, RedisTarget};
pub use units::ByteCount;

/// Everything wrong with a configuration, each problem with the path of its key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", problems.join("\n"))]
pub struct ConfigError {
    /// One line each.
    pub problems: Vec<String>,
}

impl ConfigError {
    fn one(problem: impl Into<String>) -> Self {
        Self { problems: vec![problem.into()] }
    }
}
