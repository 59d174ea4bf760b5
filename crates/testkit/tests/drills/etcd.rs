//! etcd is away under load.

use crate::holds;

#[tokio::test(flavor = "multi_thread")]
async fn without_etcd_everything_that_is_there_goes_on() {
    holds("kill-etcd").await;
}
