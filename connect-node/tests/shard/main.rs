//! Shards and the acceptor over real loopback sockets, with a hub that only answers.

#![allow(clippy::unwrap_used, reason = "functions beside the tests belong to them")]

mod acks;
mod classes;
mod closing;
mod draining;
mod ends;
mod fixture;
mod http;
mod hub;
mod inspect;
mod limits;
mod liveness;
mod message;
mod proto;
mod pushes;
mod received;
mod rooms;
mod slow;
mod welcome;
