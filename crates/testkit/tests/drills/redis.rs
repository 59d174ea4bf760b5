//! Redis forgets under load.

use crate::holds;

#[tokio::test(flavor = "multi_thread")]
async fn what_a_flushed_redis_lost_is_rebuilt_and_what_is_missing_is_flagged() {
    holds("flush-redis").await;
}
