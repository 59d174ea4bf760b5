//! A room as it is in life, a hundred times over: members that read, members that stopped, members whose node dies in
//! mid-push, members who are away. Each receipt is exactly what became of the message, as the clients saw it, and the
//! ledger balances.

mod draw;

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use roomcast_client::{Class, Content, ContentType, PushOptions, Pusher, Receipt};
use roomcast_proto::pubsub::{
    CreateRoomRequest, JoinRoomRequest, WatchPushRequest,
    push_manager_service_client::PushManagerServiceClient, room_card::Membership,
};
use roomcast_testkit::{Client, Cluster, eventually, ws::Incoming};
use serde_json::json;
use tonic::transport::Channel;

use self::draw::{Doom, Draw, Fate};
use crate::ledger::unaccounted;

const ROUNDS: u64 = 100;
/// Sessions that read, on two nodes.
const HEALTHY: usize = 40;
/// Sessions that stopped reading, on the same two.
const STOPPED: usize = 5;
/// Sessions on a node that dies.
const DOOMED: usize = 5;
/// Seats without a session.
const ABSENT: u64 = 10;
const SESSIONS: u64 = (HEALTHY + STOPPED + DOOMED) as u64;

/// What the clients saw of one message, and what the test did to them.
#[derive(Debug, Default)]
struct Seen {
    /// Living sessions that got it, and how many of them confirmed it.
    by: u64,
    acked: u64,
    /// Sessions of the dead node that got it.
    by_doomed: u64,
    /// Other outcomes.
    others: BTreeMap<&'static str, u64>,
}

struct Scene {
    cluster: Cluster,
    pusher: Pusher,
    grpc: PushManagerServiceClient<Channel>,
    healthy: Vec<Client>,
    /// Messages that each of them must not get.
    withheld: Vec<HashSet<String>>,
}

impl Scene {
    async fn start() -> Self {
        let cluster = Cluster::builder().nodes(2).start().await;
        let controller = cluster.controller_client(0);
        let room = CreateRoomRequest {
            room_id: "room".into(),
            membership: Membership::Durable.into(),
            ..Default::default()
        };
        controller.create_room(room).await.unwrap();
        for number in 0..ABSENT {
            let seat = JoinRoomRequest {
                room_id: "room".into(),
                user_id: format!("absent-{number}"),
                ..JoinRoomRequest::default()
            };
            controller.join_room(seat).await.unwrap();
        }
        let mut healthy = Vec::new();
        for number in 0..HEALTHY {
            healthy
                .push(Client::join(&cluster.ws(number % 2), &format!("healthy-{number}"), &["room"]).await);
        }
        let address = format!("http://{}", cluster.push_manager(0).grpc_address());
        let grpc = PushManagerServiceClient::connect(address).await.unwrap();
        let withheld = vec![HashSet::new(); HEALTHY];
        Self { pusher: cluster.pusher(0), cluster, grpc, healthy, withheld }
    }

    /// Readers that stopped, each with something waiting in front of its socket.
    async fn stopped(&self, name: &str, count: usize, url: impl Fn(usize) -> String) -> Vec<Client> {
        let mut clients = Vec::new();
        for number in 0..count {
            let user = format!("{name}-{number}");
            clients.push(Client::narrow(&url(number), &user, &["room"]).await);
            // One may still be taken by the kernel after its first refusal.
            for _ in 0..2 {
                while self.fill(&user, 60_000).await.pending == 0 {}
            }
        }
        clients
    }

    async fn fill(&self, user: &str, bytes: usize) -> Receipt {
        let content = Content::text(ContentType::Text, "x".repeat(bytes));
        let reply = self.pusher.push_to_user(user, content, &PushOptions::default()).await.unwrap();
        reply.receipt.unwrap()
    }

    /// The receipt as it is now.
    async fn receipt(&self, message_id: &str) -> Receipt {
        let request = WatchPushRequest { message_id: message_id.to_owned(), once: true, until: None };
        let mut replies = self.grpc.clone().watch_push(request).await.unwrap().into_inner();
        replies.message().await.unwrap().unwrap().receipt.unwrap()
    }

