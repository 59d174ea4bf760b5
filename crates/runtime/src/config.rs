//! The configuration of all tiers: embedded defaults, then a file, then the environment, then flags.

mod given;
mod layers;
mod model;
mod secret;
mod stores;
mod targets;
mod units;
mod validate;

pub use layers::{EMBEDDED, Layers, Program};
pub use model::{
    CallDrain, Config, ConnectNode, Limits, Log, LogFormat, Network, OtlpProtocol, PushManager, Room, Server,
    SessionDrain, Telemetry, UserLog,
};
pub use secret::{Secret, SecretUrl};
pub use stores::{Database, DatabaseTls, Etcd, Redis, RedisMode};
pub use targets::{DatabaseTarget, EtcdServers, EtcdTarget, MysqlTarget, RedisServer, RedisTarget};
pub use units::ByteCount;

/// Everything wrong with a configuration, each problem with the path of its key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", shown(problems))]
pub struct ConfigError {
    /// One line each.
    pub problems: Vec<String>,
}

impl ConfigError {
    fn one(problem: impl Into<String>) -> Self {
        Self { problems: vec![problem.into()] }
    }
}

/// One in a line; several one below the other, so that none hides behind the program's name.
fn shown(problems: &[String]) -> String {
    match problems {
        [one] => one.clone(),
        several => format!("{} problems in the configuration:\n  {}", several.len(), several.join("\n  ")),
    }
}
