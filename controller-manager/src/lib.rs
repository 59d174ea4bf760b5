//! The controller-manager: the truth about rooms and seats, admission, and the shared view of who is where.
//!
//! | module | what it does |
//! |---|---|
//! | `rpc` | ControllerService: each method, its limits and answers |
//! | `report` | what nodes report: order, slices, versions, answers |
//! | `admission` | joins: rejoin without SQL, else transactions that joins share |
//! | `seats` | leaves, releases after the grace, the audit, empty rooms |
//! | `cards`, `notify` | cards of rooms and who has to hear of them |
//! | `logs` | logs of rooms go with their room or their policy; sweeps |
//! | `reads` | how far members of DURABLE rooms have read |
//! | `census` | who is online in all rooms, counted when asked |
//! | `sweep` | nodes that died |
//! | `kick` | orders to nodes about sessions |
//! | `loads`, `select` | how full nodes are, the choice of one for a client |
//! | `calls`, `drain` | how this process ends |
//! | `watch` | health of the stores, gauges |
//!
//! Any number of controllers work on the same stores; none is special, and every step is safe to race.

mod admission;
mod backlog;
mod calls;
mod cards;
mod census;
mod clock;
mod concurrent;
mod controller;
mod drain;
mod error;
mod kick;
mod loads;
mod logs;
mod memberships;
mod metrics;
mod notify;
mod page;
mod peers;
mod reads;
mod report;
mod rpc;
mod running;
mod seats;
mod select;
mod sweep;
mod tasks;
mod watch;

use std::sync::Arc;

use roomcast_registry::Registry;
use roomcast_runtime::Config;
use roomcast_store::{Logs, Presence, Rooms};

pub use drain::Left;
pub use error::Error;
pub use running::{Running, Starting, run, start};

/// What a controller works with.
#[derive(Clone)]
pub struct Deps {
    /// The whole configuration; this service reads `network`, `server`, `room`, `log`, `registry` and `telemetry`.
    pub config: Arc<Config>,
    /// Who is alive.
    pub registry: Arc<dyn Registry>,
    /// The record of rooms and seats.
    pub rooms: Arc<dyn Rooms>,
    /// The shared memory of who is where.
    pub presence: Arc<dyn Presence>,
    /// What keeps messages. Never waited for.
    pub logs: Logs,
}
