//! A process dies or stands still under load.

use crate::holds;

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_killed_under_load_costs_nobody_a_message() {
    holds("kill-node").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_manager_that_is_killed_under_load_loses_nothing_that_it_accepted() {
    holds("kill-push-manager").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_that_is_killed_under_load_costs_nobody_a_message_or_a_seat() {
    holds("kill-controller").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stands_still_for_ten_seconds_costs_nobody_a_message() {
    holds("freeze-node").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_push_manager_appended_and_did_not_fan_out_before_it_died_reaches_everybody() {
    holds("kill-between-append-and-fan-out").await;
}
