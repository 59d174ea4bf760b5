//! The three tiers in one process: the same services over the same gRPC, on the embedded stores.

pub mod host;
pub mod platform;
pub mod ports;

pub use host::{HostError, Hosted};
pub use platform::{Options, Platform, StartError};
