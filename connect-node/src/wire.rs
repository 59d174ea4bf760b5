//! The client protocol (version 1): server frames as whole WebSocket frames, client frames parsed.
//!
//! Pure: no sockets, no clock. What a frame says is described once ([`ServerFrame`], [`ClientFrame`]); how it is written and
//! read is the matter of an [`Encoding`], JSON or protobuf. A server frame is encoded into one buffer, header included, so
//! that the same bytes can go to any number of sockets.

mod client;
mod encoding;
mod frame;
mod json;
mod proto;
mod server;

pub use client::{BadFrame, ClientFrame, EPOCH_BYTES_MAX, MESSAGE_IDS_MAX, parse_binary, parse_text};
pub use encoding::{Encoding, PerEncoding, Readers};
pub use frame::PING;
pub use server::{Push, PushFrame, ServerFrame, Welcome};

/// Version of the protocol, as `welcome` names it.
pub const PROTOCOL: u32 = 1;

#[cfg(test)]
mod golden_tests;
