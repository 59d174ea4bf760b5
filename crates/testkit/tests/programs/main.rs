//! The programs as processes, on real etcd, MariaDB and Redis: how they start, serve together, and end.

#![allow(clippy::unwrap_used, reason = "tests: their panics are verdicts")]

mod binaries;
mod config;
mod degraded;
mod drain;
mod ends;
mod place;
mod process;
mod scenario;
mod service;
mod standalone;
mod start;
