//! One part is emptied and ends, under load: its clients go elsewhere and miss nothing.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use connect_node::Drained;
use roomcast_client::{Content, ContentType, Controller, PushOptions, Pusher};
use roomcast_proto::pubsub::GetRoomStatsRequest;
use roomcast_testkit::{Client, Cluster, eventually, ws::Incoming};
use serde_json::Value;
use tokio::{
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::sleep,
};

const ROOMS: usize = 5;
const MEMBERS: usize = 40;
/// Closes a run: the last push of each room.
const END: &str = "end";

fn room(number: usize) -> String {
    format!("room-{}", number % ROOMS)
}

async fn enter(url: &str, user: &str, room: &str) -> Client {
    let mut client =
        Client::open(&format!("{url}?user_id={user}&client_id=tab&room_id={room}")).await.unwrap();
    client.frame("welcome").await;
    client.frame("joined").await;
    client
}

/// What a client got, each push once.
#[derive(Default)]
struct Got {
    pushes: BTreeSet<u64>,
    has_ended: bool,
}

impl Got {
    fn take(&mut self, frame: &Value) {
        match frame["content"]["data"].as_str() {
            Some(END) => self.has_ended = true,
            Some(number) => _ = self.pushes.insert(number.parse().unwrap()),
            None => {}
        }
    }
}

/// A client that follows a notice: it opens its next session, is in its room there before it lets the old one go, and
/// reads that to its end, with the code of a takeover. What it got until the last push.
async fn follow(
    old: String,
    new: String,
    user: String,
    room: String,
    joined: Arc<watch::Sender<usize>>,
) -> Got {
    let mut got = Got::default();
    let mut old = enter(&old, &user, &room).await;
    joined.send_modify(|count| *count += 1);
    let reconnect_after = loop {
        let frame = old.frame_of_any_kind().await;
        if frame["type"] == "notice" {
            assert_eq!(frame["reason"], "DRAINING");
            break Duration::from_millis(frame["reconnect_after_ms"].as_u64().unwrap());
        }
        got.take(&frame);
    };
    let going = async {
        sleep(reconnect_after).await;
        enter(&new, &user, &room).await
    };
    tokio::pin!(going);
    let mut is_open = true;
    let mut new = loop {
        tokio::select! {
            new = &mut going => break new,
            incoming = old.next(), if is_open => match incoming {
                Incoming::Frame(frame) => got.take(&frame),
                Incoming::Closed(code) => {
                    assert_eq!(code, Some(4500));
                    is_open = false;
                }
            },
        }
    };
    while is_open {
        match old.next().await {
            Incoming::Frame(frame) => got.take(&frame),
            Incoming::Closed(code) => {
                assert_eq!(code, Some(4500));
                is_open = false;
            }
        }
    }
    while !got.has_ended {
        got.take(&new.frame_of_any_kind().await);
    }
    got
}

/// Pushes numbers to all rooms until it is told to stop, then the last push; how many numbers each room got. Every push
/// is accepted.
fn push(pusher: Pusher, stop: watch::Receiver<bool>) -> JoinHandle<u64> {
    tokio::spawn(async move {
        let mut number = 0;
        loop {
            let is_last = *stop.borrow();
            let data = if is_last { END.to_owned() } else { number.to_string() };
            for index in 0..ROOMS {
                let content = Content::text(ContentType::Text, data.clone());
                pusher.push_to_room(&room(index), content, &PushOptions::default()).await.unwrap();
            }
            if is_last {
                return number;
            }
            number += 1;
            sleep(Duration::from_millis(5)).await;
        }
    })
}

