//! Nodes that freeze, break, die and come back: nobody else waits, and nothing is lost or repeated.

use std::time::Duration;

use roomcast_registry::Role;
use tokio::time::timeout;

use crate::{
    node::{DEADLINE, FakeNode},
    stage::{Stage, line},
};

/// Echoes often enough that a busy machine does not cost a lively node its trust.
const MANY_ECHOES: [&str; 2] = ["push_manager.lane_ping_interval=50ms", "push_manager.lane_trust=1s"];
const TRUST_LOST: &str = "pubsub_push_trust_lost_total";

async fn frozen(node: &FakeNode, stage: &Stage) {
    node.freeze();
    stage.until_metric(TRUST_LOST, |lost| lost >= 1.0).await;
}

#[tokio::test]
async fn a_push_sent_right_after_an_acknowledged_announcement_arrives() {
    let (one, two) = (FakeNode::start("one").await, FakeNode::start("two").await);
    let stage = Stage::with(&[&one, &two]).await;
    for round in 0..100 {
        let (node, room) = (if round % 2 == 0 { &one } else { &two }, format!("room-{round}"));
        node.room(&room, 1).await;
        let receipt = stage.room(&room, &room).await;
        assert_eq!(receipt.outcomes.get("WRITTEN"), Some(&1), "{room}: {receipt:?}");
        node.user(&room, 1).await;
        let receipt = stage.user(&room, &room).await;
        assert_eq!(receipt.outcomes.get("WRITTEN"), Some(&1), "{room}: {receipt:?}");
    }
}

#[tokio::test]
async fn a_withdrawn_interest_takes_the_node_out_of_the_next_push() {
    let node = FakeNode::start("one").await;
    let stage = Stage::with(&[&node]).await;
    stage.controller.add_room("blue");
    node.room("blue", 1).await;
    node.leave_room("blue").await;
    node.user("ann", 1).await;
    node.user("ann", 0).await;
    let receipt = stage.room("blue", "x").await;
    assert_eq!(line(&receipt), "complete targets=0 pending=0  addressed=0 unreachable=0 blind=0");
    assert_eq!(stage.user("ann", "x").await.users[0].outcome, "OFFLINE");
    assert_eq!(stage.metric("pubsub_push_routes{kind=\"room\"}"), 0.0);
}

#[tokio::test]
async fn a_frozen_node_is_addressed_blind_and_delays_nobody() {
    let (alive, frozen_one) = (FakeNode::start("alive").await, FakeNode::start("frozen").await);
    let sets = [&MANY_ECHOES[..], &["push_manager.wait=20s"]].concat();
    let stage = Stage::configured(&[&alive, &frozen_one], &sets).await;
    alive.room("blue", 2).await;
    frozen_one.room("blue", 3).await;
    alive.room("red", 1).await;
    alive.user("ann", 1).await;
    frozen(&frozen_one, &stage).await;

    // Each answer comes while a wait for the frozen node would take 20 s.
    let pushes = async {
        let known = stage.room("blue", "one").await;
        assert_eq!(
            line(&known),
            "incomplete targets=5 pending=3 WRITTEN=2 addressed=1 unreachable=0 blind=1"
        );
        let unknown = stage.room("red", "two").await;
        assert_eq!(
            line(&unknown),
            "complete targets=1 pending=0 WRITTEN=1 addressed=1 unreachable=0 blind=1"
        );
        let user = stage.user("ann", "three").await;
        assert_eq!(line(&user), "complete targets=1 pending=0 WRITTEN=1 addressed=1 unreachable=0 blind=1");
        let all = stage.all("four", &[]).await;
        assert_eq!(line(&all), "incomplete targets=5 pending=3 WRITTEN=2 addressed=1 unreachable=0 blind=1");
    };
    timeout(Duration::from_secs(10), pushes).await.expect("nobody waits for the frozen node");
    assert_eq!(stage.metric("pubsub_push_blind_sends_total"), 4.0);

    frozen_one.thaw();
    frozen_one.until_delivered(&["one", "two", "three", "four"]).await;
    stage.until_lanes("in_sync", 2).await;
    assert_eq!(frozen_one.repeats(), 0);
}

#[tokio::test]
async fn a_cut_lane_sends_the_rest_again_and_nothing_twice() {
    let node = FakeNode::start("one").await;
    let stage = Stage::configured(&[&node], &["push_manager.wait=50ms"]).await;
    node.room("blue", 1).await;
    let mut sent = Vec::new();
    for round in 1..=4 {
        // Processed and not acknowledged: only the hello after the cut says how far the node is.
        node.withhold_acks(true);
        for push in 0..5 {
            sent.push(format!("{round}.{push}"));
            stage.push_to_room("blue", sent.last().unwrap()).await.unwrap();
        }
        node.cut();
        sent.push(format!("{round}.after"));
        stage.push_to_room("blue", sent.last().unwrap()).await.unwrap();
        node.until_linked(round + 1).await;
        node.withhold_acks(false);
        stage.until_lanes("in_sync", 1).await;
    }
    node.until_delivered(&sent.iter().map(String::as_str).collect::<Vec<_>>()).await;
    assert_eq!(node.repeats(), 0, "the hello says what the node has seen");
    stage.until_metric("pubsub_push_lane_queue_messages", |messages| messages == 0.0).await;
    stage.until_metric("pubsub_push_lane_queue_bytes", |bytes| bytes == 0.0).await;
}

