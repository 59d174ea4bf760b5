//! The built program against servers that answer as told: exit codes, what it prints, what it sends.

#![allow(clippy::unwrap_used, clippy::result_large_err)]

mod audits;
mod cluster;
mod logs;
mod servers;

use std::{io::Write, process::Stdio, time::Duration};

use roomcast_proto::pubsub::{
    GetRoomInfoRequest, NodeCounts, PushOptions, PushReply, Receipt, RoomCard, RoomInfo, RoomMember,
    SessionReceipt, UserReceipt, content, push_options::Wait,
};
use roomcast_types::{Code, Fault};
use serde_json::{Value, json};

use self::servers::{Controllers, PushManagers, node_that_listens, node_that_says};

/// What the program left behind.
#[derive(Debug)]
struct Ran {
    code: i32,
    out: String,
    err: String,
}

/// Runs the program with these arguments, and `input` on its standard input.
async fn run_with(args: &[&str], input: &[u8]) -> Ran {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_biz-client"));
    command.args(args).env_remove("PUSH_MANAGER").env_remove("CONTROLLER_ADDRESS");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let input = input.to_vec();
    let run = tokio::task::spawn_blocking(move || {
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // A program that never reads its input may be gone before all of it is written.
        let _ = stdin.write_all(&input);
        drop(stdin);
        child.wait_with_output().unwrap()
    });
    let output = tokio::time::timeout(Duration::from_secs(30), run).await.unwrap().unwrap();
    Ran {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

async fn run(args: &[&str]) -> Ran {
    run_with(args, b"").await
}

fn written() -> PushReply {
    PushReply {
        message_id: "01J0000000000000000000000A".into(),
        receipt: Some(Receipt {
            level: "WRITTEN".into(),
            complete: true,
            targets: 3,
            outcomes: [("WRITTEN".to_owned(), 2), ("FILTERED".to_owned(), 1)].into(),
            nodes: Some(NodeCounts { addressed: 2, unreachable: 0, blind: 0 }),
            ..Receipt::default()
        }),
        ..PushReply::default()
    }
}

/// The rows of the tables in an output, cells apart by a space.
fn table(out: &str) -> Vec<String> {
    let rows = out.lines().filter(|line| line.starts_with('│'));
    let cells = |row: &str| {
        row.split(['│', '┆']).map(str::trim).filter(|cell| !cell.is_empty()).collect::<Vec<_>>().join(" ")
    };
    rows.map(cells).collect()
}

/// The rows below `outcome count`.
fn counts(out: &str) -> String {
    let rows = table(out).into_iter().skip_while(|row| row != "outcome count").skip(1);
    rows.take_while(|row| !row.starts_with("user ")).collect::<Vec<_>>().join(", ")
}

#[tokio::test]
async fn flags_alone_push_to_a_room() {
    let servers = PushManagers::start(Ok(written())).await;
    let ran = run(&[
        "--push-manager",
        &servers.address,
        "--action",
        "push-to-room",
        "--room",
        "room-001",
        "--message",
        "Hello",
        "--type",
        "TEXT",
        "--exclude",
        "me",
        "--exclude",
        "you",
    ])
    .await;
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(
        ran.out.contains("01J0000000000000000000000A")
            && counts(&ran.out) == "FILTERED 1, WRITTEN 2, pending 0, targets 3",
        "{ran:?}"
    );
    assert!(ran.out.contains("2 addressed, 0 unreachable, 0 blind") && ran.err.is_empty(), "{ran:?}");
    let push = servers.only_push();
    assert_eq!((push.target.as_str(), &push.content.data[..]), ("room room-001", &b"Hello"[..]));
    assert_eq!((push.content.r#type, push.content.binary), (0, false));
    assert!(push.content.timestamp > 0);
    assert_eq!(push.exclude, ["me", "you"]);
}

#[tokio::test]
async fn every_kind_of_push_has_a_flag_and_a_command() {
    let lines: [(&[&str], &str); 6] = [
        (&["--action", "push-to-user", "--user", "u", "--message", "m"], "user u"),
        (&["--action", "broadcast", "--message", "m"], "all"),
        (&["push", "room", "r", "m"], "room r"),
        (&["push", "user", "u", "m"], "user u"),
        (&["push", "users", "u1,u2", "m"], "users u1 u2"),
        (&["push", "broadcast", "m", "--type", "state"], "all"),
    ];
    for (line, target) in lines {
        let servers = PushManagers::start(Ok(written())).await;
        let ran = run(&[&["--push-manager", &servers.address], line].concat()).await;
        assert_eq!(ran.code, 0, "{line:?}: {ran:?}");
        assert_eq!(servers.only_push().target, target);
    }
}

#[tokio::test]
async fn how_a_push_is_made_can_be_said_in_both_forms() {
    let how =
        ["--wait", "settled", "--wait-ms", "2500", "--ack", "--class", "LATEST", "--key", "k", "--ttl", "2s"];
    let forms: [&[&str]; 2] =
        [&["push", "user", "u", "m"], &["--action", "push-to-user", "--user", "u", "--message", "m"]];
    for form in forms {
        let servers = PushManagers::start(Ok(written())).await;
        let ran = run(&[&["--push-manager", &servers.address], form, &how].concat()).await;
        assert_eq!(ran.code, 0, "{ran:?}");
        let options = servers.only_push().options;
        let expected = PushOptions {
            wait: Wait::Settled.into(),
            wait_ms: Some(2_500),
            ack: true,
            class: content::Class::Latest.into(),
            key: "k".into(),
            ttl_ms: Some(2_000),
            ..PushOptions::default()
        };
        assert_eq!(options, expected);
    }
}

#[tokio::test]
async fn a_level_that_is_not_reached_in_time_is_told_by_the_exit_code() {
    let mut reply = written();
    reply.receipt.as_mut().unwrap().complete = false;
    let servers = PushManagers::start(Ok(reply)).await;
    let ran = run(&["--push-manager", &servers.address, "push", "room", "r", "m", "--wait", "acked"]).await;
    assert_eq!((ran.code, ran.err.as_str()), (3, ""), "{ran:?}");
    assert!(ran.out.contains("complete  no"), "{ran:?}");
    let ran =
        run(&["--push-manager", &servers.address, "watch", "01J0000000000000000000000A", "--until", "acked"])
            .await;
    assert_eq!(ran.code, 3, "{ran:?}");
}

#[tokio::test]
async fn a_message_is_watched_until_nothing_changes_any_more() {
    let servers = PushManagers::start(Ok(written())).await;
    let watch =
        ["--push-manager", &servers.address, "watch", "01J0000000000000000000000A", "--until", "settled"];
    let ran = run(&watch).await;
    let lines =
        "7 ms  targets 3  pending 3\n90 ms  targets 3  pending 0  FILTERED 1  WRITTEN 2  SETTLED reached\n";
    assert_eq!((ran.code, ran.out.as_str()), (0, lines), "{ran:?}");

    let ran = run(&[&["--output", "json"], &watch[..]].concat()).await;
    let replies: Vec<Value> = ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((replies.len(), &replies[0]["receipt"]["pending"]), (2, &json!(3)));
    assert_eq!((&replies[1]["age_ms"], &replies[1]["receipt"]["complete"]), (&json!(90), &json!(true)));

    let servers = PushManagers::start(Err(Fault::new(Code::NotFound, "it is forgotten"))).await;
    let ran = run(&["--push-manager", &servers.address, "watch", "01J0000000000000000000000A"]).await;
    assert_one_line(&ran, 1, &["NOT_FOUND: it is forgotten"]);
}

#[tokio::test]
async fn json_is_the_reply_with_its_defaults() {
    let servers = PushManagers::start(Ok(written())).await;
    let ran = run(&["--push-manager", &servers.address, "--output", "json", "push", "broadcast", "m"]).await;
    let reply: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(
        reply,
        json!({"message_id": "01J0000000000000000000000A", "epoch": "", "offset": 0, "logged": false,
            "duplicate": false, "degraded": [], "receipt": {
            "level": "WRITTEN", "complete": true, "targets": 3, "pending": 0,
            "outcomes": {"WRITTEN": 2, "FILTERED": 1},
            "nodes": {"addressed": 2, "unreachable": 0, "blind": 0}, "users": []}})
    );
}

#[tokio::test]
async fn what_was_only_partly_reached_is_told_and_still_accepted() {
    let mut reply = written();
    reply.degraded = vec!["REGISTRY_STALE".into()];
    let receipt = reply.receipt.as_mut().unwrap();
    (receipt.complete, receipt.pending) = (false, 7);
    let session =
        SessionReceipt { session_id: "s".into(), node_id: "node-1".into(), outcome: "PENDING".into() };
    receipt.users =
        vec![UserReceipt { user_id: "u".into(), outcome: "PENDING".into(), sessions: vec![session] }];
    let servers = PushManagers::start(Ok(reply)).await;
    let ran = run(&["--push-manager", &servers.address, "push", "user", "u", "m"]).await;
    assert_eq!(ran.code, 0);
    for part in ["complete  no, WRITTEN is not reached", "REGISTRY_STALE"] {
        assert!(ran.out.contains(part), "{part} in {}", ran.out);
    }
    assert!(counts(&ran.out).contains("pending 7"), "{ran:?}");
    let rows = table(&ran.out);
    assert_eq!(rows[rows.len() - 2..], ["u PENDING", "PENDING s node-1"]);
}

#[tokio::test]
async fn a_message_comes_from_a_file_or_standard_input_and_may_be_binary() {
    let path = std::env::temp_dir().join(format!("biz-client-{}-message", std::process::id()));
    std::fs::write(&path, b"\xff\x00").unwrap();
    let file = format!("@{}", path.display());
    let sent: [(&str, &[u8], &[u8], bool); 4] = [
        (&file, b"", b"\xff\x00", true),
        ("-", "Grüße".as_bytes(), "Grüße".as_bytes(), false),
        ("@@here", b"", b"@here", false),
        ("-5 degrees", b"", b"-5 degrees", false),
    ];
    for (message, input, data, is_binary) in sent {
        let servers = PushManagers::start(Ok(written())).await;
        let ran = run_with(&["--push-manager", &servers.address, "push", "room", "r", message], input).await;
        assert_eq!(ran.code, 0, "{ran:?}");
        let content = servers.only_push().content;
        assert_eq!((&content.data[..], content.binary), (data, is_binary));
    }
    std::fs::remove_file(path).unwrap();
}

/// One line on standard error that has all these parts, nothing on standard output.
fn assert_one_line(ran: &Ran, code: i32, parts: &[&str]) {
    assert_eq!((ran.code, ran.out.as_str(), ran.err.lines().count()), (code, "", 1), "{ran:?}");
    assert!(ran.err.starts_with("biz-client: "), "{ran:?}");
    for part in parts {
        assert!(ran.err.contains(part), "{part:?} in {:?}", ran.err);
    }
}

#[tokio::test]
async fn a_refused_push_fails_with_the_reason() {
    let fault = Fault::new(Code::NotFound, "room nowhere does not exist");
    let servers = PushManagers::start(Err(fault)).await;
    let ran = run(&["--push-manager", &servers.address, "push", "room", "nowhere", "m"]).await;
    assert_one_line(&ran, 1, &["NOT_FOUND: room nowhere does not exist"]);
}

#[tokio::test]
async fn servers_that_are_away_are_named() {
    let address = servers::refusing_address();
    let ran = run(&["--push-manager", &address, "push", "room", "r", "m"]).await;
    assert_one_line(
        &ran,
        1,
        &["push-manager at", &address, "connection refused", "is it running?", "--push-manager"],
    );
    let ran = run(&["--controller", &address, "room", "list"]).await;
    assert_one_line(&ran, 1, &["controller-manager at", &address, "connection refused", "--controller"]);
}

#[tokio::test]
async fn a_server_that_hangs_ends_in_the_timeout() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let ran = run(&["--push-manager", &address, "--timeout", "300ms", "push", "room", "r", "m"]).await;
    assert_one_line(&ran, 1, &["no answer within 300ms", "--timeout"]);
}

#[tokio::test]
async fn wrong_usage_is_one_clear_line() {
    let wrong: [(&[&str], &[&str]); 15] = [
        (&["push", "room", "r", "m", "--wait", "soon"], &["soon", "accepted, written, settled, acked"]),
        (&["push", "room", "r", "m", "--wait-ms", "30001"], &["30001", "1..=30000"]),
        (&["--ttl", "2s", "room", "list"], &["not both"]),
        (&["--action", "shout"], &["shout", "push-to-room", "broadcast"]),
        (
            &["push", "room", "r", "m", "--type", "VIDEO"],
            &["VIDEO", "TEXT, AUDIO, TRANSLATION, SYSTEM, STATE"],
        ),
        (&["push", "room", "", "m"], &["room_id is empty; it takes 1 to 128 bytes"]),
        (&["push", "user", "", "m"], &["user_id is empty"]),
        (&["push", "users", "a,,b", "m"], &["user_id is empty"]),
        (&["--action", "push-to-room", "--message", "m"], &["push-to-room needs --room"]),
        (&["--action", "push-to-user", "--message", "m"], &["push-to-user needs --user"]),
        (&["--action", "broadcast"], &["--message"]),
        (&[], &["nothing to do", "--help"]),
        (&["--room", "r", "room", "list"], &["not both"]),
        (&["--push-manager", "nowhere", "push", "broadcast", "m"], &["--push-manager", "host:port"]),
        (&["room", "update", "r"], &["--max-users"]),
    ];
    for (line, parts) in wrong {
        assert_one_line(&run(line).await, 2, parts);
    }
}

#[tokio::test]
async fn a_message_that_cannot_be_read_or_is_too_large_is_told() {
    let ran = run(&["push", "room", "r", "@/no/such/file"]).await;
    assert_one_line(&ran, 1, &["cannot read /no/such/file"]);
    let ran = run_with(&["push", "room", "r", "-"], &vec![b'x'; (1 << 20) + 1]).await;
    assert_one_line(&ran, 1, &["standard input has more than 1 MiB"]);
}

#[tokio::test]
async fn a_room_is_shown_over_all_its_pages() {
    let page = |request: &GetRoomInfoRequest| {
        let card = RoomCard { room_id: request.room_id.clone(), max_users: 50, ..RoomCard::default() };
        let (user_id, next) = match request.page_token.as_str() {
            "" => ("user-a", "more"),
            _ => ("user-b", ""),
        };
        let user_name = "\u{1b}[2Jname".to_owned();
        let member = RoomMember { user_id: user_id.into(), user_name, online: true, ..RoomMember::default() };
        let (card, members, next_page_token) = (Some(card), vec![member], next.to_owned());
        Ok(RoomInfo { card, member_count: 2, members, next_page_token, ..RoomInfo::default() })
    };
    let servers = Controllers::start(page).await;
    let ran = run(&["--controller", &servers.address, "room", "show", "room-001"]).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    for part in ["room-001", "FOLLOW", "user-a", "user-b"] {
        assert!(ran.out.contains(part), "{part} in {}", ran.out);
    }
    assert!(!ran.out.contains('\u{1b}'), "a name must not steer the terminal");
    let ran = run(&["--controller", &servers.address, "--output", "json", "room", "show", "room-001"]).await;
    let reply: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(
        (&reply["card"]["membership"], &reply["members"][1]["user_id"]),
        (&json!("FOLLOW"), &json!("user-b"))
    );
}

#[tokio::test]
async fn listening_prints_what_arrives_and_stops_after_count() {
    let push = json!({"type": "push", "target": "user", "message_id": "01", "timestamp_ms": 2,
        "content": {"type": "TEXT", "data": "Hello\u{7}", "timestamp": 1}});
    let url = node_that_says(vec![push]).await;
    let ran = run(&["listen", "user", "user-001", "--url", &url, "--count", "1"]).await;
    assert_eq!((ran.code, ran.out.as_str()), (0, "01  user  TEXT  Hello\u{fffd}\n"), "{ran:?}");
    assert!(ran.err.contains("connected to node-1"), "{ran:?}");
}

#[tokio::test]
async fn listening_acknowledges_what_wants_it_unless_told_not_to() {
    let push =
        json!({"type": "push", "target": "all", "message_id": "01", "content": {"data": "x"}, "ack": true});
    for (flags, expected) in
        [(&[][..], vec![json!({"type": "ack", "message_ids": ["01"]})]), (&["--no-ack"], vec![])]
    {
        let (url, heard) = node_that_listens(vec![push.clone()]).await;
        let ran =
            run(&[&["listen", "user", "user-001", "--url", &url, "--count", "1"], flags].concat()).await;
        assert_eq!(ran.code, 0, "{ran:?}");
        assert_eq!(heard.await.unwrap(), expected, "{flags:?}");
    }
}

#[tokio::test]
async fn help_and_version_are_answers() {
    for flag in ["--help", "--version"] {
        let ran = run(&[flag]).await;
        assert_eq!((ran.code, ran.err.as_str()), (0, ""));
        assert!(ran.out.contains("biz-client"));
    }
}
