//! connect-node: holds WebSocket sessions and delivers pushes to them.

pub mod ports;
