//! Logs: what a push asks of them and is told, what they keep, and what a listener is told of holes.

use roomcast_proto::pubsub::push_options::Offline;
use serde_json::{Value, json};

use super::{
    run,
    servers::{Controllers, PushManagers, node_that_says},
    table, written,
};

#[tokio::test]
async fn a_push_says_where_it_stands_and_whether_it_was_there_before() {
    let mut reply = written();
    (reply.logged, reply.duplicate, reply.epoch, reply.offset) = (true, true, "00e".into(), 42);
    let servers = PushManagers::start(Ok(reply)).await;
    let address = ["--push-manager", &servers.address];
    let push = ["push", "user", "u", "m", "--idempotency-key", "k", "--no-log", "--offline", "store"];
    let ran = run(&[&address[..], &push].concat()).await;
    assert!(ran.out.contains("logged     yes, at #42 of epoch 00e\n"), "{}", ran.out);
    assert!(ran.out.contains("duplicate  yes, the key was used before"), "{}", ran.out);
    let options = servers.only_push().options;
    assert_eq!((options.idempotency_key.as_str(), options.log), ("k", Some(false)));
    assert_eq!(options.offline(), Offline::Store);
    run(&[&address[..], &["push", "room", "r", "m", "--log"]].concat()).await;
    assert_eq!(servers.only_push().options.log, Some(true));
    run(&[&address[..], &["push", "room", "r", "m"]].concat()).await;
    assert_eq!(servers.only_push().options.log, None);

    let servers = PushManagers::start(Ok(written())).await;
    let ran = run(&["--push-manager", &servers.address, "push", "broadcast", "m"]).await;
    assert!(ran.out.contains("logged    no\n") && !ran.out.contains("duplicate"), "{}", ran.out);
}

#[tokio::test]
async fn history_is_a_table_that_says_how_to_go_on() {
    let servers = PushManagers::start(Ok(written())).await;
    let ask = async |args: &[&str]| {
        run(&[&["--push-manager", servers.address.as_str(), "history"], args].concat()).await
    };
    let ran = ask(&["room-001", "--limit", "2"]).await;
    assert!(ran.out.contains("epoch  00e\nkept   #3 to #42\n"), "{}", ran.out);
    let rows = table(&ran.out);
    assert!(rows[1].starts_with("#41 1970-01-01 00:00:00 UTC TEXT first"), "{rows:?}");
    assert!(rows[2].contains("(2 bytes)") && rows[2].contains("room-001"), "{rows:?}");
    assert!(ran.out.ends_with("there are more: --before 41\n"), "{}", ran.out);
    let ran = ask(&["--user", "u", "--after", "40"]).await;
    assert!(ran.out.contains("UserId") && ran.out.ends_with("there are more: --after 42\n"), "{}", ran.out);
    let reply: Value = serde_json::from_str(&ask(&["r", "--output", "json"]).await.out).unwrap();
    assert_eq!((&reply["first"], &reply["messages"][0]["content"]["data"]), (&json!(3), &json!("first")));
    assert_eq!(reply["messages"][1]["content"]["data_base64"], "//8=");
    for wrong in
        [&[][..], &["r", "--user", "u"], &["r", "--after", "1", "--before", "2"], &["r", "--limit", "0"]]
    {
        assert_eq!(ask(wrong).await.code, 2, "{wrong:?}");
    }
}

#[tokio::test]
async fn a_room_takes_a_log_policy_and_shows_it() {
    let servers = Controllers::start(|_| panic!("nothing is asked")).await;
    let update = async |args: &[&str]| {
        run(&[&["--controller", servers.address.as_str(), "room", "update", "r"], args].concat()).await.out
    };
    let shown = update(&["--log", "recent", "--on-log-failure", "refuse"]).await;
    assert!(shown.contains("log             RECENT\non log failure  REFUSE\n"), "{shown}");
    let shown = update(&["--log", "durable"]).await;
    assert!(shown.contains("log             DURABLE\non log failure  REFUSE\n"), "{shown}");
    let shown = update(&["--log", "none"]).await;
    assert!(shown.contains("NONE") && !shown.contains("on log failure"), "{shown}");
}

#[tokio::test]
async fn a_listener_is_told_of_holes_between_the_messages() {
    let frames = || {
        let push = |id: &str, offset: u64| {
            json!({"type": "push", "target": "user", "message_id": id, "epoch": "e", "offset": offset,
                "content": {"type": "TEXT", "data": id}})
        };
        let gap = json!({"type": "gap", "epoch": "e", "offset": 7});
        vec![push("m1", 1), gap, push("m8", 8)]
    };
    let listen = ["listen", "user", "user-001", "--count", "2", "--url"];
    let ran = run(&[&listen[..], &[&node_that_says(frames()).await]].concat()).await;
    assert!(ran.out.contains("m8  user  #8  TEXT  m8"), "{}", ran.out);
    assert!(ran.err.contains("GAP: messages to this user may be missing up to offset 7"), "{}", ran.err);
    let ran = run(&[&["--output", "json"], &listen[..], &[&node_that_says(frames()).await]].concat()).await;
    let lines: Vec<Value> = ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["position"], json!({"epoch": "e", "offset": 1}));
    let to = json!({"epoch": "e", "offset": 7});
    assert_eq!(lines[1], json!({"gap": {"room_id": null, "cause": "GAP", "from": null, "to": to}}));
    assert_eq!(lines[2]["message_id"], "m8");
}
