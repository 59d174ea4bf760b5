//! Waiting for a state, with a deadline that only a failure reaches.

use std::{future::Future, time::Duration};

use tokio::time::Instant;

/// Longer than anything that works takes, on a busy machine.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// Asks again until `check` gives a value; panics with `what` when the deadline passes.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut check: impl FnMut() -> F) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(value) = check().await {
            return value;
        }
        assert!(Instant::now() < deadline, "not within {DEADLINE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
