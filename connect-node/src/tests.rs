//! Component tests of the hub half: real lanes and reports or stand-ins for them, fake or real shards.

mod announce;
mod bench;
mod controller;
mod lanes;
mod logs;
mod manager;
mod node;
mod outbox;
mod promise;
mod reports;
mod rooms;

use std::time::Duration;

/// Longer than any state may take to come about on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for a state.
async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("in vain: {what}"));
}
