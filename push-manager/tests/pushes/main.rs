//! The push-manager against connect-nodes and controllers that do as they are told, over real gRPC.

#![allow(clippy::unwrap_used, reason = "all of this is tests")]

mod absent;
mod boot;
mod controller;
mod drain;
mod history;
mod inboxes;
mod json;
mod lanes;
mod logs;
mod node;
mod outcomes;
mod receipts;
mod repeats;
mod rooms;
mod stage;
mod stream;
