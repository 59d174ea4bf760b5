//! What a failed attempt says about the request: did the server see it?

use std::{error::Error as StdError, fmt, time::Duration};

use roomcast_types::{Code, Fault};
use tonic::{ConnectError, Status, TimeoutExpired};

use crate::error::Error;

/// | failure | the server saw the request | repeated |
/// |---|---|---|
/// | `NotSent` | no | always |
/// | `Refused` with UNAVAILABLE in our own words | yes, and did nothing | always |
/// | `Refused` otherwise | yes, and did nothing | never |
/// | `Broken` | perhaps | when idempotent |
/// | `Late` | perhaps | never: the deadline is over |
#[derive(Debug)]
pub enum Failure {
    /// No connection, one that closed before the request was written to it, or a server that ended the connection and
    /// says that it has not looked at the request.
    NotSent(Status),
    /// The connection broke between request and answer.
    Broken(Status),
    /// The server's answer. `is_ours`: in the words of the error table, so not a proxy's.
    Refused { fault: Fault, is_ours: bool },
    /// The deadline passed.
    Late,
}

impl Failure {
    /// Whether another attempt cannot do the work twice, and has a chance.
    pub fn may_repeat(&self, is_idempotent: bool) -> bool {
        match self {
            Self::NotSent(_) => true,
            Self::Refused { fault, is_ours } => *is_ours && fault.code == Code::Unavailable,
            Self::Broken(_) => is_idempotent,
            Self::Late => false,
        }
    }

    /// As the caller gets it.
    pub fn into_error(self, address: &str, deadline: Duration) -> Error {
        let address = address.to_owned();
        match self {
            Self::NotSent(status) => Error::Unreachable { address, source: status.into() },
            Self::Broken(status) => Error::Interrupted { address, source: status.into() },
            Self::Refused { fault, .. } => Error::Rejected(fault),
            Self::Late => Error::Deadline { after: deadline },
        }
    }
}

impl From<Status> for Failure {
    /// A status that the server sent has no source; one that was made here has the transport's error as its source.
    fn from(status: Status) -> Self {
        let mut source = status.source();
        if source.is_none() {
            if status.code() == tonic::Code::DeadlineExceeded {
                return Self::Late;
            }
            let fault = roomcast_proto::fault(&status);
            let is_ours = status.message().starts_with(fault.code.as_str());
            return Self::Refused { fault, is_ours };
        }
        while let Some(error) = source {
            if error.is::<ConnectError>() {
                return Self::NotSent(status);
            }
            if error.is::<TimeoutExpired>() {
                return Self::Late;
            }
            // hyper's HTTP/2 client says "canceled" only for a request it still held when the connection closed.
            if error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_canceled) {
                return Self::NotSent(status);
            }
            if error.downcast_ref::<h2::Error>().is_some_and(is_unprocessed) {
                return Self::NotSent(status);
            }
            source = error.source();
        }
        Self::Broken(status)
    }
}

/// Whether the server says that it has not acted on the stream. RFC 9113: 6.8, a GOAWAY names the last stream that it
/// may have acted on, whatever its reason (ENHANCE_YOUR_CALM after "too_many_resets", say), and h2 gives its error to the
/// later ones only; 8.7, so does a reset with REFUSED_STREAM.
fn is_unprocessed(error: &h2::Error) -> bool {
    let is_refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
    error.is_remote() && (error.is_go_away() || is_refused)
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSent(status) | Self::Broken(status) => f.write_str(status.message()),
            Self::Refused { fault, .. } => fault.fmt(f),
            Self::Late => f.write_str("deadline"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_unavailable_is_repeated() {
        let ours = roomcast_proto::status(&Fault::unavailable("no card", Duration::from_millis(100)));
        assert!(Failure::from(ours).may_repeat(false));
        assert!(!Failure::from(Status::unavailable("upstream reset")).may_repeat(false));
        let gone = roomcast_proto::status(&Fault::new(Code::NotFound, "no room"));
        assert!(!Failure::from(gone).may_repeat(true));
    }

    #[test]
    fn a_broken_connection_repeats_only_what_is_idempotent() {
        let broken = || {
            let reset = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
            Failure::from(Status::from_error(Box::new(reset)))
        };
        assert!(broken().may_repeat(true));
        assert!(!broken().may_repeat(false));
        assert!(broken().into_error("a:1", Duration::ZERO).is_outcome_unknown());
    }
}
