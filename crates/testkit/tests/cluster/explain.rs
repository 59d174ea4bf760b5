//! A message did not arrive: the explanation names the hop that is to blame, whatever it was.

use std::net::{IpAddr, Ipv4Addr};

use roomcast_client::Pusher;
use roomcast_proto::pubsub::{
    CreateRoomRequest, DeleteRoomRequest, ExplainRoomRequest, ExplainUserRequest, Explanation,
    KickUserRequest,
};
use roomcast_test_servers::free_port;
use roomcast_testkit::{Api, Client, Cluster, Proxy, eventually, ws::Incoming};
use roomcast_types::MessageId;
use serde_json::{Value, json};

/// Somebody who asks why.
struct Asker {
    pusher: Pusher,
    api: Api,
}

impl Asker {
    fn of(cluster: &Cluster, push_manager: usize) -> Self {
        Self { pusher: cluster.pusher(push_manager), api: cluster.api(push_manager) }
    }

    async fn user(&self, user: &str, message_id: &str) -> Explanation {
        self.user_in(user, "", message_id).await
    }

    async fn user_in(&self, user: &str, room: &str, message_id: &str) -> Explanation {
        let request = ExplainUserRequest {
            user_id: user.into(),
            room_id: room.into(),
            message_id: message_id.into(),
            last: 0,
        };
        self.pusher.explain_user(request).await.expect("an explanation")
    }

    async fn room(&self, room: &str) -> Explanation {
        let request = ExplainRoomRequest { room_id: room.into(), ..ExplainRoomRequest::default() };
        self.pusher.explain_room(request).await.expect("an explanation")
    }

    /// Pushes; the reply and the id of the message.
    async fn push(&self, path: &str, data: &str, options: Value) -> (Value, String) {
        let body = json!({"content": {"data": data}, "options": options});
        let (status, reply) = self.api.post(&format!("/v1/push/{path}"), body).await;
        assert_eq!(status, 200, "{reply}");
        let id = reply["message_id"].as_str().unwrap().to_owned();
        (reply, id)
    }

    /// Asks until the explanation is this one: what is remembered settles a moment after it happened.
    async fn until(&self, hop: &str, words: &[&str], ask: impl AsyncFn() -> Explanation) -> Explanation {
        let last = std::cell::RefCell::new(String::new());
        let asking = eventually("the explanation", async || {
            let found = ask().await;
            let is_it = found.hop == hop && words.iter().all(|word| found.sentence.contains(word));
            last.replace(format!("{}: {}", found.hop, found.sentence));
            is_it.then_some(found)
        });
        match tokio::time::timeout(roomcast_testkit::DEADLINE / 2, asking).await {
            Ok(found) => found,
            Err(_) => panic!("wanted {hop} with {words:?}, got {}", last.borrow()),
        }
    }
}

fn named(explanation: &Explanation, hop: &str, words: &[&str]) {
    assert_eq!(explanation.hop, hop, "{}", explanation.sentence);
    for word in words {
        assert!(explanation.sentence.contains(word), "{word:?} is not in {:?}", explanation.sentence);
    }
}

