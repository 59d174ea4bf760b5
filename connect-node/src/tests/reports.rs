//! The report stream over gRPC: claims, leaves that outlive a controller, slices.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use roomcast_proto::pubsub::session_change::Change;
use roomcast_registry::{Member, MemoryRegistry, Registration, Registry, Role, Roster, State};
use roomcast_types::{Code, Incarnation, NodeId, ServiceId};

use super::{
    bench::{Bench, room},
    controller::{FakeController, willing},
    until,
};
use crate::{
    ports::{Hub, LeftReason, ToShard},
    report::{self, controllers::Controllers},
};

fn known(bench: &Bench, controllers: &[&FakeController]) -> Controllers {
    let addresses: Vec<_> = controllers.iter().map(|controller| controller.address.clone()).collect();
    let registry: Arc<dyn Registry> = Arc::new(MemoryRegistry::new());
    let nodes = Arc::new(Roster::start(registry.clone(), Role::ConnectNode));
    Controllers::new(&addresses, registry, bench.hub.identity.node_id.clone(), nodes)
}

fn report_to(bench: &mut Bench, controllers: &[&FakeController]) {
    let controllers = known(bench, controllers);
    let hub = bench.hub.clone();
    bench.spawn(report::run(hub, Arc::new(controllers)));
}

async fn linked(bench: &Bench) {
    until("a report stream", || bench.hub.state().outbox.is_linked()).await;
}

#[tokio::test]
async fn a_session_is_claimed_with_the_time_of_the_store() {
    let mut bench = Bench::new(1);
    let controller = FakeController::start(willing).await;
    report_to(&mut bench, &[&controller]);
    linked(&bench).await;
    bench.welcomed(0, "ann").await;
    let changes = controller.script.changes.lock().unwrap();
    let Some(Change::Opened(record)) = &changes[0].change else { panic!("opened") };
    let off = record.stamp_ms - controller.script.store_time_ms;
    assert!((-5_000..60_000).contains(&off), "the store's clock, not this machine's: {off}");
    assert_eq!(record.user_id, "ann");
}

#[tokio::test]
async fn a_session_that_opened_without_a_controller_is_claimed_by_a_slice() {
    let mut bench = Bench::new(1);
    let (session, id) = bench.welcomed(0, "ann").await;
    let controller = FakeController::start(willing).await;
    report_to(&mut bench, &[&controller]);
    until("its slice", || !controller.script.records().is_empty()).await;
    let record = controller.script.records()[0].clone();
    assert_eq!(record.session_id, id.as_bytes());
    assert!(record.stamp_ms < 2 * controller.script.store_time_ms, "stamped by the store's clock");
    bench.joined(session, &room("lobby")).await;
}

#[tokio::test]
async fn another_controller_takes_over_within_a_join() {
    let mut bench = Bench::new(1);
    let (first, second) = (FakeController::start(willing).await, FakeController::start(willing).await);
    report_to(&mut bench, &[&first, &second]);
    linked(&bench).await;
    let (session, _) = bench.welcomed(0, "ann").await;
    let is_first = !first.script.hellos.lock().unwrap().is_empty();
    let (used, other) = if is_first { (first, second) } else { (second, first) };
    // Takes the question along when it goes.
    *used.script.answer.lock().unwrap() = Box::new(|_| None);
    bench.shards().join(session, Some(1), room("lobby"), None);
    until("the question", || used.script.count(|change| matches!(change, Change::Join(_))) == 1).await;
    drop(used);
    assert!(matches!(bench.next(0).await, ToShard::Joined { .. }));
    assert_eq!(other.script.count(|change| matches!(change, Change::Join(_))), 1);
}

#[tokio::test]
async fn a_leave_that_was_not_answered_is_sent_again_on_the_next_stream() {
    let mut bench = Bench::new(1);
    let (first, second) = (FakeController::start(willing).await, FakeController::start(willing).await);
    report_to(&mut bench, &[&first, &second]);
    linked(&bench).await;
    let is_first = !first.script.hellos.lock().unwrap().is_empty();
    let (controller, next) = if is_first { (first, second) } else { (second, first) };
    *controller.script.answer.lock().unwrap() = Box::new(|change| match change.change {
        Some(Change::Leave(_)) => None,
        _ => willing(change),
    });
    let (session, _) = bench.welcomed(0, "ann").await;
    bench.joined(session, &room("lobby")).await;
    bench.shards().leave(session, Some(2), room("lobby"));
    let command = bench.next(0).await;
    assert!(
        matches!(command, ToShard::Left { reason: LeftReason::Left, request: Some(2), .. }),
        "{command:?}"
    );
    assert_eq!(controller.script.count(|change| matches!(change, Change::Leave(_))), 1);
    drop(controller);
    until("the leave again", || next.script.count(|change| matches!(change, Change::Leave(_))) == 1).await;
}

