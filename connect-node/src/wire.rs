//! The client protocol in JSON (version 1): server frames as whole WebSocket text frames, client frames parsed.
//!
//! Pure: no sockets, no clock. A server frame is encoded into one buffer, header included, so that the same bytes can
//! go to any number of sockets.

mod client;
mod frame;
mod server;

pub use client::{BadFrame, ClientFrame, EPOCH_BYTES_MAX, MESSAGE_IDS_MAX, parse};
pub use frame::PING;
pub use server::{
    Welcome, error_frame, gap_frame, joined_frame, left_frame, notice_frame, pong_frame, push_frame,
    welcome_frame,
};

/// The sub-protocol of this form.
pub const SUBPROTOCOL: &str = "pubsub.json.v1";

/// Version of the protocol, as `welcome` names it.
pub const PROTOCOL: u32 = 1;