#[tokio::test]
async fn what_a_user_missed_is_told_by_who_was_where() {
    let cluster = Cluster::builder().nodes(2).start().await;
    let asker = Asker::of(&cluster, 0);
    let mut ann = Client::join(&cluster.ws(0), "ann", &["r"]).await;
    let mut bob = Client::join(&cluster.ws(1), "bob", &["r", "other"]).await;

    let (_, arrived) = asker.push("room/r", "hello", json!({})).await;
    ann.push().await;
    let found = asker.user("ann", &arrived).await;
    named(&found, "NONE", &["arrived", "1 session of ann", "connect-node-1"]);
    let hop = &found.pushes[0].hops[0];
    assert!(hop.sent_us.is_some() && hop.walk_us.is_some() && hop.heard_us >= hop.sent_us, "{hop:?}");
    named(&asker.user("ann", "").await, "NONE", &["the last message arrived"]);
    named(&asker.room("r").await, "NONE", &["2 sessions"]);

    named(&asker.user("zed", "").await, "USER", &["zed has no session", "no node remembers"]);
    let (_, to_bob) = asker.push("user/bob", "for bob", json!({})).await;
    named(&asker.user("ann", &to_bob).await, "REQUEST", &["not to ann"]);
    let (_, excluded) = asker.push("room/r", "x", json!({"exclude_user_ids": ["ann"]})).await;
    named(&asker.user("ann", &excluded).await, "REQUEST", &["excludes"]);
    let (_, other) = asker.push("room/other", "x", json!({})).await;
    named(&asker.user("ann", &other).await, "SEAT", &["none of them in room other", "no seat"]);
    named(&asker.user_in("ann", "nowhere", "").await, "ROOM", &["nowhere does not exist"]);
    named(&asker.room("nowhere").await, "ROOM", &["does not exist"]);

    let (_, before) = asker.push("room/other", "before", json!({})).await;
    ann.join_room("other").await;
    named(&asker.user("ann", &before).await, "SEAT", &["joined room other"]);
    let carol = Client::join(&cluster.ws(0), "carol", &["r"]).await;
    named(&asker.user("carol", &arrived).await, "USER", &["opened", "carol"]);

    let controller = cluster.controller_client(0);
    let kick = |user: &str, room: &str| KickUserRequest {
        user_id: user.into(),
        room_id: room.into(),
        ..KickUserRequest::default()
    };
    controller.kick_user(kick("ann", "other")).await.unwrap();
    let (_, after) = asker.push("room/other", "after", json!({})).await;
    let ask = async || asker.user("ann", &after).await;
    asker.until("SEAT", &["left it", "KICKED"], ask).await;
    controller.kick_user(kick("ann", "")).await.unwrap();
    assert_eq!(ann.closed().await, Some(4501));
    named(&asker.user("ann", "").await, "USER", &["connect-node-1", "4501 (kicked)"]);
    carol.close().await;
    let ask = async || asker.user("carol", "").await;
    asker.until("USER", &["the last one was on connect-node-1", "by the client"], ask).await;

    controller.delete_room(DeleteRoomRequest { room_id: "other".into() }).await.unwrap();
    let ask = async || asker.room("other").await;
    asker.until("ROOM", &["other was deleted"], ask).await;
    let empty = CreateRoomRequest { room_id: "empty".into(), ..CreateRoomRequest::default() };
    controller.create_room(empty).await.unwrap();
    named(&asker.room("empty").await, "ROOM", &["nobody is in room empty"]);

    let slot = format!("{}?user_id=eve&client_id=tab", cluster.ws(0));
    let mut first = Client::open(&slot).await.unwrap();
    first.frame("welcome").await;
    let mut second = Client::open(&slot.replace(&cluster.ws(0), &cluster.ws(1))).await.unwrap();
    second.frame("welcome").await;
    assert_eq!(first.closed().await, Some(4500));
    named(&asker.user("eve", "").await, "NONE", &["connect-node-1", "4500 (taken over by a later session)"]);
    drop((second, bob.frame("push").await));
    cluster.finish().await;
}

