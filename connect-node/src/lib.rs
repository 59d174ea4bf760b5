//! connect-node: holds WebSocket sessions and delivers pushes to them.

pub mod acceptor;
pub mod load;
pub mod ports;
pub mod shard;
pub mod wire;
