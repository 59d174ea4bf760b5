//! The configuration of all tiers: embedded defaults, then a file, then the environment, then flags.

mod layers;
mod model;
mod units;
mod validate;

pub use layers::{EMBEDDED, Layers, Program};
pub use model::{
    Config, ConnectNode, Database, Limits, Log, LogFormat, Network, OtlpProtocol, PushManager, Registry,
    Room, Server, Telemetry,
};
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