#[tokio::test]
async fn what_a_slow_client_missed_is_told_by_its_queue() {
    let cluster = Cluster::builder().nodes(1).start().await;
    let asker = Asker::of(&cluster, 0);
    let ws = cluster.ws(0);
    let large = "x".repeat(60_000);

    // Full up to the last byte that the kernel takes; what comes now waits.
    let fill = async |user: &str| {
        loop {
            let (reply, id) = asker.push(&format!("user/{user}"), &large, json!({})).await;
            if reply["receipt"]["pending"] == 1 {
                return id;
            }
        }
    };
    let slow = Client::join(&ws, "slow", &[]).await;
    let pending = fill("slow").await;
    let words = ["waits in the queue", "slow's session on connect-node-1", "the client has read nothing"];
    named(&asker.user("slow", &pending).await, "SESSION", &words);
    named(&asker.user("slow", "").await, "SESSION", &["waits in the queue"]);

    let (_, expired) = asker.push("user/slow", "old", json!({"class": "EXPIRING", "ttl_ms": 20})).await;
    let ask = async || asker.user("slow", &expired).await;
    asker.until("SESSION", &["expired before"], ask).await;
    let (_, first) = asker.push("user/slow", "1", json!({"key": "k"})).await;
    asker.push("user/slow", "2", json!({"key": "k"})).await;
    let ask = async || asker.user("slow", &first).await;
    asker.until("SESSION", &["replaced by a later one"], ask).await;

    let dropped = loop {
        let (reply, id) = asker.push("user/slow", &large, json!({})).await;
        if reply["receipt"]["outcomes"]["DROPPED_SLOW"] == 1 {
            break id;
        }
    };
    let ask = async || asker.user("slow", &dropped).await;
    asker.until("SESSION", &["did not read fast enough", "4002 (too slow)"], ask).await;
    named(&asker.user("slow", "").await, "USER", &["slow has no session", "4002 (too slow)"]);
    drop(slow);

    let mut silent = Client::join(&ws, "silent", &["r"]).await;
    let (_, unacked) = asker.push("room/r", "confirm this", json!({"ack": true})).await;
    silent.push().await;
    named(&asker.user("silent", &unacked).await, "CLIENT", &["has not acknowledged it"]);
    silent.send(json!({"type": "ack", "message_ids": [unacked]})).await;
    let ask = async || asker.user("silent", &unacked).await;
    asker.until("NONE", &["acknowledged by 1 session"], ask).await;
    cluster.finish().await;
}

#[tokio::test]
async fn a_message_that_a_push_manager_does_not_know_is_told_by_whose_it_was() {
    let mut cluster = Cluster::builder().nodes(1).push_managers(2).start().await;
    let (asker, other) = (Asker::of(&cluster, 0), Asker::of(&cluster, 1));
    let mut ann = Client::join(&cluster.ws(0), "ann", &["r"]).await;
    let (_, theirs) = other.push("room/r", "by the other", json!({})).await;
    ann.push().await;
    let found = asker.user("ann", &theirs).await;
    named(&found, "NONE", &["arrived"]);
    assert_eq!(found.pushes[0].manager_id, "push-manager-2", "its receipt came from there");
    let traced = asker.pusher.trace_message(&theirs).await.unwrap();
    named(&traced, "NONE", &["arrived: 1 WRITTEN"]);

    let incarnation = cluster.push_manager(0).incarnation();
    let forgotten = MessageId::new(1, incarnation, 7).to_string();
    named(&asker.user("ann", &forgotten).await, "PUSH_MANAGER", &["receipt in push-manager-1", "forgotten"]);
    let refused = asker.pusher.trace_message(&forgotten).await.unwrap_err().to_string();
    assert!(refused.contains("NOT_FOUND") && refused.contains(&forgotten), "{refused}");

    let (_, unheard) = other.push("user/nobody", "found nobody", json!({})).await;
    cluster.stop_push_manager(1).await;
    let ask = async || asker.user("ann", &unheard).await;
    asker.until("PUSH_MANAGER", &["is gone, and its receipts with it"], ask).await;
    // What the nodes saw of it, they still tell.
    let found = asker.user("ann", &theirs).await;
    named(&found, "NONE", &["arrived"]);
    assert!(found.missing.iter().any(|missing| missing.part.starts_with("push-manager")), "{found:?}");
    cluster.finish().await;
}

#[tokio::test]
async fn a_controller_that_is_away_is_named_and_the_rest_is_right() {
    let mut cluster = Cluster::builder().nodes(1).start().await;
    let asker = Asker::of(&cluster, 0);
    let mut ann = Client::join(&cluster.ws(0), "ann", &["r"]).await;
    cluster.kill_controller(0);
    let (_, id) = asker.push("room/r", "still", json!({})).await;
    ann.push().await;
    let found = asker.user("ann", &id).await;
    named(&found, "NONE", &["arrived"]);
    let parts: Vec<_> = found.missing.iter().map(|missing| missing.part.as_str()).collect();
    assert_eq!((parts, found.user, found.room), (vec!["controller"], None, None));
    named(&asker.user("ann", "").await, "NONE", &["arrived", "no answer from controller"]);
    cluster.finish().await;
}

