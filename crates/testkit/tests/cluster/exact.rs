//! A room as it is in life, a hundred times over: members that read, members that stopped, members whose node dies in
//! mid-push, members who are away. Each receipt is exactly what became of the message, as the clients saw it, and the
//! ledger balances.

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use roomcast_client::{Class, Content, ContentType, PushOptions, Pusher, Receipt, Wait};
use roomcast_proto::pubsub::{
    CreateRoomRequest, JoinRoomRequest, WatchPushRequest,
    push_manager_service_client::PushManagerServiceClient, room_card::Membership,
};
use roomcast_testkit::{Client, Cluster, eventually, ws::Incoming};
use serde_json::json;
use tonic::transport::Channel;

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

/// Numbers that look random and are the same for the same seed (splitmix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((word ^ (word >> 31)) % bound as u64) as usize
    }
}

/// How the node dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doom {
    /// Its hub stands still when the message is accepted: it never gets it.
    Frozen,
    /// It holds the message in front of readers that stopped.
    Holding,
    /// Beside the push, whichever is faster.
    Racing,
}

/// What becomes of a reader that stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    ReadsOn,
    Vanishes,
    /// More is pushed to it than its queue holds.
    TooSlow,
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
            while self.fill(&user, 20_000).await.pending == 0 {}
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

    /// Members that read: who got the message; some confirm it.
    async fn healthy_see(
        &mut self,
        message_id: &str,
        excluded: &HashSet<usize>,
        acks: impl Fn(usize) -> bool,
    ) -> u64 {
        let mut acked = 0;
        for (number, client) in self.healthy.iter_mut().enumerate() {
            if excluded.contains(&number) {
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
            if acks(number) {
                client.send(json!({"type": "ack", "message_ids": [message_id]})).await;
                acked += 1;
            }
        }
        acked
    }

    async fn round(&mut self, seed: u64) {
        let mut dice = Dice(seed);
        let doom = [Doom::Frozen, Doom::Holding, Doom::Racing][dice.below(3)];
        let class = [Class::Ordered, Class::Expiring, Class::Latest][dice.below(3)];
        let wants_ack = dice.below(2) == 0;
        let excluded: HashSet<usize> = (0..dice.below(6)).map(|_| dice.below(HEALTHY)).collect();
        // A state that a later one replaces, or audio that grows old, before anybody reads on.
        let is_outlived = class != Class::Ordered && dice.below(2) == 0;
        let fates: Vec<Fate> =
            (0..STOPPED).map(|_| [Fate::ReadsOn, Fate::Vanishes, Fate::TooSlow][dice.below(3)]).collect();

        let victim = self.cluster.start_node().await;
        let at_victim = self.cluster.ws(victim);
        let mut doomed = Vec::new();
        if doom == Doom::Holding {
            doomed = self.stopped("doomed", DOOMED, |_| at_victim.clone()).await;
        } else {
            for number in 0..DOOMED {
                doomed.push(Client::join(&at_victim, &format!("doomed-{number}"), &["room"]).await);
            }
        }
        let first = dice.below(2);
        let urls = [self.cluster.ws(first), self.cluster.ws(1 - first)];
        let mut stopped = self.stopped("stopped", STOPPED, |number| urls[number % 2].clone()).await;
        eventually("every session is announced", async || {
            (self.cluster.push_manager(0).announced("room") == SESSIONS).then_some(())
        })
        .await;

        let options = PushOptions {
            wait: if doom == Doom::Racing { Wait::Accepted } else { Wait::Written },
            wait_for: (doom == Doom::Frozen).then_some(Duration::from_millis(1)),
            ack: wants_ack,
            class,
            key: if class == Class::Latest { "state".to_owned() } else { String::new() },
            ttl: (class == Class::Expiring).then_some(Duration::from_millis(if is_outlived {
                500
            } else {
                600_000
            })),
            exclude_user_ids: excluded.iter().map(|number| format!("healthy-{number}")).collect(),
            ..PushOptions::default()
        };
        let frozen = (doom == Doom::Frozen).then(|| self.cluster.freeze_node(victim));
        let content = || Content::text(ContentType::Text, format!("round {seed}"));
        let message_id = self.pusher.push_to_room("room", content(), &options).await.unwrap().message_id;
        self.cluster.kill_node(victim);
        drop(frozen);
        let acks = |number: usize| wants_ack && number % 2 == 0;
        let mut acked = self.healthy_see(&message_id, &excluded, acks).await;
        let mut seen = (HEALTHY - excluded.len()) as u64;

        let mut expected = BTreeMap::<&str, u64>::new();
        if is_outlived {
            let outcome = if class == Class::Latest {
                self.pusher.push_to_room("room", content(), &options).await.unwrap();
                "SUPERSEDED"
            } else {
                "EXPIRED"
            };
            eventually("the message is outlived", async || {
                let receipt = self.receipt(&message_id).await;
                (receipt.outcomes.get(outcome).copied() == Some(STOPPED as u64)).then_some(())
            })
            .await;
            expected.insert(outcome, STOPPED as u64);
        }
        for (number, (mut client, fate)) in stopped.drain(..).zip(fates).enumerate() {
            let outcome = match fate {
                Fate::ReadsOn => {
                    let is_there = reads_on(&mut client, &message_id, !is_outlived).await;
                    seen += u64::from(is_there);
                    if is_there && wants_ack {
                        client.send(json!({"type": "ack", "message_ids": [message_id]})).await;
                        acked += 1;
                        client.send(json!({"type": "ping", "id": 1})).await;
                        while client.frame_of_any_kind().await["type"] != "pong" {}
                    }
                    continue;
                }
                Fate::Vanishes => "CLOSED",
                Fate::TooSlow => {
                    while self
                        .fill(&format!("stopped-{number}"), 60_000)
                        .await
                        .outcomes
                        .get("DROPPED_SLOW")
                        .is_none()
                    {}
                    "DROPPED_SLOW"
                }
            };
            if !is_outlived {
                *expected.entry(outcome).or_default() += 1;
            }
        }

        // The dead take nothing back: what they saw was written, or is lost to us.
        let mut doomed_saw = 0;
        for mut client in doomed {
            doomed_saw += u64::from(doom == Doom::Racing && saw(&mut client, &message_id).await);
        }
        let receipt = eventually("the receipt is settled", async || {
            let receipt = self.receipt(&message_id).await;
            let acknowledged = receipt.outcomes.get("ACKED").copied().unwrap_or_default();
            (receipt.pending == 0 && acknowledged == acked).then_some(receipt)
        })
        .await;
        let count = |outcome: &str| receipt.outcomes.get(outcome).copied().unwrap_or_default();
        let lost = count("NODE_LOST");
        match doom {
            Doom::Frozen | Doom::Holding => assert_eq!(lost, DOOMED as u64, "seed {seed}: {receipt:?}"),
            Doom::Racing => assert!(DOOMED as u64 - lost <= doomed_saw, "seed {seed}: {receipt:?}"),
        }
        expected.insert("NODE_LOST", lost);
        expected.insert("OFFLINE", ABSENT);
        expected.insert("FILTERED", excluded.len() as u64);
        expected.insert("ACKED", acked);
        expected.insert("WRITTEN", seen + (DOOMED as u64 - lost) - acked);
        expected.retain(|_, count| *count > 0);
        let found: BTreeMap<&str, u64> =
            receipt.outcomes.iter().map(|(outcome, count)| (outcome.as_str(), *count)).collect();
        assert_eq!(found, expected, "seed {seed}, {doom:?}, {class:?}, outlived: {is_outlived}");
        assert_eq!(receipt.targets, SESSIONS + ABSENT, "seed {seed}: {receipt:?}");
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
