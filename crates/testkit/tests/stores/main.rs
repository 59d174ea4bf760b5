//! The cluster on etcd, MariaDB and Redis, and what is left of it while one of them is away.

#![allow(clippy::unwrap_used, reason = "tests: their panics are verdicts")]

mod admission;
mod etcd;
mod mysql;
mod redis;
mod traffic;