#[tokio::test]
async fn a_dead_node_is_told_from_a_frozen_one() {
    let mut cluster = Cluster::builder().nodes(3).start().await;
    let asker = Asker::of(&cluster, 0);
    let _fred = Client::join(&cluster.ws(1), "fred", &["r"]).await;
    let gina = Client::join(&cluster.ws(2), "gina", &["r"]).await;
    cluster.kill_node(1);
    let ask = async || asker.user("fred", "").await;
    asker.until("NODE", &["connect-node-2", "died"], ask).await;

    let frozen = cluster.freeze_node(2);
    let (_, id) = asker.push("user/gina", "x", json!({"wait": "ACCEPTED"})).await;
    let ask = async || asker.user("gina", &id).await;
    let found = asker.until("NODE", &[&id, "connect-node-3 is frozen or cut off"], ask).await;
    assert!(found.missing.iter().any(|missing| missing.part == "connect-node-3"), "{found:?}");
    drop(frozen);
    let ask = async || asker.user("gina", &id).await;
    asker.until("NONE", &["arrived"], ask).await;
    drop(gina);
    cluster.finish().await;
}

#[tokio::test]
async fn what_a_lane_gave_up_says_why() {
    let builder = Cluster::builder().nodes(1).set("push_manager.lane_queue_messages=1");
    let cluster = builder.set("push_manager.lane_deadline=1500ms").start().await;
    let asker = Asker::of(&cluster, 0);
    let _ann = Client::join(&cluster.ws(0), "ann", &["r"]).await;
    let frozen = cluster.freeze_node(0);
    let (_, given_up) = asker.push("user/ann", "1", json!({"wait": "ACCEPTED"})).await;
    let (_, refused) = asker.push("user/ann", "2", json!({"wait": "ACCEPTED"})).await;
    named(&asker.user("ann", &refused).await, "LANE", &["the queue of the lane to connect-node-1 was full"]);
    let ask = async || asker.user("ann", &given_up).await;
    asker.until("LANE", &["given up on the lane", "connect-node-1"], ask).await;
    drop(frozen);
    cluster.finish().await;
}

#[tokio::test]
async fn a_lane_that_broke_is_told_from_one_that_is_not_trusted() {
    let (inside, outside) = (IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)));
    let keys = ["connect_node.grpc_port", "push_manager.port", "server.port"];
    let mut builder = Cluster::builder().nodes(1).set(&format!("network.advertise_host={outside}"));
    let mut proxies = Vec::new();
    for key in keys {
        let port = free_port();
        builder = builder.set(&format!("{key}={port}"));
        proxies.push(Proxy::start((outside, port).into(), (inside, port).into()).await);
    }
    let cluster = builder.start().await;
    let asker = Asker::of(&cluster, 0);
    let mut ann = Client::join(&cluster.ws(0), "ann", &["r"]).await;

    proxies[0].hold_old();
    let ask = async || asker.user("ann", "").await;
    asker.until("ROUTE", &["connect-node-1 are not trusted", "blind"], ask).await;
    proxies[0].mend();
    let ask = async || asker.user("ann", "").await;
    asker.until("NONE", &["ann has 1 session"], ask).await;

    proxies[0].cut();
    let ask = async || asker.user("ann", "").await;
    asker.until("LANE", &["the lane to connect-node-1 is broken"], ask).await;
    let (_, id) = asker.push("room/r", "late, not lost", json!({"wait": "ACCEPTED"})).await;
    let ask = async || asker.user("ann", &id).await;
    asker.until("LANE", &[&id, "the lane to connect-node-1 is broken"], ask).await;
    proxies[0].mend();
    while !matches!(ann.next().await, Incoming::Frame(frame) if frame["message_id"] == id) {}
    let ask = async || asker.user("ann", &id).await;
    asker.until("NONE", &["arrived"], ask).await;
    cluster.finish().await;
}
