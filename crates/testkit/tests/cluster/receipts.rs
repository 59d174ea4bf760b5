//! What becomes of a push after its answer, on a whole cluster.

use std::time::Duration;

use roomcast_client::{Error, Wait};
use roomcast_proto::pubsub::{CreateRoomRequest, room_card::Membership};
use roomcast_testkit::{Api, Client, Cluster, outcome};
use roomcast_types::Code;
use serde_json::json;
use tokio::time::timeout;

/// Everything comes within this, or the test fails.
const DEADLINE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_push_is_followed_through_another_push_manager_until_its_clients_acknowledged() {
    let cluster = Cluster::builder().nodes(2).push_managers(2).start().await;
    let mut ann = Client::join(&cluster.ws(0), "ann", &["room"]).await;
    let mut bob = Client::join(&cluster.ws(1), "bob", &["room"]).await;
    let body = json!({"content": {"data": "Hello"}, "options": {"ack": true}});
    let (status, reply) = cluster.api(0).post("/v1/push/room/room", body).await;
    assert_eq!((status, outcome(&reply, "WRITTEN")), (200, 2), "{reply}");
    let message_id = reply["message_id"].as_str().unwrap();

    let mut watch = cluster.pusher(1).watch(message_id, Some(Wait::Acked)).await.unwrap();
    let first = watch.next().await.unwrap().unwrap().receipt.unwrap();
    assert_eq!((first.targets, first.complete), (2, false), "{first:?}");
    for client in [&mut ann, &mut bob] {
        let push = client.frame("push").await;
        assert_eq!(push["ack"], true);
        client.send(json!({"type": "ack", "message_ids": [push["message_id"]]})).await;
    }
    let last = timeout(DEADLINE, async {
        let mut last = first;
        while let Some(reply) = watch.next().await.unwrap() {
            last = reply.receipt.unwrap();
            assert_eq!(last.targets, last.pending + last.outcomes.values().sum::<u64>());
        }
        last
    });
    let last = last.await.unwrap();
    assert!(last.complete && last.outcomes.get("ACKED") == Some(&2), "{last:?}");

    let (status, now) = cluster.api(1).get(&format!("/v1/push/{message_id}")).await;
    assert_eq!((status, outcome(&now, "ACKED")), (200, 2), "{now}");
    {
        let _frozen = cluster.freeze_push_manager(0);
        let watch = timeout(DEADLINE, cluster.pusher(1).watch(message_id, None)).await.unwrap();
        let Err(Error::Rejected(fault)) = watch else { panic!("{watch:?}") };
        assert_eq!(fault.code, Code::Unavailable, "{fault}");
    }
    cluster.finish().await;
}

#[tokio::test]
async fn members_of_a_durable_room_who_are_away_are_offline_targets() {
    let cluster = Cluster::builder().nodes(2).start().await;
    let membership = Membership::Durable.into();
    let request = CreateRoomRequest { room_id: "class".into(), membership, ..Default::default() };
    cluster.controller_client(0).create_room(request).await.unwrap();
    let _ann = Client::join(&cluster.ws(0), "ann", &["class"]).await;
    let bob = Client::join(&cluster.ws(1), "bob", &["class"]).await;
    let eve = Client::join(&cluster.ws(1), "eve", &["class"]).await;
    let api = cluster.api(0);
    let reply = api.push_room("class", "all are here").await;
    assert_eq!((outcome(&reply, "WRITTEN"), outcome(&reply, "OFFLINE")), (3, 0), "{reply}");
    assert_eq!(reply["degraded"], json!([]));

    for client in [bob, eve] {
        client.close().await;
    }
    until_counted(&api, (1, 2)).await;
    // One comes back: it is counted as the session it has.
    let _bob = Client::join(&cluster.ws(0), "bob", &["class"]).await;
    until_counted(&api, (2, 1)).await;
    cluster.finish().await;
}

/// Pushes until so many are WRITTEN and OFFLINE: who is away is known a moment later.
async fn until_counted(api: &Api, expected: (u64, u64)) {
    let counted = async {
        loop {
            let reply = api.push_room("class", "who is here?").await;
            assert_eq!(reply["receipt"]["complete"], true, "{reply}");
            if (outcome(&reply, "WRITTEN"), outcome(&reply, "OFFLINE")) == expected {
                assert_eq!(reply["receipt"]["targets"], expected.0 + expected.1, "{reply}");
                return;
            }
        }
    };
    timeout(DEADLINE, counted).await.unwrap();
}
