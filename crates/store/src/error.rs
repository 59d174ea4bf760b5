//! What can go wrong in a store, and whether it is worth another try.

use roomcast_types::RoomId;

/// Outcome of a store operation.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of a store, with what the caller needs to answer it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The room is not there.
    #[error("room {0} does not exist")]
    NoSuchRoom(RoomId),
    /// The room was deleted by request, less than 60 s ago.
    #[error("room {0} was deleted")]
    RoomDeleted(RoomId),
    /// The room is there already.
    #[error("room {0} exists already")]
    RoomExists(RoomId),
    /// The backend did not answer, or a conflict outlived its retries; the same call may succeed later.
    #[error("{backend} is not available: {context}")]
    Unavailable {
        /// Which backend, for example `sqlite`.
        backend: &'static str,
        /// What was being done.
        context: String,
        /// The driver's error.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// The backend answered with something that a retry does not mend.
    #[error("{backend} failed: {context}")]
    Failed {
        /// Which backend.
        backend: &'static str,
        /// What was being done.
        context: String,
        /// The driver's error.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
}

/// The closed list that callers map from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// See [`Error::NoSuchRoom`].
    NoSuchRoom,
    /// See [`Error::RoomDeleted`].
    RoomDeleted,
    /// See [`Error::RoomExists`].
    RoomExists,
    /// See [`Error::Unavailable`].
    Unavailable,
    /// See [`Error::Failed`].
    Failed,
}

impl Error {
    /// Which of the closed list this is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoSuchRoom(_) => ErrorKind::NoSuchRoom,
            Self::RoomDeleted(_) => ErrorKind::RoomDeleted,
            Self::RoomExists(_) => ErrorKind::RoomExists,
            Self::Unavailable { .. } => ErrorKind::Unavailable,
            Self::Failed { .. } => ErrorKind::Failed,
        }
    }

    /// Whether the same call may succeed later; retry loops look at nothing else.
    pub fn is_retryable(&self) -> bool {
        self.kind() == ErrorKind::Unavailable
    }
}
