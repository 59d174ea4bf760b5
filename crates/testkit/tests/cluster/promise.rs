//! A push accepted after a client saw `joined` or `welcome` reaches it.

use roomcast_testkit::{Api, Client, Cluster};

/// One session joins a fresh room and is pushed to at once, in the room and as a user.
async fn joined_then_pushed(cluster: &Cluster, round: usize, node: usize, api: &Api) {
    let (room, user) = (format!("room-{round}"), format!("user-{round}"));
    let mut client = Client::connect(&cluster.ws(node), &user, &[]).await;
    client.frame("welcome").await;
    let text = format!("to the user, {round}");
    let reply = api.push_user(&user, &text).await;
    assert_eq!(client.push().await, text, "{reply}");
    client.join_room(&room).await;
    let text = format!("to the room, {round}");
    let reply = api.push_room(&room, &text).await;
    assert_eq!(client.push().await, text, "{reply}");
    client.close().await;
}

#[tokio::test]
async fn a_thousand_pushes_right_after_joined_arrive() {
    let cluster = Cluster::builder().nodes(3).push_managers(2).start().await;
    let apis = [cluster.api(0), cluster.api(1)];
    for round in 0..1000 {
        joined_then_pushed(&cluster, round, round % 3, &apis[round % 2]).await;
    }
    cluster.finish().await;
}

#[tokio::test]
async fn a_frozen_push_manager_breaks_no_promise() {
    let cluster = Cluster::builder().nodes(3).push_managers(2).start().await;
    let (frozen_api, api) = (cluster.api(0), cluster.api(1));
    for round in 0..3 {
        let frozen = cluster.freeze_push_manager(0);
        joined_then_pushed(&cluster, round * 2, round, &api).await;
        // Joined while its push-manager stood still, pushed to by that one as soon as it goes on.
        let room = format!("thaw-{round}");
        let mut client = Client::join(&cluster.ws(round), "thawed", &[&room]).await;
        let pushing = {
            let (api, room) = (frozen_api.clone(), room.clone());
            tokio::spawn(async move { api.push_room(&room, "after the thaw").await })
        };
        drop(frozen);
        assert_eq!(client.push().await, "after the thaw");
        pushing.await.expect("accepted");
        joined_then_pushed(&cluster, round * 2 + 1, round, &frozen_api).await;
        client.close().await;
    }
    cluster.finish().await;
}

#[tokio::test]
async fn a_push_manager_that_just_started_knows_who_is_there() {
    let mut cluster = Cluster::builder().nodes(3).push_managers(1).start().await;
    for round in 0..5 {
        let room = format!("room-{round}");
        let mut before = Client::join(&cluster.ws(round % 3), &format!("before-{round}"), &[&room]).await;
        let index = cluster.start_push_manager().await;
        let newest = cluster.api(index);
        newest.push_room(&room, "first").await;
        assert_eq!(before.push().await, "first");
        joined_then_pushed(&cluster, 100 + round, (round + 1) % 3, &newest).await;
        before.close().await;
    }
    cluster.finish().await;
}
