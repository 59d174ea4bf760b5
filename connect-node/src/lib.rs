//! connect-node: holds WebSocket sessions and delivers pushes to them.
//!
//! | module | its part |
//! |---|---|
//! | [`acceptor`], [`shard`], [`wire`] | sockets: each belongs to one thread, from its first byte to its last |
//! | [`ports`] | what passes between those threads and the rest |
//! | [`tally`], [`ledger`] | what became of each message, and of all of a minute |
//! | [`hub`] | the node's view: sessions, users, rooms, interest |
//! | [`lane`] | push-managers: pushes down, interest and outcomes up |
//! | [`report`] | one stream of reports to a controller |
//! | [`drain`], [`running`] | how a node is emptied and ends |
//! | [`rpc`], [`pages`] | gRPC and HTTP interfaces |

pub mod acceptor;
mod boot;
mod drain;
mod error;
pub mod failpoint;
mod hub;
mod lane;
mod ledger;
pub mod load;
pub mod log;
mod metrics;
mod pages;
pub mod ports;
mod report;
mod rpc;
mod running;
pub mod shard;
pub mod tally;
#[cfg(test)]
mod tests;
pub mod wire;

pub use boot::{Deps, run, start};
pub use drain::{Departures, Drained};
pub use error::Error;
pub use running::Running;