    async fn round(&mut self, seed: u64) {
        let draw = Draw::new(seed);
        let victim = self.cluster.start_node().await;
        let (doomed, stopped) = self.gather(&draw, victim).await;
        let frozen = (draw.doom == Doom::Frozen).then(|| self.cluster.freeze_node(victim));
        let pushed = self.pusher.push_to_room("room", draw.content(), &draw.options()).await;
        let message_id = pushed.unwrap().message_id;
        if draw.doom == Doom::Racing {
            // The users of the dead node may be known to be away before the controller is asked who is.
            self.cluster.kill_node(victim);
            self.absent_are_counted(&message_id).await;
        } else {
            self.absent_are_counted(&message_id).await;
            self.cluster.kill_node(victim);
        }
        drop(frozen);
        let mut seen = self.healthy_see(&message_id, &draw).await;
        if draw.is_outlived {
            let outcome = self.outlive(&message_id, &draw).await;
            seen.others.insert(outcome, STOPPED as u64);
        }
        self.meet_fates(stopped, &message_id, &draw, &mut seen).await;
        for mut client in doomed {
            seen.by_doomed += u64::from(draw.doom == Doom::Racing && saw(&mut client, &message_id).await);
        }
        self.judge(&message_id, &draw, seen).await;
    }

    async fn absent_are_counted(&self, message_id: &str) {
        eventually("the absent are counted", async || {
            (count(&self.receipt(message_id).await, "OFFLINE") >= ABSENT).then_some(())
        })
        .await;
    }

    /// The sessions of one round beside the healthy.
    async fn gather(&self, draw: &Draw, victim: usize) -> (Vec<Client>, Vec<Client>) {
        let at_victim = self.cluster.ws(victim);
        let mut doomed = Vec::new();
        if draw.doom == Doom::Holding {
            doomed = self.stopped("doomed", DOOMED, |_| at_victim.clone()).await;
        } else {
            for number in 0..DOOMED {
                doomed.push(Client::join(&at_victim, &format!("doomed-{number}"), &["room"]).await);
            }
        }
        let url = |number: usize| self.cluster.ws((draw.first + number) % 2);
        let stopped = self.stopped("stopped", STOPPED, url).await;
        eventually("every session is announced", async || {
            (self.cluster.push_manager(0).announced("room") == SESSIONS).then_some(())
        })
        .await;
        // What was known of the absent in the round before may be reused for a quarter of a second.
        let names = [("healthy", HEALTHY), ("stopped", STOPPED), ("doomed", DOOMED)];
        let everybody =
            names.iter().flat_map(|(name, count)| (0..*count).map(move |n| format!("{name}-{n}")));
        let to_nobody = PushOptions { exclude_user_ids: everybody.collect(), ..PushOptions::default() };
        eventually("only those without a session are absent", async || {
            let reply = self.pusher.push_to_room("room", draw.content(), &to_nobody).await.unwrap();
            (count(&reply.receipt.unwrap(), "OFFLINE") == ABSENT).then_some(())
        })
        .await;
        (doomed, stopped)
    }

    /// Members that read get the message, unless they are excluded; some confirm it.
    async fn healthy_see(&mut self, message_id: &str, draw: &Draw) -> Seen {
        let mut seen = Seen::default();
        for (number, client) in self.healthy.iter_mut().enumerate() {
            if draw.excluded.contains(&number) {
                self.withheld[number].insert(message_id.to_owned());
                continue;
            }
            loop {
                let frame = client.frame("push").await;
                let id = frame["message_id"].as_str().unwrap();
                assert!(!self.withheld[number].contains(id), "an excluded user got {id}");
                if id == message_id {
                    break;
                }
            }
            seen.by += 1;
            if draw.wants_ack && number.is_multiple_of(2) {
                client.send(json!({"type": "ack", "message_ids": [message_id]})).await;
                seen.acked += 1;
            }
        }
        seen
    }

