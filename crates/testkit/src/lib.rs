//! What the tests of several crates share: a cluster in one process, clients, a browser, a receiver of traces.

#![allow(clippy::unwrap_used, reason = "a library of tests: its panics are verdicts")]

pub mod api;
pub mod backends;
pub mod browser;
pub mod cluster;
pub mod dice;
pub mod drill;
pub mod errors;
pub mod freeze;
pub mod otlp;
pub mod platform;
pub mod programs;
pub mod proxy;
#[cfg(test)]
mod structure;
pub mod wait;
pub mod ws;

pub use api::{Api, outcome};
pub use backends::Servers;
pub use cluster::{Cluster, ClusterBuilder};
pub use dice::Dice;
pub use platform::Platform;
pub use proxy::{Before, Direction, Proxy};
pub use wait::{DEADLINE, eventually};
pub use ws::Client;
