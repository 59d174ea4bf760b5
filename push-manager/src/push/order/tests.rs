//! Any order of ends: messages go out in the order of their places.

use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use roomcast_types::{Epoch, RoomId};

use super::*;

fn room() -> LogKey {
    LogKey::Room(RoomId::new("blue").unwrap())
}

fn epoch() -> Epoch {
    Epoch::from_u64(7).unwrap()
}

/// Appends that all are under way at once and whose ends are seen in any order.
async fn run(ends: Vec<usize>, begin_late: Vec<bool>) -> Vec<u64> {
    let order = Arc::new(Order::new(Counter::noop()));
    let went = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = Vec::new();
    let count = ends.len();
    let (started, mut ready) = tokio::sync::mpsc::channel(count);
    let mut gates = Vec::new();
    for (index, place) in (1..=count as u64).enumerate() {
        let (end, ended) = oneshot::channel::<()>();
        let (order, went, started) = (order.clone(), went.clone(), started.clone());
        let late = begin_late[index];
        gates.push(Some(end));
        tasks.push(tokio::spawn(async move {
            let turn = order.begin(room());
            started.send(()).await.unwrap();
            let _ = ended.await;
            if late {
                tokio::task::yield_now().await;
            }
            turn.come(Position { epoch: epoch(), offset: place }).await;
            went.lock().unwrap().push(place);
            drop(turn);
        }));
    }
    for _ in 0..count {
        ready.recv().await.unwrap();
    }
    for index in ends {
        if let Some(gate) = gates[index].take() {
            let _ = gate.send(());
        }
        tokio::task::yield_now().await;
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert!(order.lock().is_empty(), "nothing is kept of logs without pushes under way");
    Arc::try_unwrap(went).unwrap().into_inner().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn they_go_in_the_order_of_their_places(
        ends in Just((0..9_usize).collect::<Vec<_>>()).prop_shuffle(),
        late in prop::collection::vec(any::<bool>(), 9),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let went = runtime.block_on(run(ends, late));
        prop_assert_eq!(went, (1..=9).collect::<Vec<_>>());
    }
}

#[tokio::test(start_paused = true)]
async fn an_append_that_hangs_delays_the_others_for_a_moment_only() {
    let order = Order::new(Counter::noop());
    let hanging = order.begin(room());
    let second = order.begin(room());
    let began = tokio::time::Instant::now();
    second.come(Position { epoch: epoch(), offset: 2 }).await;
    assert_eq!(began.elapsed().as_millis(), WAIT_MAX.as_millis());
    drop(second);
    // Behind the one that went last nothing can be missing.
    let third = order.begin(room());
    third.come(Position { epoch: epoch(), offset: 3 }).await;
    assert_eq!(began.elapsed().as_millis(), WAIT_MAX.as_millis());
    drop((third, hanging));
}

#[tokio::test(start_paused = true)]
async fn places_that_others_took_in_between_are_not_waited_for() {
    let order = Order::new(Counter::noop());
    let began = tokio::time::Instant::now();
    for offset in [4, 9, 11] {
        let turn = order.begin(room());
        turn.come(Position { epoch: epoch(), offset }).await;
    }
    assert!(began.elapsed().is_zero());
}
