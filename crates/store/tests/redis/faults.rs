//! One server that forgets its scripts, is killed, stands still, or answers calls that nobody waits for any more.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use roomcast_store::{ErrorKind, Presence};
use roomcast_test_servers::Redis;
use roomcast_types::SessionId;

use super::support::{open, open_impatient, room, user, wait_until};

#[tokio::test]
async fn scripts_that_the_server_forgot_are_given_again() {
    let server = Redis::start();
    let presence = open(&server.url(), "");
    let [first, second] = [SessionId::random(), SessionId::random()];
    presence.enter(&room("r"), &user("ann"), first).await.unwrap();
    server.run(&["SCRIPT", "FLUSH"]);
    presence.enter(&room("r"), &user("ann"), second).await.unwrap();
    server.run(&["SCRIPT", "FLUSH"]);
    assert_eq!(presence.online_counts(&room("r")).await.unwrap(), (2, 1));
}

#[tokio::test]
async fn a_server_that_was_killed_serves_again_and_is_known_to_be_empty() {
    let server = Redis::start();
    let presence = open(&server.url(), "");
    let generation = presence.generation().await.unwrap();
    presence.enter(&room("r"), &user("ann"), SessionId::random()).await.unwrap();
    server.kill();
    let error = presence.online_counts(&room("r")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    server.start_again();
    wait_until("it serves again", async || presence.now().await.is_ok()).await;
    assert_ne!(presence.generation().await.unwrap(), generation);
    assert_eq!(presence.online_counts(&room("r")).await.unwrap(), (0, 0));
    presence.enter(&room("r"), &user("ann"), SessionId::random()).await.unwrap();
}

#[tokio::test]
async fn content_that_came_back_from_a_dump_is_another_generation() {
    let server = Redis::start();
    let presence = open(&server.url(), "");
    let generation = presence.generation().await.unwrap();
    presence.enter(&room("r"), &user("ann"), SessionId::random()).await.unwrap();
    server.run(&["SAVE"]);
    server.kill();
    server.start_again();
    wait_until("it serves again", async || presence.now().await.is_ok()).await;
    assert_eq!(presence.online_counts(&room("r")).await.unwrap(), (1, 1), "the dump was read");
    assert_ne!(presence.generation().await.unwrap(), generation);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_not_waited_for_and_found_when_it_comes() {
    let server = Redis::start();
    server.kill();
    let presence = open(&server.url(), "");
    let error = presence.now().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    server.start_again();
    wait_until("it was found", async || presence.now().await.is_ok()).await;
}

#[tokio::test]
async fn a_server_that_stands_still_is_given_up_and_answers_no_other_call_later() {
    let server = Redis::start();
    let presence = open_impatient(&server.url());
    for number in 0..50 {
        for _ in 0..=number {
            presence.enter(&room(format!("r{number}")), &user("ann"), SessionId::random()).await.unwrap();
        }
    }
    server.freeze();
    let rooms: Vec<_> = (0..50).map(|number| room(format!("r{number}"))).collect();
    for answer in join_all(rooms.iter().map(|room| presence.online_counts(room))).await {
        assert_eq!(answer.unwrap_err().kind(), ErrorKind::Unavailable);
    }
    let counters = presence.counters();
    assert!(counters.is_refusing);
    let started = Instant::now();
    wait_until("a call was refused", async || {
        assert_eq!(presence.now().await.unwrap_err().kind(), ErrorKind::Unavailable);
        presence.counters().calls_refused > counters.calls_refused
    })
    .await;
    assert!(started.elapsed() < Duration::from_secs(10), "calls waited for what does not answer");

    server.thaw();
    wait_until("it serves again", async || presence.now().await.is_ok()).await;
    let answers = join_all(rooms.iter().rev().map(|room| presence.online_counts(room))).await;
    let sessions: Vec<u64> = answers.into_iter().map(|answer| answer.unwrap().0).collect();
    assert_eq!(sessions, (1..=50).rev().collect::<Vec<u64>>(), "each call has its own answer");
    assert!(!presence.counters().is_refusing);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_are_given_up_half_way_disturb_no_other() {
    let server = Redis::start();
    let presence = Arc::new(open(&server.url(), ""));
    for number in 0..20 {
        for _ in 0..=number {
            presence.enter(&room(format!("r{number}")), &user("ann"), SessionId::random()).await.unwrap();
        }
    }
    for round in 0..20 {
        let calls: Vec<_> = (0..200)
            .map(|call| {
                let presence = presence.clone();
                tokio::spawn(async move { presence.online_counts(&room(format!("r{}", call % 20))).await })
            })
            .collect();
        calls.iter().skip(round).step_by(3).for_each(|call| call.abort());
        for (call, outcome) in calls.into_iter().enumerate() {
            if let Ok(counts) = outcome.await {
                assert_eq!(counts.unwrap(), (call as u64 % 20 + 1, 1));
            }
        }
    }
}
