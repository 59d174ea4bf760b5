//! What an error of Redis means to a caller, and to the gate.

use redis::{ErrorKind, RedisError, ServerErrorKind};

use super::BACKEND;
use crate::error::Error;

/// Nobody answers, or the one who answers cannot work at present.
pub(super) fn is_outage(error: &RedisError) -> bool {
    match error.kind() {
        ErrorKind::Io => !is_login(error) && !is_certificate(error),
        ErrorKind::Parse
        | ErrorKind::ClusterConnectionNotFound
        | ErrorKind::MasterNameNotFoundBySentinel
        | ErrorKind::Server(
            ServerErrorKind::BusyLoading
            | ServerErrorKind::ClusterDown
            | ServerErrorKind::MasterDown
            | ServerErrorKind::ReadOnly
            | ServerErrorKind::TryAgain
            | ServerErrorKind::Moved
            | ServerErrorKind::Ask,
        ) => true,
        _ => false,
    }
}

/// The command was refused, or had no connection to go: whatever it was, it was not done.
pub(super) fn is_undone(error: &RedisError) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ClusterConnectionNotFound
            | ErrorKind::Server(
                ServerErrorKind::BusyLoading
                    | ServerErrorKind::ClusterDown
                    | ServerErrorKind::MasterDown
                    | ServerErrorKind::ReadOnly
                    | ServerErrorKind::TryAgain
                    | ServerErrorKind::Moved
                    | ServerErrorKind::Ask,
            )
    )
}

/// For the caller.
pub(super) fn error(context: &str, error: RedisError) -> Error {
    let hint = if is_login(&error) {
        "; it wants another login: set redis.user and redis.password"
    } else if is_certificate(&error) {
        "; its certificate is not trusted: set redis.ca_file"
    } else if error.kind() == ErrorKind::Server(ServerErrorKind::NoPerm) {
        "; redis.user lacks the permission"
    } else {
        ""
    };
    // It is full, cannot save, or misses its replicas: it answers, and may take the same call later.
    let is_refusal = matches!(error.code(), Some("OOM" | "MISCONF" | "NOREPLICAS" | "BUSY"));
    let is_unavailable = is_outage(&error) || is_refusal;
    let (context, source) = (format!("{context}{hint}"), Some(error.into()));
    if is_unavailable {
        Error::Unavailable { backend: BACKEND, context, source }
    } else {
        Error::Failed { backend: BACKEND, context, source }
    }
}

/// A record that this version did not write.
pub(super) fn unreadable(what: &'static str, text: impl Into<String>) -> RedisError {
    (ErrorKind::UnexpectedReturnType, what, text.into()).into()
}

/// A cluster's connection tells why it could not be made in words only.
fn is_login(error: &RedisError) -> bool {
    const WORDS: [&str; 3] = ["AuthenticationFailed", "NOAUTH", "WRONGPASS"];
    error.kind() == ErrorKind::AuthenticationFailed
        || matches!(error.code(), Some("NOAUTH" | "WRONGPASS"))
        || error.detail().is_some_and(|detail| WORDS.iter().any(|word| detail.contains(word)))
}

fn is_certificate(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Io && error.to_string().contains("certificate")
}
