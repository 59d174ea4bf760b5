//! Ways between parts break under load.

use crate::holds;

#[tokio::test(flavor = "multi_thread")]
async fn lanes_that_are_reset_lose_and_repeat_nothing() {
    holds("reset-lanes").await;
}
