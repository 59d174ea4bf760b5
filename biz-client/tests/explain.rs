//! `explain` and `trace` as people use them: the built program against a running cluster.

use std::process::Output;

use roomcast_testkit::{Client, Cluster};
use serde_json::{Value, json};

async fn biz_client(push_manager: &str, arguments: &[&str]) -> (i32, String, String) {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_biz-client"));
    command.args(["--push-manager", push_manager]).args(arguments);
    let ran = tokio::task::spawn_blocking(move || command.output().expect("it was built with this test"));
    let Output { status, stdout, stderr } = ran.await.expect("the program ran");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (status.code().unwrap_or(-1), text(stdout), text(stderr))
}

fn last_line(text: &str) -> &str {
    text.trim_end().lines().next_back().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_explanation_has_its_sections_and_ends_with_the_sentence() {
    let cluster = Cluster::builder().nodes(2).start().await;
    let push_manager = cluster.push_manager(0).grpc_address().to_string();
    let mut ann = Client::join(&cluster.ws(0), "ann", &["room-001"]).await;
    let reply = cluster.api(0).push_room("room-001", "a secret").await;
    let id = reply["message_id"].as_str().expect("an id").to_owned();
    ann.push().await;

    let (code, out, _) = biz_client(&push_manager, &["explain", "--user", "ann"]).await;
    assert_eq!(code, 0, "{out}");
    for part in ["connect-node-1", "connect-node-2", "in_sync", "round trip", "room-001", &id, "WRITTEN"] {
        assert!(out.contains(part), "{part} is missing:\n{out}");
    }
    assert_eq!(
        last_line(&out),
        "user ann has 1 session on connect-node-1, and the last message arrived",
        "{out}"
    );
    assert!(!out.contains("a secret"), "payloads are nobody's business");

    let (_, out, _) = biz_client(&push_manager, &["explain", "--user", "zed", "--message", &id]).await;
    assert_eq!(last_line(&out), "user zed has no session, and no node remembers one");
    let (_, out, _) = biz_client(&push_manager, &["explain", "--room", "nowhere"]).await;
    assert!(last_line(&out).starts_with("room nowhere does not exist"), "{out}");
    let (_, out, _) = biz_client(&push_manager, &["--output", "json", "explain", "--room", "room-001"]).await;
    let found: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((&found["hop"], &found["room"]["standing"]), (&json!("NONE"), &json!("ACTIVE")), "{out}");
    assert_eq!(found["nodes"][0]["said"]["messages"][0]["outcomes"]["WRITTEN"], 1, "{out}");

    let (code, out, _) = biz_client(&push_manager, &["trace", &id]).await;
    assert_eq!(code, 0, "{out}");
    for part in ["push-manager-1", "room room-001", "sent", "waited", "walked", "heard", "WRITTEN 1"] {
        assert!(out.contains(part), "{part} is missing:\n{out}");
    }
    assert_eq!(last_line(&out), format!("message {id} arrived: 1 WRITTEN"));
    let forgotten = format!("0{}", &id[1..]).replacen(&id[..8], "00000001", 1);
    let (code, _, err) = biz_client(&push_manager, &["trace", &forgotten]).await;
    assert!(code == 1 && err.contains("NOT_FOUND"), "{code}: {err}");

    for (arguments, words) in [
        (vec!["explain"], "--user"),
        (vec!["explain", "--user", "ann", "--last", "101"], "101"),
        (vec!["explain", "--user", "ann", "--message", "x"], "message_id"),
        (vec!["trace", "x"], "message_id"),
    ] {
        let (code, _, err) = biz_client(&push_manager, &arguments).await;
        assert!(code > 0 && err.contains(words), "{arguments:?}: {code}: {err}");
    }
    cluster.finish().await;
}
