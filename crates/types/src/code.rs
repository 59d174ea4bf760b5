//! The closed list of error codes that clients and business servers see.

use std::{fmt, str::FromStr, time::Duration};

/// One code of the error table. The same words are used in client frames, JSON errors and gRPC status messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// The request is not well-formed; the message names the field.
    BadRequest,
    /// Who asks is not known.
    Unauthenticated,
    /// Who asks may not do this.
    Forbidden,
    /// There is no such thing.
    NotFound,
    /// There is one already.
    AlreadyExists,
    /// The session is not in that room.
    NotJoined,
    /// All seats are taken.
    RoomFull,
    /// As many messages wait for the user as may.
    InboxFull,
    /// The room was deleted by request.
    RoomDeleted,
    /// The session is in as many rooms as allowed.
    TooManyRooms,
    /// More bytes than allowed.
    TooLarge,
    /// More requests than allowed; retry later.
    RateLimited,
    /// Something this needs does not answer; retry later.
    Unavailable,
    /// Our fault.
    Internal,
}

impl Code {
    /// Every code.
    pub const ALL: [Self; 14] = [
        Self::BadRequest,
        Self::Unauthenticated,
        Self::Forbidden,
        Self::NotFound,
        Self::AlreadyExists,
        Self::NotJoined,
        Self::RoomFull,
        Self::InboxFull,
        Self::RoomDeleted,
        Self::TooManyRooms,
        Self::TooLarge,
        Self::RateLimited,
        Self::Unavailable,
        Self::Internal,
    ];

    /// The word of the wire, for example `ROOM_FULL`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest => "BAD_REQUEST",
            Self::Unauthenticated => "UNAUTHENTICATED",
            Self::Forbidden => "FORBIDDEN",
            Self::NotFound => "NOT_FOUND",
            Self::AlreadyExists => "ALREADY_EXISTS",
            Self::NotJoined => "NOT_JOINED",
            Self::RoomFull => "ROOM_FULL",
            Self::InboxFull => "INBOX_FULL",
            Self::RoomDeleted => "ROOM_DELETED",
            Self::TooManyRooms => "TOO_MANY_ROOMS",
            Self::TooLarge => "TOO_LARGE",
            Self::RateLimited => "RATE_LIMITED",
            Self::Unavailable => "UNAVAILABLE",
            Self::Internal => "INTERNAL",
        }
    }

    /// Whether the same request may succeed later.
    pub fn is_retryable(self) -> bool {
        matches!(self, Self::RateLimited | Self::Unavailable | Self::Internal)
    }

    /// The HTTP status that carries this code.
    pub fn http_status(self) -> u16 {
        match self {
            Self::BadRequest | Self::NotJoined => 400,
            Self::Unauthenticated => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::AlreadyExists => 409,
            Self::RoomDeleted => 410,
            Self::TooLarge => 413,
            Self::RateLimited | Self::RoomFull | Self::InboxFull | Self::TooManyRooms => 429,
            Self::Internal => 500,
            Self::Unavailable => 503,
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Code {
    type Err = ();
    fn from_str(word: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|code| code.as_str() == word).ok_or(())
    }
}

/// An error as a peer sees it: a code, one line that says what, where and what to do, and when to try again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The code.
    pub code: Code,
    /// One line, without the code.
    pub message: String,
    /// When a retry makes sense; `None` when it does not, or when any time will do.
    pub retry_after: Option<Duration>,
}

impl Fault {
    /// A fault without advice on retrying.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retry_after: None }
    }

    /// BAD_REQUEST.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(Code::BadRequest, message)
    }

    /// UNAVAILABLE with the time after which to try again.
    pub fn unavailable(message: impl Into<String>, retry_after: Duration) -> Self {
        Self { code: Code::Unavailable, message: message.into(), retry_after: Some(retry_after) }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for Fault {}

impl From<crate::id::InvalidId> for Fault {
    fn from(invalid: crate::id::InvalidId) -> Self {
        Self::bad_request(invalid.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_reads_back_as_its_code() {
        for code in Code::ALL {
            assert_eq!(code.as_str().parse(), Ok(code));
        }
    }
}
