//! Turns the driver's errors into the store's, and says here, at the edge, which are worth another try.

use crate::error::Error;

pub(super) const BACKEND: &str = "sqlite";

/// For `map_err`: wraps a driver's error that happened while doing `context`.
pub(super) fn failed(context: &'static str) -> impl FnOnce(sqlx::Error) -> Error {
    move |error| wrap(error, context.to_owned())
}

pub(super) fn wrap(error: sqlx::Error, context: String) -> Error {
    let is_retryable = is_retryable(&error);
    let source = Some(Box::new(error) as _);
    if is_retryable {
        Error::Unavailable { backend: BACKEND, context, source }
    } else {
        Error::Failed { backend: BACKEND, context, source }
    }
}

/// A row that this program cannot have written.
pub(super) fn unreadable(
    context: impl Into<String>,
    cause: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> Error {
    Error::Failed { backend: BACKEND, context: context.into(), source: Some(cause.into()) }
}

/// Result codes of <https://www.sqlite.org/rescode.html>; the low byte is the primary code.
pub(super) fn primary_code(error: &sqlx::Error) -> Option<i32> {
    let code: i32 = error.as_database_error()?.code()?.parse().ok()?;
    Some(code & 0xff)
}

const BUSY: i32 = 5;
const LOCKED: i32 = 6;
const IO_ERROR: i32 = 10;
const FULL: i32 = 13;

fn is_retryable(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::WorkerCrashed => true,
        _ => matches!(primary_code(error), Some(BUSY | LOCKED | IO_ERROR | FULL)),
    }
}
