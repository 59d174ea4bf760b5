//! Which rooms exist: a route proves it, a card says it, and otherwise a controller is asked.

use std::sync::Arc;

use push_manager::Deps;
use roomcast_proto::pubsub::room_card::State;
use roomcast_registry::MemoryRegistry;
use roomcast_store::Logs;
use roomcast_types::Code;

use crate::{
    controller::{FakeController, card},
    node::FakeNode,
    stage::{Stage, config, line},
};

const EMPTY: &str = "complete targets=0 pending=0  addressed=0 unreachable=0 blind=0";

#[tokio::test]
async fn a_room_with_nobody_in_it_is_a_success_without_targets() {
    let stage = Stage::with(&[]).await;
    stage.controller.add_room("blue");
    assert_eq!(line(&stage.room("blue", "x").await), EMPTY);
    assert_eq!(line(&stage.room("blue", "y").await), EMPTY);
    assert_eq!(stage.controller.questions(), 1, "a card that is known is not asked for again");
    assert_eq!(stage.metric("pubsub_push_card_lookups_total{outcome=\"found\"}"), 1.0);
}

#[tokio::test]
async fn a_room_that_never_existed_is_not_found_until_it_is_created() {
    let stage = Stage::with(&[]).await;
    let fault = stage.push_to_room("blue", "x").await.unwrap_err();
    assert_eq!((fault.code, fault.message.as_str()), (Code::NotFound, "room blue was never created"));
    stage.controller.add_room("blue");
    assert_eq!(line(&stage.room("blue", "x").await), EMPTY, "that it was unknown is not remembered");
}

#[tokio::test]
async fn a_route_proves_that_the_room_exists_without_a_question() {
    let node = FakeNode::start("one").await;
    let stage = Stage::with(&[&node]).await;
    node.room("blue", 0).await;
    let receipt = stage.room("blue", "x").await;
    assert_eq!(line(&receipt), "complete targets=0 pending=0  addressed=1 unreachable=0 blind=0");
    assert_eq!(stage.controller.questions(), 0);
}

#[tokio::test]
async fn a_deleted_room_answers_room_deleted_and_its_members_hear_of_it() {
    let node = FakeNode::start("one").await;
    let stage = Stage::with(&[&node]).await;
    node.room("blue", 1).await;
    stage.room_changed(card("blue", 5, State::Deleted)).await;
    assert_eq!(stage.push_to_room("blue", "x").await.unwrap_err().code, Code::RoomDeleted);
    node.until_card().await;
    assert_eq!(node.cards(), [card("blue", 5, State::Deleted)]);
    assert!(node.delivered().is_empty());

    // An older card, which came late, changes nothing; a newer one says that the id is in use again.
    stage.room_changed(card("blue", 4, State::Active)).await;
    assert_eq!(stage.push_to_room("blue", "x").await.unwrap_err().code, Code::RoomDeleted);
    stage.room_changed(card("blue", 6, State::Active)).await;
    assert_eq!(
        line(&stage.room("blue", "x").await),
        "complete targets=1 pending=0 WRITTEN=1 addressed=1 unreachable=0 blind=0"
    );
}

#[tokio::test]
async fn what_a_controller_says_of_a_deleted_room_is_passed_on() {
    let stage = Stage::with(&[]).await;
    stage.controller.add_room("blue");
    stage.room("blue", "x").await;
    stage.controller.remove_room("blue");
    assert_eq!(line(&stage.room("blue", "x").await), EMPTY, "the card is still believed");
    stage.room_changed(card("blue", 2, State::Deleted)).await;
    assert_eq!(stage.push_to_room("blue", "x").await.unwrap_err().code, Code::RoomDeleted);
}

#[tokio::test]
async fn an_unknown_room_is_asked_for_even_when_a_node_is_blind() {
    let node = FakeNode::start("one").await;
    node.freeze();
    let stage = Stage::with(&[&node]).await;
    assert_eq!(stage.push_to_room("blue", "x").await.unwrap_err().code, Code::NotFound);
    stage.controller.add_room("blue");
    let receipt = stage.room("blue", "x").await;
    assert_eq!(line(&receipt), "complete targets=0 pending=0  addressed=0 unreachable=0 blind=1");
    node.thaw();
    node.until_delivered(&["x"]).await;
}

#[tokio::test]
async fn without_an_answering_controller_an_unknown_room_is_unavailable() {
    let stage = Stage::with(&[]).await;
    stage.controller.mute();
    let fault = stage.push_to_room("blue", "x").await.unwrap_err();
    assert_eq!(fault.code, Code::Unavailable);
    assert!(fault.retry_after.is_some());
    let fault = stage.push_to_room("blue", "x").await.unwrap_err();
    assert_eq!(fault.code, Code::Unavailable);
    assert_eq!(stage.controller.questions(), 1, "one that just failed is passed over");
    assert_eq!(stage.metric("pubsub_push_controllers_passed_over"), 1.0);
}

#[tokio::test]
async fn a_second_controller_answers_when_the_first_does_not() {
    let stage = Stage::with(&[]).await;
    let second = FakeController::start().await;
    second.register("controller-2", stage.registry()).await;
    stage.controller.mute();
    second.add_room("blue");
    // The list of controllers is a hint away.
    while stage.push_to_room("blue", "x").await.is_err() {
        tokio::task::yield_now().await;
    }
    assert_eq!(second.questions(), 1);
}

#[tokio::test]
async fn configured_controllers_are_asked_instead_of_registered_ones() {
    let configured = FakeController::start().await;
    configured.add_room("blue");
    let address = format!("push_manager.controller_address={}", configured.address);
    let stage = Stage::configured(&[], &[&address]).await;
    assert_eq!(line(&stage.room("blue", "x").await), EMPTY);
    assert_eq!((configured.questions(), stage.controller.questions()), (1, 0));
}

#[tokio::test]
async fn without_any_controller_the_answer_says_so() {
    let deps = Deps { config: config(&[]), registry: Arc::new(MemoryRegistry::new()), logs: Logs::memory() };
    let running = push_manager::start(deps).await.unwrap();
    let url = format!("http://{}/v1/nodes", running.http_address());
    let reply = reqwest::get(url).await.unwrap();
    assert_eq!(reply.status(), 503);
    let header: u64 = reply.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    let body: serde_json::Value = reply.json().await.unwrap();
    assert_eq!(body["error"]["code"], "UNAVAILABLE");
    assert_eq!(header, body["error"]["retry_after_ms"].as_u64().unwrap().div_ceil(1000));
}