#[tokio::test]
async fn a_frozen_controller_is_left_for_another_which_hears_what_was_not_answered() {
    let mut bench = Bench::new(1);
    let (first, second) = (FakeController::start(willing).await, FakeController::start(willing).await);
    report_to(&mut bench, &[&first, &second]);
    linked(&bench).await;
    let is_first = !first.script.hellos.lock().unwrap().is_empty();
    let (frozen, other) = if is_first { (first, second) } else { (second, first) };
    let (session, _) = bench.welcomed(0, "ann").await;
    bench.joined(session, &room("lobby")).await;
    frozen.script.is_frozen.send_replace(true);
    bench.shards().leave(session, Some(2), room("lobby"));
    assert!(matches!(bench.next(0).await, ToShard::Left { request: Some(2), .. }), "nobody waits for ever");
    until("the leave", || other.script.count(|change| matches!(change, Change::Leave(_))) == 1).await;
    bench.joined(session, &room("lobby")).await;
}

#[tokio::test]
async fn nodes_of_a_registry_share_its_controllers_evenly() {
    let registry: Arc<dyn Registry> = Arc::new(MemoryRegistry::new());
    let register = async |role, name: &str, number: usize| {
        let registration = Registration {
            role,
            id: ServiceId::new(format!("{name}-{number}")).unwrap(),
            grpc_address: format!("{name}-{number}:1"),
            url: String::new(),
            incarnation: Incarnation::random(),
            state: State::Starting,
        };
        Member::join(registry.clone(), registration, Duration::from_secs(10)).await.unwrap()
    };
    let mut members = Vec::new();
    for number in 1..=2 {
        members.push(register(Role::ControllerManager, "controller", number).await);
    }
    for number in 1..=7 {
        members.push(register(Role::ConnectNode, "connect-node", number).await);
    }
    let nodes = Arc::new(Roster::start(registry.clone(), Role::ConnectNode));
    nodes.refresh().await;
    let mut firsts = Vec::new();
    for number in 1..=7 {
        let own = NodeId::new(format!("connect-node-{number}")).unwrap();
        let controllers = Controllers::new(&[], registry.clone(), own, nodes.clone());
        until("the controllers are listed", || controllers.pick(None).is_some()).await;
        let first = controllers.pick(None).unwrap();
        assert_ne!(
            controllers.pick(Some(&first)),
            Some(first.clone()),
            "after one that failed comes another"
        );
        firsts.push(first);
    }
    let of_first = firsts.iter().filter(|address| *address == "controller-1:1").count();
    assert!(matches!(of_first, 3 | 4), "{firsts:?}");
}

#[tokio::test]
async fn reports_move_home_when_it_answers_and_never_to_a_frozen_one() {
    let mut bench = Bench::new(1);
    let (first, second) = (FakeController::start(willing).await, FakeController::start(willing).await);
    let controllers = known(&bench, &[&first, &second]).impatient();
    let is_first = controllers.pick(None).unwrap() == first.address;
    let (home, other) = if is_first { (first, second) } else { (second, first) };
    home.script.is_frozen.send_replace(true);
    let hub = bench.hub.clone();
    bench.spawn(report::run(hub, Arc::new(controllers)));
    linked(&bench).await;
    for number in 0..3 {
        until("home is tried again", || home.script.is_frozen.receiver_count() > 0).await;
        let (session, _) = bench.welcomed(0, &format!("user-{number}")).await;
        bench.joined(session, &room("lobby")).await;
        until("home was tried in vain", || home.script.is_frozen.receiver_count() == 0).await;
    }
    let is_join = |change: &Change| matches!(change, Change::Join(_));
    assert_eq!((home.script.count(is_join), other.script.count(is_join)), (0, 3));
    home.script.is_frozen.send_replace(false);
    until("the versions at home", || home.script.versions.lock().unwrap().iter().sum::<u64>() > 0).await;
    let (session, _) = bench.welcomed(0, "one more").await;
    bench.joined(session, &room("lobby")).await;
    assert_eq!(home.script.count(is_join), 1);
}

