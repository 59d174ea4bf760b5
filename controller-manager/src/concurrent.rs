//! Runs many futures side by side, a bounded number at a time.

use futures_util::{StreamExt, future::BoxFuture, stream};

/// Waits for all of them, `limit` at a time; the first error ends it. Outcomes come in no order.
pub(crate) async fn all<T, E>(work: Vec<BoxFuture<'_, Result<T, E>>>, limit: usize) -> Result<Vec<T>, E> {
    let mut outcomes = Vec::with_capacity(work.len());
    let mut running = stream::iter(work).buffer_unordered(limit);
    while let Some(outcome) = running.next().await {
        outcomes.push(outcome?);
    }
    Ok(outcomes)
}

/// Waits for all of them, `limit` at a time, whatever they come to. Outcomes come in no order.
pub(crate) async fn every<T>(work: Vec<BoxFuture<'_, T>>, limit: usize) -> Vec<T> {
    stream::iter(work).buffer_unordered(limit).collect().await
}
