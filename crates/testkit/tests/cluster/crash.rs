//! A push-manager that dies between a log and its fan-out loses nothing: nodes compare their places with the log.

use roomcast_testkit::{Client, Cluster, eventually};

/// Text and offset of the next push.
async fn pushed(client: &mut Client) -> (String, u64) {
    let push = client.frame("push").await;
    (push["content"]["data"].as_str().unwrap().to_owned(), push["offset"].as_u64().unwrap_or(0))
}

#[tokio::test]
async fn a_push_that_was_logged_arrives_though_its_push_manager_died_before_it_went_out() {
    let mut cluster = Cluster::builder().nodes(2).push_managers(2).start().await;
    let mut ann = Client::join(&cluster.ws(0), "ann", &["room"]).await;
    let mut bob = Client::join(&cluster.ws(1), "bob", &["room"]).await;
    cluster.api(0).push_room("room", "first").await;
    for client in [&mut ann, &mut bob] {
        assert_eq!(pushed(client).await, ("first".into(), 1));
    }
    cluster.push_manager(0).failpoints().hang_when_kept(true);
    let api = cluster.api(0);
    let dying = tokio::spawn(async move { api.push_room("room", "logged").await });
    eventually("the push is logged and goes no further", async || {
        (cluster.push_manager(0).failpoints().hanging() == 1).then_some(())
    })
    .await;
    cluster.kill_push_manager(0);
    for client in [&mut ann, &mut bob] {
        assert_eq!(pushed(client).await, ("logged".into(), 2), "nobody else pushed");
    }
    dying.abort();
    cluster.api(1).push_room("room", "after").await;
    for client in [&mut ann, &mut bob] {
        assert_eq!(pushed(client).await, ("after".into(), 3));
    }
    cluster.finish().await;
}