#[tokio::test]
async fn outcomes_that_were_under_way_when_the_lane_broke_still_count() {
    let node = FakeNode::start("one").await;
    let stage = Stage::configured(&[&node], &["push_manager.wait=20s"]).await;
    node.room("blue", 1).await;
    node.freeze();
    let push = stage.room("blue", "x");
    let cut = async {
        stage.until_metric("pubsub_push_lane_queue_messages", |messages| messages == 1.0).await;
        node.cut();
        node.thaw();
    };
    let (receipt, ()) = tokio::join!(push, cut);
    assert_eq!(line(&receipt), "complete targets=1 pending=0 WRITTEN=1 addressed=1 unreachable=0 blind=0");
    node.until_delivered(&["x"]).await;
}

#[tokio::test]
async fn routes_of_a_dead_node_go_at_once_and_receipts_name_it_while_it_is_registered() {
    let (alive, dead) = (FakeNode::start("alive").await, FakeNode::start("dead").await);
    let stage = Stage::with(&[&alive, &dead]).await;
    alive.room("blue", 1).await;
    dead.room("blue", 4).await;
    dead.user("ann", 1).await;
    let id = dead.registration().id;
    dead.kill().await;
    stage.until_lanes("refused", 1).await;
    let receipt = stage.room("blue", "x").await;
    assert_eq!(line(&receipt), "complete targets=1 pending=0 WRITTEN=1 addressed=1 unreachable=1 blind=0");
    let receipt = stage.user("ann", "x").await;
    assert_eq!(line(&receipt), "complete targets=1 pending=0 OFFLINE=1 addressed=0 unreachable=1 blind=0");

    let held = stage.registry().get(Role::ConnectNode, &id).await.unwrap().unwrap();
    stage.registry().remove(Role::ConnectNode, &id, held.incarnation).await.unwrap();
    stage.until_lanes("refused", 0).await;
    let receipt = stage.room("blue", "y").await;
    assert_eq!(line(&receipt), "complete targets=1 pending=0 WRITTEN=1 addressed=1 unreachable=0 blind=0");
}

#[tokio::test]
async fn a_push_that_waits_for_a_node_that_dies_ends_with_node_lost() {
    let (alive, dying) = (FakeNode::start("alive").await, FakeNode::start("dying").await);
    let stage = Stage::configured(&[&alive, &dying], &["push_manager.wait=20s"]).await;
    alive.user("ann", 1).await;
    dying.user("ann", 2).await;
    dying.withhold_outcomes(true);
    let push = stage.user("ann", "x");
    let kill = async {
        dying.until_delivered(&["x"]).await;
        dying.kill().await;
    };
    let (receipt, ()) = timeout(Duration::from_secs(10), async { tokio::join!(push, kill) }).await.unwrap();
    assert_eq!(
        line(&receipt),
        "complete targets=3 pending=0 NODE_LOST=2 WRITTEN=1 addressed=2 unreachable=0 blind=0"
    );
    assert_eq!(receipt.users[0].outcome, "WRITTEN");
}

#[tokio::test]
async fn another_life_at_the_same_address_replaces_the_old_one_and_its_routes() {
    let old = FakeNode::start("one").await;
    let stage = Stage::with(&[&old]).await;
    stage.controller.add_room("blue");
    old.room("blue", 4).await;
    let new = FakeNode::start_at("one", old.kill().await).await;
    new.register(stage.registry()).await;
    new.until_linked(1).await;
    stage.until_lanes("in_sync", 1).await;
    let receipt = stage.room("blue", "x").await;
    assert_eq!(line(&receipt), "complete targets=0 pending=0  addressed=0 unreachable=0 blind=0");
    new.room("blue", 1).await;
    stage.room("blue", "y").await;
    new.until_delivered(&["y"]).await;
}

#[tokio::test]
async fn what_was_pushed_blind_to_the_old_life_reaches_the_new_one() {
    let sets = [&MANY_ECHOES[..], &["push_manager.lane_deadline=20s"]].concat();
    let old = FakeNode::start("one").await;
    let stage = Stage::configured(&[&old], &sets).await;
    stage.controller.add_room("blue");
    frozen(&old, &stage).await;
    let receipt = stage.room("blue", "blind").await;
    assert_eq!(line(&receipt), "complete targets=0 pending=0  addressed=0 unreachable=0 blind=1");
    // The registry vouches for the new life at its own address; the old one never answers again.
    let new = FakeNode::start("one").await;
    new.register(stage.registry()).await;
    new.until_delivered(&["blind"]).await;
}

