//! push-manager: takes pushes, finds their targets, and answers with what happened to them.
//!
//! | module | is responsible for |
//! |---|---|
//! | `rpc`, `json` | the two interfaces on one port |
//! | `push` | one push from request to receipt |
//! | `routes` | which nodes hold a room or a user |
//! | `lane` | the way to one node: numbers, deadlines, trust, and the task that keeps it |
//! | `fleet` | a lane for every node |
//! | `cards`, `controllers` | which rooms exist, and who to ask |
//! | `explain` | why a message did or did not arrive |
//! | `peers` | the other push-managers |
//! | `archive` | logs and inboxes |
//! | `drain` | how this process ends |
//! | `pieces` | some of these with nothing around them, for benches |
//! | `clock` | monotonic time, and whether this process stood still |

mod archive;
mod audit;
mod cards;
mod clock;
mod controllers;
mod drain;
mod error;
mod explain;
pub mod failpoint;
mod fleet;
mod json;
mod lane;
mod ledger;
mod metrics;
mod peers;
#[doc(hidden)]
pub mod pieces;
mod push;
mod routes;
mod rpc;
mod running;

pub use drain::Left;
pub use error::Error;
pub use running::{Deps, Running, run, start};