/// Members on node 0 that are to go to the others.
async fn members(cluster: &Cluster) -> JoinSet<Got> {
    let joined = Arc::new(watch::Sender::new(0));
    let mut members = JoinSet::new();
    for number in 0..MEMBERS {
        let (old, new) = (cluster.ws(0), cluster.ws(1 + number % 2));
        members.spawn(follow(old, new, format!("user-{number}"), room(number), joined.clone()));
    }
    joined.subscribe().wait_for(|count| *count == MEMBERS).await.unwrap();
    members
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_drains_under_pushes_loses_nothing() {
    let mut cluster = Cluster::builder().nodes(3).start().await;
    let members = members(&cluster).await;
    let (stop, stopped) = watch::channel(false);
    let pushing = push(cluster.pusher(0), stopped);
    let drained = cluster.drain_node(0).await.unwrap();
    let Drained { sessions, moved, closed, lost, gap_p99 } = drained;
    assert_eq!((sessions, moved, closed, lost), (MEMBERS, MEMBERS, 0, 0));
    assert!(gap_p99 > Duration::ZERO, "{gap_p99:?}");
    stop.send_replace(true);
    let pushed = pushing.await.unwrap();
    for got in members.join_all().await {
        assert_eq!(got.pushes.into_iter().collect::<Vec<_>>(), (0..pushed).collect::<Vec<_>>());
    }
    eventually("all clients have gone", async || {
        (cluster.node(1).sessions() + cluster.node(2).sessions() == 0).then_some(())
    })
    .await;
    cluster.finish().await;
}

#[tokio::test]
async fn sessions_are_taken_during_the_grace_told_as_well_and_refused_after_it() {
    let mut cluster = Cluster::builder()
        .nodes(2)
        .set("connect_node.drain.accept_grace=3s")
        .set("connect_node.drain.leave_wait=60s")
        .start()
        .await;
    let (ws, api) = (cluster.ws(0), cluster.node_api(0));
    let draining = cluster.drain_node(0);
    eventually("the node says that it drains", async || (api.get("/ready").await.0 == 503).then_some(()))
        .await;
    let mut late = Client::join(&ws, "late", &["room"]).await;
    late.frame("notice").await;
    let Err(refused) = Client::open(&format!("{ws}?user_id=later")).await else {
        panic!("it takes sessions")
    };
    let tokio_tungstenite::tungstenite::Error::Http(response) = refused else { panic!("{refused}") };
    assert_eq!((response.status().as_u16(), response.headers()["retry-after"].to_str().unwrap()), (503, "1"));
    // Nobody is left when it goes, so nobody is waited for.
    late.close().await;
    let drained = draining.await.unwrap();
    assert_eq!((drained.sessions, drained.moved, drained.closed), (1, 1, 0));
    cluster.finish().await;
}

#[tokio::test]
async fn whoever_stays_is_closed_when_its_time_is_over() {
    let mut cluster = Cluster::builder().nodes(2).set("connect_node.drain.leave_wait=100ms").start().await;
    let mut deaf = Client::join(&cluster.ws(0), "deaf", &["room"]).await;
    let draining = cluster.drain_node(0);
    deaf.frame("notice").await;
    assert_eq!(deaf.closed().await, Some(4001));
    let drained = draining.await.unwrap();
    assert_eq!((drained.sessions, drained.moved, drained.closed, drained.lost), (1, 0, 1, 0));
    cluster.finish().await;
}

#[tokio::test]
async fn where_nobody_could_go_elsewhere_a_node_ends_at_once() {
    let mut cluster = Cluster::builder()
        .nodes(2)
        .set("connect_node.drain.accept_grace=5m")
        .set("connect_node.drain.leave_wait=5m")
        .start()
        .await;
    let mut alice = Client::join(&cluster.ws(0), "alice", &["room"]).await;
    let mut bob = Client::join(&cluster.ws(1), "bob", &["room"]).await;
    // Each finds out that the other one goes as well.
    let both = [cluster.drain_node(0), cluster.drain_node(1)];
    assert_eq!((alice.closed().await, bob.closed().await), (Some(4001), Some(4001)));
    for drained in both {
        let drained = drained.await.unwrap();
        assert_eq!((drained.sessions, drained.closed), (1, 1));
    }
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publishers_notice_nothing_when_a_push_manager_is_drained() {
    let mut cluster = Cluster::builder().nodes(1).push_managers(2).start().await;
    let mut reader = enter(&cluster.ws(0), "reader", &room(0)).await;
    for index in 1..ROOMS {
        reader.join_room(&room(index)).await;
    }
    let reading = tokio::spawn(async move {
        let (mut pushes, mut ends) = (Vec::new(), 0);
        while ends < ROOMS {
            let frame = reader.frame("push").await;
            match frame["content"]["data"].as_str().unwrap() {
                END => ends += 1,
                number => pushes.push((frame["room_id"].to_string(), number.parse::<u64>().unwrap())),
            }
        }
        pushes
    });
    let addresses = [0, 1].map(|index| cluster.push_manager(index).grpc_address().to_string());
    let (stop, stopped) = watch::channel(false);
    let pushing = push(Pusher::new(addresses).unwrap(), stopped);
    assert_eq!(cluster.drain_push_manager(0).await.unwrap(), push_manager::Left::default());
    stop.send_replace(true);
    let pushed = pushing.await.unwrap();
    let mut got = reading.await.unwrap();
    got.sort_unstable();
    let expected =
        (0..ROOMS).flat_map(|index| (0..pushed).map(move |number| (format!("{:?}", room(index)), number)));
    assert_eq!(got, expected.collect::<Vec<_>>(), "each once");
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_and_nodes_turn_to_another_controller_before_one_ends() {
    let mut cluster = Cluster::builder().nodes(2).controllers(2).start().await;
    let addresses = [0, 1].map(|index| cluster.controller(index).grpc_address().to_string());
    let (stop, stopped) = watch::channel(false);
    let client = Controller::new(addresses).unwrap();
    let asking = tokio::spawn(async move {
        while !*stopped.borrow() {
            client.get_room_stats(GetRoomStatsRequest::default()).await.unwrap();
        }
    });
    let ws = cluster.ws(0);
    let (stop_joining, joining_stopped) = watch::channel(false);
    let joining = tokio::spawn(async move {
        let mut number = 0;
        while !*joining_stopped.borrow() {
            number += 1;
            // Its frames in order: a join that no controller answers would be an error instead.
            drop(enter(&ws, &format!("user-{number}"), "lobby").await);
        }
        number
    });
    let left = cluster.drain_controller(0).await.unwrap();
    assert_eq!(left, controller_manager::Left::default(), "both nodes had turned to the other one");
    assert!(cluster.node(0).is_reporting() && cluster.node(1).is_reporting());
    stop.send_replace(true);
    asking.await.unwrap();
    stop_joining.send_replace(true);
    assert!(joining.await.unwrap() > 0);
    cluster.finish().await;
}
