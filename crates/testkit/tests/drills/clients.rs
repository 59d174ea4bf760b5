//! Clients come back all at once under load.

use crate::holds;

#[tokio::test(flavor = "multi_thread")]
async fn all_sessions_come_back_at_once_and_miss_nothing() {
    holds("herd").await;
}
