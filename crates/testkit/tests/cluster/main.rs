//! The cluster ring: several services in one process, over real gRPC and WebSocket.

#![allow(clippy::unwrap_used, reason = "tests: their panics are verdicts")]

mod crash;
mod drain;
mod exact;
mod explain;
mod faults;
mod ledger;
mod logs;
mod pages;
mod promise;
mod pushes;
mod receipts;
mod reflection;
mod rooms;
mod traces;