    /// The message loses its worth for those who have not read it; its outcome then.
    async fn outlive(&self, message_id: &str, draw: &Draw) -> &'static str {
        let outcome = if draw.class == Class::Latest { "SUPERSEDED" } else { "EXPIRED" };
        if draw.class == Class::Latest {
            self.pusher.push_to_room("room", draw.content(), &draw.options()).await.unwrap();
        }
        eventually("the message is outlived", async || {
            let receipt = self.receipt(message_id).await;
            (count(&receipt, outcome) == STOPPED as u64).then_some(())
        })
        .await;
        outcome
    }

    async fn meet_fates(&self, stopped: Vec<Client>, message_id: &str, draw: &Draw, seen: &mut Seen) {
        for (number, (mut client, fate)) in stopped.into_iter().zip(&draw.fates).enumerate() {
            let outcome = match fate {
                Fate::ReadsOn => {
                    if reads_on(&mut client, message_id, !draw.is_outlived).await {
                        seen.by += 1;
                        if draw.wants_ack {
                            client.send(json!({"type": "ack", "message_ids": [message_id]})).await;
                            client.send(json!({"type": "ping", "id": 1})).await;
                            while client.frame_of_any_kind().await["type"] != "pong" {}
                            seen.acked += 1;
                        }
                    }
                    continue;
                }
                Fate::Vanishes => "CLOSED",
                Fate::TooSlow => {
                    let user = format!("stopped-{number}");
                    while count(&self.fill(&user, 60_000).await, "DROPPED_SLOW") == 0 {}
                    "DROPPED_SLOW"
                }
            };
            if !draw.is_outlived {
                *seen.others.entry(outcome).or_default() += 1;
            }
        }
    }

    async fn judge(&self, message_id: &str, draw: &Draw, seen: Seen) {
        let receipt = eventually("the receipt is settled", async || {
            let receipt = self.receipt(message_id).await;
            (receipt.pending == 0 && count(&receipt, "ACKED") == seen.acked).then_some(receipt)
        })
        .await;
        // The dead say nothing any more: what they were not heard of is lost to us, whether it was seen or not.
        let lost = count(&receipt, "NODE_LOST");
        match draw.doom {
            Doom::Frozen | Doom::Holding => assert_eq!(lost, DOOMED as u64, "{draw:?}: {receipt:?}"),
            Doom::Racing => assert!(DOOMED as u64 - lost <= seen.by_doomed, "{draw:?}: {receipt:?}"),
        }
        let absent = match draw.doom {
            Doom::Frozen | Doom::Holding => ABSENT,
            Doom::Racing => count(&receipt, "OFFLINE"),
        };
        assert!((ABSENT..=ABSENT + DOOMED as u64).contains(&absent), "{draw:?}: {receipt:?}");
        let mut expected = seen.others;
        expected.insert("NODE_LOST", lost);
        expected.insert("OFFLINE", absent);
        expected.insert("FILTERED", draw.excluded.len() as u64);
        expected.insert("ACKED", seen.acked);
        expected.insert("WRITTEN", seen.by + (DOOMED as u64 - lost) - seen.acked);
        expected.retain(|_, count| *count > 0);
        let found: BTreeMap<&str, u64> =
            receipt.outcomes.iter().map(|(outcome, count)| (outcome.as_str(), *count)).collect();
        assert_eq!(found, expected, "{draw:?}");
        assert_eq!(receipt.targets, SESSIONS + absent, "{draw:?}: {receipt:?}");
    }

    async fn balances(&self) {
        let reply = self.cluster.pusher(0).audit(Duration::from_secs(3_600)).await.unwrap();
        assert!(reply.imbalances.is_empty(), "{reply:?}");
        // The dead are listed until their leases end.
        assert!(reply.unanswered.iter().all(|part| !is_living(&part.id)), "{reply:?}");
        for node in 0..2 {
            assert_eq!(unaccounted(self.cluster.node(node).telemetry()), 0.0);
        }
        assert_eq!(unaccounted(self.cluster.push_manager(0).telemetry()), 0.0);
    }
}

fn count(receipt: &Receipt, outcome: &str) -> u64 {
    receipt.outcomes.get(outcome).copied().unwrap_or_default()
}

fn is_living(id: &str) -> bool {
    ["connect-node-1", "connect-node-2", "push-manager-1"].contains(&id)
}

/// Reads until the message, or, if it is not to come, until an answer behind all that waited; whether it came.
async fn reads_on(client: &mut Client, message_id: &str, is_to_come: bool) -> bool {
    if !is_to_come {
        client.send(json!({"type": "ping", "id": 2})).await;
    }
    loop {
        let frame = client.frame_of_any_kind().await;
        if frame["message_id"] == message_id {
            return true;
        }
        if frame["type"] == "pong" {
            return false;
        }
    }
}

/// Reads to the end of the connection; whether the message was in it.
async fn saw(client: &mut Client, message_id: &str) -> bool {
    let mut saw = false;
    while let Incoming::Frame(frame) = client.next().await {
        saw |= frame["message_id"] == message_id;
    }
    saw
}

#[tokio::test]
async fn a_hundred_receipts_are_exactly_what_the_clients_saw_and_the_ledger_balances() {
    let mut scene = Scene::start().await;
    for seed in 0..ROUNDS {
        scene.round(seed).await;
        if seed % 10 == 9 {
            scene.balances().await;
        }
    }
    let reply = eventually("nothing is on the way any more", async || {
        let reply = scene.cluster.pusher(0).audit(Duration::from_secs(3_600)).await.unwrap();
        (reply.unsettled == 0).then_some(reply)
    })
    .await;
    assert!(reply.imbalances.is_empty() && reply.pushes >= ROUNDS, "{reply:?}");
    scene.balances().await;
    drop(scene.healthy);
    scene.cluster.finish().await;
}
