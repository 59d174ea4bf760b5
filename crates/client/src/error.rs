//! What can go wrong for a program that uses this crate.

use std::{error::Error as StdError, io, time::Duration};

use roomcast_types::{Fault, InvalidId};

/// Why a call failed. Whether a push may have been accepted nevertheless is told by [`Error::is_outcome_unknown`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text is no `host:port`.
    #[error("{address:?} is no server address; it takes host:port, for example localhost:50053")]
    InvalidAddress {
        /// As given.
        address: String,
    },
    /// The text is no address of a node's WebSocket.
    #[error("{url:?} is no WebSocket address: {why}")]
    InvalidUrl {
        /// As given.
        url: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// An option is missing or out of its bounds.
    #[error("{0}")]
    InvalidOption(String),
    /// No connection could be made: the server did not see the request.
    #[error("{address} does not answer")]
    Unreachable {
        /// The address tried last.
        address: String,
        /// Why, as the system says.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// The connection broke after the request went out: the server may have acted on it.
    #[error("the connection to {address} broke before the answer; the request may have been accepted")]
    Interrupted {
        /// The server.
        address: String,
        /// Why.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// The server answered with an error: nothing was accepted.
    #[error("{0}")]
    Rejected(Fault),
    /// No answer in time. The server may have acted on the request.
    #[error("no answer within {after:?}")]
    Deadline {
        /// How long was waited.
        after: Duration,
    },
    /// The room was left, or the session taken out of it, before its join was answered.
    #[error("room {room_id} was left before the join was answered")]
    Left {
        /// The room.
        room_id: String,
    },
    /// The subscriber has ended.
    #[error("the subscriber is closed")]
    Closed,
}

impl Error {
    /// The server's answer, when there is one.
    pub fn fault(&self) -> Option<&Fault> {
        match self {
            Self::Rejected(fault) => Some(fault),
            _ => None,
        }
    }

    /// True when the server may have acted on the request: repeating a push then may deliver it twice.
    pub fn is_outcome_unknown(&self) -> bool {
        matches!(self, Self::Interrupted { .. } | Self::Deadline { .. })
    }

    /// The system's reason behind a failed connection in a few words, for example `connection refused`.
    pub fn cause(&self) -> Option<String> {
        let mut cause: &(dyn StdError + 'static) = self.source()?;
        while let Some(deeper) = cause.source() {
            cause = deeper;
        }
        Some(match cause.downcast_ref::<io::Error>().map(io::Error::kind) {
            Some(io::ErrorKind::ConnectionRefused) => "connection refused".to_owned(),
            Some(io::ErrorKind::TimedOut) => "connection timed out".to_owned(),
            _ => cause.to_string(),
        })
    }
}

impl From<InvalidId> for Error {
    fn from(invalid: InvalidId) -> Self {
        Self::Rejected(invalid.into())
    }
}