#[tokio::test]
async fn while_no_controller_answers_nobody_waits_for_one() {
    let mut bench = Bench::new(1);
    let controller = FakeController::start(willing).await;
    report_to(&mut bench, &[&controller]);
    linked(&bench).await;
    let (session, _) = bench.welcomed(0, "ann").await;
    controller.script.is_frozen.send_replace(true);
    until("nothing was heard for a while", || bench.hub.state().breaker.is_open(tokio::time::Instant::now()))
        .await;
    let mut later = Vec::new();
    for number in 0..50 {
        bench.shards().join(session, Some(number), room("lobby"), None);
        let ToShard::JoinRefused { fault, .. } = bench.next(0).await else { panic!("refused") };
        assert_eq!(fault.code, Code::Unavailable);
        later.push(fault.retry_after.unwrap());
        bench.welcomed(0, &format!("user-{number}")).await;
    }
    assert_eq!(bench.hub.state().outbox.waiting(), 0, "nothing was left waiting");
    later.sort_unstable();
    later.dedup();
    assert!(later.len() > 10, "they do not come back together");
    controller.script.is_frozen.send_replace(false);
    until("it goes on", || !bench.hub.state().breaker.is_open(tokio::time::Instant::now())).await;
    bench.joined(session, &room("lobby")).await;
    until("slices of who came meanwhile", || controller.script.records().len() >= 50).await;
}

#[tokio::test]
async fn slices_that_are_asked_for_come_in_full_and_in_bounded_messages() {
    let mut bench = Bench::new(1);
    let controller = FakeController::start(willing).await;
    report_to(&mut bench, &[&controller]);
    linked(&bench).await;
    for index in 0..700 {
        bench.welcomed(0, &format!("user-{index}")).await;
    }
    until("the versions", || controller.script.versions.lock().unwrap().iter().sum::<u64>() == 700).await;
    controller.script.slices.lock().unwrap().clear();
    *controller.script.want.lock().unwrap() = (0..64).collect();
    // Any report brings the question back.
    bench.welcomed(0, "one more").await;
    until("all sessions", || controller.script.records().len() >= 701).await;
    assert!(*controller.script.largest_message.lock().unwrap() <= 500);
}

#[tokio::test]
async fn a_slot_lost_after_the_welcome_closes_the_session() {
    let mut bench = Bench::new(1);
    bench.hub.state().outbox.link_up();
    bench.hub.state().breaker.heard(tokio::time::Instant::now());
    let (key, _) = bench.open(0, "ann");
    let asked = bench.hub.state().changes(tokio::time::Instant::now()).unwrap().changes.remove(0);
    assert!(matches!(bench.next(0).await, ToShard::Welcome { .. }), "after the time for an answer");
    let mut lost = willing(&asked).unwrap();
    lost.result = Some(roomcast_proto::pubsub::change_result::Result::SlotHeld(false));
    let consequence = bench.hub.state().outbox.answered(lost);
    assert_eq!(consequence, crate::report::outbox::Consequence::SlotLost(key));
}

#[tokio::test]
async fn a_controller_that_ends_is_left_for_another_while_its_stream_stands() {
    let mut bench = Bench::new(1);
    let (first, second) = (FakeController::start(willing).await, FakeController::start(willing).await);
    report_to(&mut bench, &[&first, &second]);
    linked(&bench).await;
    let is_first = !first.script.hellos.lock().unwrap().is_empty();
    let (ending, next) = if is_first { (first, second) } else { (second, first) };
    ending.script.is_draining.store(true, Ordering::Relaxed);
    until("a hello to the other one", || !next.script.hellos.lock().unwrap().is_empty()).await;
    linked(&bench).await;
    let (session, _) = bench.welcomed(0, "ann").await;
    bench.joined(session, &room("lobby")).await;
    assert_eq!(next.script.count(|change| matches!(change, Change::Join(_))), 1);
    drop(ending);
}
