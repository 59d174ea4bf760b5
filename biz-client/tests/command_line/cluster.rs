//! The built program against a whole platform.

use roomcast_testkit::{Cluster, eventually};
use serde_json::{Value, json};

use crate::run;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn listening_prints_the_same_in_either_protocol() {
    let cluster = Cluster::builder().nodes(1).start().await;
    let (api, url) = (cluster.api(0), cluster.ws(0));
    for protocol in ["json", "proto"] {
        let to = ["listen", "room", "room", "--user", protocol, "--url", &url, "--count", "1"];
        let arguments = [&["--output", "json"], &to[..], &["--protocol", protocol]].concat();
        let push = eventually("the listener gets a push", async || {
            // Until the first listener comes there is no such room.
            let body = json!({"content": {"type": "TEXT", "data": "Hello"}});
            let (_, reply) = api.post("/v1/push/room/room", body).await;
            (reply["receipt"]["targets"] == 1).then_some(reply)
        });
        let (ran, pushed) = tokio::join!(run(&arguments), push);
        assert_eq!(ran.code, 0, "{ran:?}");
        let line: Value = serde_json::from_str(&ran.out).unwrap();
        assert_eq!((&line["data"], &line["type"]), (&json!("Hello"), &json!("TEXT")));
        assert_eq!((&line["message_id"], &line["room_id"]), (&pushed["message_id"], &json!("room")));
        let position = json!({"epoch": pushed["epoch"], "offset": pushed["offset"]});
        assert_eq!(line["position"], position);
    }
    cluster.finish().await;
}