#[tokio::test]
async fn a_message_that_a_node_never_acknowledges_is_given_up_and_never_sent_again() {
    let sets = [&MANY_ECHOES[..], &["push_manager.lane_deadline=300ms", "push_manager.wait=20s"]].concat();
    let node = FakeNode::start("one").await;
    let stage = Stage::configured(&[&node], &sets).await;
    node.room("blue", 3).await;
    node.freeze();
    let receipt = timeout(DEADLINE, stage.room("blue", "late")).await.unwrap();
    assert_eq!(line(&receipt), "complete targets=3 pending=0 NODE_LOST=3 addressed=1 unreachable=0 blind=0");
    assert_eq!(stage.metric("pubsub_push_lane_give_ups_total"), 1.0);
    assert_eq!(stage.metric("pubsub_push_lane_queue_messages"), 0.0);
    // What was under way is lost with the connection; the next one must not bring it back.
    node.cut();
    node.thaw();
    node.until_linked(2).await;
    stage.until_lanes("in_sync", 1).await;
    let receipt = stage.room("blue", "next").await;
    assert_eq!(receipt.outcomes.get("WRITTEN"), Some(&3));
    assert_eq!(node.delivered().last().unwrap(), "next");
}

#[tokio::test]
async fn a_full_queue_counts_node_lost_and_leaves_other_nodes_alone() {
    let (full, free) = (FakeNode::start("full").await, FakeNode::start("free").await);
    let sets =
        ["push_manager.lane_queue_messages=3", "push_manager.wait=50ms", "push_manager.lane_deadline=20s"];
    let stage = Stage::configured(&[&full, &free], &sets).await;
    full.room("blue", 2).await;
    free.room("blue", 1).await;
    full.withhold_acks(true);
    for text in ["a", "b", "c"] {
        assert_eq!(stage.room("blue", text).await.outcomes.get("WRITTEN"), Some(&3));
    }
    let receipt = stage.room("blue", "d").await;
    assert_eq!(
        line(&receipt),
        "complete targets=3 pending=0 NODE_LOST=2 WRITTEN=1 addressed=2 unreachable=0 blind=0"
    );
    assert_eq!(stage.metric("pubsub_push_lane_queue_full_total"), 1.0);
    full.withhold_acks(false);
    stage.until_metric("pubsub_push_lane_queue_messages", |messages| messages == 0.0).await;
    let receipt = stage.room("blue", "e").await;
    assert_eq!(receipt.outcomes.get("WRITTEN"), Some(&3));
    full.until_delivered(&["a", "b", "c", "e"]).await;
}

#[tokio::test]
async fn a_blind_push_that_finds_the_queue_full_names_the_node() {
    let sets = [&MANY_ECHOES[..], &["push_manager.lane_queue_messages=1", "push_manager.lane_deadline=20s"]]
        .concat();
    let node = FakeNode::start("one").await;
    let stage = Stage::configured(&[&node], &sets).await;
    frozen(&node, &stage).await;
    let receipt = stage.user("ann", "a").await;
    assert_eq!(line(&receipt), "complete targets=1 pending=0 OFFLINE=1 addressed=0 unreachable=0 blind=1");
    let receipt = stage.user("ann", "b").await;
    assert_eq!(line(&receipt), "complete targets=1 pending=0 OFFLINE=1 addressed=0 unreachable=1 blind=1");
}

#[tokio::test]
async fn a_node_that_forgot_the_lane_is_taught_again_without_repeats() {
    let node = FakeNode::start("one").await;
    let stage = Stage::with(&[&node]).await;
    node.room("blue", 1).await;
    stage.room("blue", "a").await;
    stage.until_metric("pubsub_push_lane_queue_messages", |messages| messages == 0.0).await;
    node.forget_lane();
    node.cut();
    node.until_linked(2).await;
    stage.until_lanes("in_sync", 1).await;
    stage.room("blue", "b").await;
    node.until_delivered(&["a", "b"]).await;
}

#[tokio::test]
async fn a_node_that_left_the_list_and_still_answers_keeps_its_lane() {
    let node = FakeNode::start("one").await;
    let stage = Stage::with(&[&node]).await;
    node.room("blue", 1).await;
    let own = node.registration();
    stage.registry().remove(Role::ConnectNode, &own.id, own.incarnation).await.unwrap();
    // A second node in the list shows that the change of the list was seen.
    let other = FakeNode::start("two").await;
    other.register(stage.registry()).await;
    other.until_linked(1).await;
    stage.until_lanes("in_sync", 2).await;
    let receipt = stage.room("blue", "x").await;
    assert_eq!(line(&receipt), "complete targets=1 pending=0 WRITTEN=1 addressed=1 unreachable=0 blind=0");
    assert_eq!(node.links(), 1);
}
