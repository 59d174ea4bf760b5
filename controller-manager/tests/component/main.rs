//! Controllers over the real embedded stores, real gRPC, and nodes and push-managers played by the tests.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod admission;
mod loads;
mod logs;
mod node;
mod outages;
mod reads;
mod repair;
mod requests;
mod rooms;
mod seats;
mod sessions;
mod stalling;
mod sweep;
mod world;
