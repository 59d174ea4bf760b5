//! Redis loses everything, or is away, while people join and pushes go on.

use roomcast_proto::pubsub::{GetRoomInfoRequest, GetUserNodeRequest};
use roomcast_testkit::{Client, Cluster, Servers, eventually, outcome};

use crate::traffic::{Traffic, listener};

#[tokio::test]
async fn what_redis_lost_is_there_again_and_no_push_with_it() {
    let cluster = Cluster::builder().nodes(2).controllers(2).on(Servers::start().await).start().await;
    let traffic = Traffic::start(&cluster, &[0, 1], 40).await;
    cluster.servers().redis.run(&["FLUSHALL"]);
    everybody_is_found(&cluster, 40).await;
    traffic.finish().await;
    cluster.finish().await;
}

#[tokio::test]
async fn without_redis_pushes_and_joins_go_on_and_answers_say_so() {
    let cluster = Cluster::builder().nodes(2).on(Servers::start().await).start().await;
    let traffic = Traffic::start(&cluster, &[0, 1], 10).await;
    let alice = Client::join(&cluster.ws(0), "alice", &["room"]).await;
    cluster.servers().redis.kill();
    let controller = cluster.controller_client(0);
    eventually("the room is answered for by the record alone", async || {
        let info = controller.get_room_info(info("room")).await.ok()?;
        (info.degraded == ["PRESENCE_UNAVAILABLE"] && info.member_count == 1).then_some(())
    })
    .await;
    alice.close().await;
    let mut alice = Client::join(&cluster.ws(1), "alice", &["room"]).await;
    let mut bob = Client::join(&cluster.ws(0), "bob", &["room"]).await;
    let reply = cluster.api(0).push_room("room", "without Redis").await;
    assert_eq!(outcome(&reply, "WRITTEN"), 2, "{reply}");
    assert_eq!(alice.push().await, "without Redis");
    assert_eq!(bob.push().await, "without Redis");

    cluster.servers().redis.start_again();
    everybody_is_found(&cluster, 10).await;
    eventually("the room is as it was", async || {
        let info = controller.get_room_info(info("room")).await.ok()?;
        (info.degraded.is_empty() && info.member_count == 2 && info.online_count == 2).then_some(())
    })
    .await;
    traffic.finish().await;
    cluster.finish().await;
}

fn info(room: &str) -> GetRoomInfoRequest {
    GetRoomInfoRequest { room_id: room.to_owned(), ..Default::default() }
}

async fn everybody_is_found(cluster: &Cluster, listeners: usize) {
    let controller = cluster.controller_client(0);
    for number in 0..listeners {
        let home = format!("connect-node-{}", number % 2 + 1);
        eventually("the user is found where it is", async || {
            let request = GetUserNodeRequest { user_id: listener(number) };
            let found = controller.get_user_node(request).await.ok()?;
            (found.online && found.node_id == home).then_some(())
        })
        .await;
    }
    eventually("the room has all its members", async || {
        let found = controller.get_room_info(info("traffic")).await.ok()?;
        let listeners = listeners as u64;
        (found.member_count == listeners && found.online_count == listeners).then_some(())
    })
    .await;
}
