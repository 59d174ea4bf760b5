//! Frames that a client sends: what the shard acts on, or the error that answers them.

use std::fmt;

use roomcast_types::{Fault, MessageId, RoomId};

use super::{Encoding, json, proto};
use crate::log::returning::Since;

/// Message ids that one `ack` may name.
pub const MESSAGE_IDS_MAX: usize = 256;
/// Arrivals that one `received` may report.
pub(super) const ITEMS_MAX: usize = 64;
/// Longest epoch of a position, in bytes.
pub const EPOCH_BYTES_MAX: usize = 64;
/// Numbers of the protocol are below 2^53, so that every JSON reader keeps them exact.
pub(super) const INTEGER_END: u64 = 1 << 53;

/// A well-formed frame of a client. `id` is the client's own number for it, repeated in the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientFrame {
    /// Into a room.
    Join {
        /// The frame's id.
        id: Option<u64>,
        /// Which room.
        room: RoomId,
        /// The position to catch up from.
        since: Option<Since>,
    },
    /// Out of a room.
    Leave {
        /// The frame's id.
        id: Option<u64>,
        /// Which room.
        room: RoomId,
    },
    /// Messages arrived.
    Ack {
        /// Which; `None` for what is no id of ours.
        message_ids: Vec<Option<MessageId>>,
    },
    /// When messages of traces came. Without items: such reports will come.
    Received {
        /// Which, and when on the node's clock, milliseconds since 1970; no message for what is no id of ours.
        items: Vec<(Option<MessageId>, u64)>,
    },
    /// Is anyone there?
    Ping {
        /// The frame's id.
        id: Option<u64>,
    },
    /// A message to a room.
    Publish {
        /// The frame's id.
        id: Option<u64>,
        /// Which room, when named properly.
        room: Option<RoomId>,
    },
}

impl ClientFrame {
    /// The frame's id, if it had one.
    pub fn id(&self) -> Option<u64> {
        match self {
            Self::Join { id, .. } | Self::Leave { id, .. } | Self::Ping { id } | Self::Publish { id, .. } => {
                *id
            }
            Self::Ack { .. } | Self::Received { .. } => None,
        }
    }
}

/// A frame that cannot be acted on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadFrame {
    /// The frame's id when it could be read.
    pub id: Option<u64>,
    /// Always BAD_REQUEST; the message names the field and the limit.
    pub fault: Fault,
    /// Not a frame of the protocol at all (bad JSON, no object, unknown type), rather than one with a bad field.
    pub is_malformed: bool,
}

impl BadFrame {
    /// Not a frame of the protocol at all.
    pub fn malformed(id: Option<u64>, message: impl Into<String>) -> Self {
        Self { id, fault: Fault::bad_request(message), is_malformed: true }
    }

    pub(super) fn field(id: Option<u64>, fault: impl Into<Fault>) -> Self {
        Self { id, fault: fault.into(), is_malformed: false }
    }
}

/// Reads a text message of a session that speaks this encoding.
pub fn parse_text(encoding: Encoding, text: &str) -> Result<ClientFrame, BadFrame> {
    match encoding {
        Encoding::Json => json::parse(text),
        Encoding::Proto => Err(BadFrame::malformed(
            None,
            "a text frame; this session speaks pubsub.proto.v1, in binary frames",
        )),
    }
}

/// Reads a binary message of a session that speaks this encoding.
pub fn parse_binary(encoding: Encoding, bytes: &[u8]) -> Result<ClientFrame, BadFrame> {
    match encoding {
        Encoding::Json => Err(BadFrame::malformed(
            None,
            "a binary frame; this session speaks pubsub.json.v1, in text frames",
        )),
        Encoding::Proto => proto::parse(bytes),
    }
}

/// What is said of a number that is none of the protocol.
pub(super) fn integer_takes(field: impl fmt::Display) -> Fault {
    Fault::bad_request(format!("{field} is not an integer from 0 to below 2^53"))
}

/// A list may have so many entries.
pub(super) fn check_count(field: &str, count: usize, max: usize) -> Result<(), Fault> {
    if count <= max {
        return Ok(());
    }
    Err(Fault::bad_request(format!("{field} has {count} entries; at most {max} are allowed")))
}
