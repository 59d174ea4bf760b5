//! Bounds each call to a registry, so that one that never answers is one that is away.

use std::time::Duration;

use crate::{Error, Result};

/// Far above what a healthy registry needs, and well below a lease.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// The answer, or `Unavailable` when it takes too long.
pub(crate) async fn bounded<T>(context: &str, call: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(ANSWER_WITHIN, call).await.unwrap_or_else(|_| {
        let context = format!("{context}: no answer within {} s", ANSWER_WITHIN.as_secs());
        Err(Error::Unavailable { context, source: None })
    })
}
