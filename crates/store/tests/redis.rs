//! Redis keeps the rules of presence and of logs, as one server, as a cluster and behind a Sentinel, and through its faults.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "redis/conformance.rs"]
mod conformance;
#[path = "redis/faults.rs"]
mod faults;
#[path = "redis/leftovers.rs"]
mod leftovers;
#[path = "redis/login.rs"]
mod login;
#[path = "redis/logs.rs"]
mod logs;
#[path = "redis/masters.rs"]
mod masters;
#[path = "redis/support.rs"]
mod support;
