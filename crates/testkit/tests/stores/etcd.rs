//! etcd is away while a node dies and another one is started.

use std::time::Duration;

use roomcast_proto::pubsub::ListNodesRequest;
use roomcast_testkit::{Client, Cluster, Servers, eventually, outcome};
use serde_json::json;

use crate::traffic::Traffic;

#[tokio::test]
async fn while_etcd_is_away_the_dead_are_noticed_and_newcomers_wait() {
    let servers = Servers::start().await;
    let builder = Cluster::builder().nodes(3).push_managers(2).set("etcd.lease_ttl=2s");
    let mut cluster = builder.on(servers).start().await;
    let traffic = Traffic::start(&cluster, &[0, 1], 10).await;
    let mut alice = Client::join(&cluster.ws(2), "alice", &["room"]).await;
    cluster.servers().etcd.kill();
    let reply = eventually("the list is known to be old", async || {
        let reply = cluster.api(0).push_room("room", "go on").await;
        (reply["degraded"] == json!(["REGISTRY_STALE"])).then_some(reply)
    })
    .await;
    assert_eq!(outcome(&reply, "WRITTEN"), 1, "{reply}");
    assert_eq!(alice.push().await, "go on");
    let _bob = Client::join(&cluster.ws(0), "bob", &["room"]).await;

    cluster.kill_node(2);
    eventually("the dead node's route is gone", async || {
        let reply = cluster.api(0).push_room("room", "go on").await;
        (reply["receipt"]["targets"] == 1 && outcome(&reply, "WRITTEN") == 1).then_some(())
    })
    .await;
    let newcomer = cluster.begin_node();
    let etcd_is_back = async {
        // Long enough for every lease to have run out.
        tokio::time::sleep(Duration::from_secs(3)).await;
        cluster.servers().etcd.start_again();
    };
    let (newcomer, ()) = tokio::join!(newcomer, etcd_is_back);
    let node = cluster.add_node(newcomer);
    let mut carol = Client::join(&cluster.ws(node), "carol", &["room"]).await;
    eventually("pushes reach the new node from every push-manager", async || {
        for manager in 0..2 {
            let reply = cluster.api(manager).push_user("carol", "welcome").await;
            if outcome(&reply, "WRITTEN") != 1 || reply["degraded"] != json!([]) {
                return None;
            }
        }
        Some(())
    })
    .await;
    assert_eq!(carol.push().await, "welcome");
    let controller = cluster.controller_client(0);
    eventually("the list has the living and nobody else", async || {
        let listed = controller.list_nodes(ListNodesRequest::default()).await.ok()?;
        let mut ids: Vec<_> = listed.nodes.into_iter().map(|node| node.node_id).collect();
        ids.sort();
        (ids == ["connect-node-1", "connect-node-2", "connect-node-4"]).then_some(())
    })
    .await;
    traffic.finish().await;
    cluster.finish().await;
}
