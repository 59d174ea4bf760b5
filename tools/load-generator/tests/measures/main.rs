//! The built program against a platform of a few lines, which can be told to lose or repeat messages.

#![allow(clippy::unwrap_used, clippy::result_large_err)]

mod platform;

use std::{collections::BTreeSet, time::Duration};

use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::platform::{Platform, Running, SOUND};

/// Exit code, report, standard error.
async fn measure(running: &Running, scenario: &[&str]) -> (i32, Value, String) {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_load-generator"));
    command.args(["--nodes", &format!("ws://{}/ws", running.node), "--output", "json", "--sessions", "4"]);
    let push_manager = if scenario.contains(&"--http") { running.json } else { running.grpc };
    command.args(["--push-manager", &push_manager.to_string(), "--controller", &running.grpc.to_string()]);
    command.args(["--source-addresses", "2", "--threads", "2", "--patience", "2"]).args(scenario);
    let run = tokio::task::spawn_blocking(move || command.output().unwrap());
    let output = tokio::time::timeout(Duration::from_secs(60), run).await.unwrap().unwrap();
    let report = serde_json::from_slice(&output.stdout).unwrap_or_default();
    (output.status.code().unwrap(), report, String::from_utf8(output.stderr).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_scenario_counts_what_arrives() {
    let running = SOUND.start().await;
    let load = ["--rate", "50", "--seconds", "1"];
    let scenarios: [(&[&str], u64); 12] = [
        (&[&["room"], &load[..]].concat(), 200),
        (&[&["room", "--rooms", "2"], &load[..]].concat(), 100),
        (&["join", "--rooms", "2"], 4),
        (&[&["user"], &load[..]].concat(), 50),
        (&[&["user", "--unary"], &load[..]].concat(), 50),
        (&[&["user", "--http", "--http-connections", "2"], &load[..]].concat(), 50),
        (&[&["room", "--http"], &load[..]].concat(), 200),
        (&[&["broadcast", "--http"], &load[..]].concat(), 200),
        (&[&["broadcast", "--bytes", "60000"], &load[..]].concat(), 200),
        (&["connect", "--hold", "0"], 4),
        (&["storm", "--hold", "0", "--rooms", "2"], 4),
        (&[&["slow", "--read-rate", "2000", "--share", "50"], &load[..]].concat(), 200),
    ];
    for (scenario, expected) in scenarios {
        let (code, report, err) = measure(&running, scenario).await;
        assert_eq!((code, err.as_str()), (0, ""), "{scenario:?}: {report}");
        let deliveries = &report["deliveries"];
        assert_eq!((&deliveries["expected"], &deliveries["received"]), (&json!(expected), &json!(expected)));
        let last = &report["latency_us"]["last"];
        assert!(last["max"].as_f64().unwrap() >= last["p50"].as_f64().unwrap());
        assert!(last["p50"].as_f64().unwrap() > 0.0, "{report}");
        assert!(report["processes"][0]["resident_bytes_after"].as_u64().unwrap() > 0);
        assert!(report["open_us"]["p50"].as_f64().unwrap() > 0.0, "{report}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_loop_goes_on_until_its_time_is_up() {
    let running = SOUND.start().await;
    for way in ["--unary", "--http"] {
        let load = ["user", way, "--window", "3", "--seconds", "1"];
        let (code, report, err) = measure(&running, &load).await;
        assert_eq!((code, err.as_str()), (0, ""), "{way}: {report}");
        let (pushes, received) = (&report["pushes"]["accepted"], &report["deliveries"]["received"]);
        assert!(pushes.as_u64().unwrap() > 3 && pushes == received, "{way}: {report}");
    }
    let (code, _, err) = measure(&running, &["user", "--http", "--stream"]).await;
    assert!(code == 2 && err.contains("cannot be used with"), "{err}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_pushed_to_the_idle() {
    let running = SOUND.start().await;
    let own = std::process::id().to_string();
    let scenario = ["idle", "--seconds", "1", "--rooms", "0", "--pid", &own, "--json"];
    let (code, report, err) = measure(&running, &scenario).await;
    assert_eq!((code, err.as_str()), (0, ""), "{report}");
    assert_eq!((&report["pushes"]["accepted"], &report["deliveries"]["expected"]), (&json!(0), &json!(0)));
    assert_eq!(report["quiet_seconds"], json!(1.0));
    let platform = &report["processes"][0];
    assert!(platform["cores_pushing"].as_f64().unwrap() < 1.0, "{platform}");
    assert!(platform["pss_bytes_open"].as_u64().unwrap() > 100_000, "{platform}");
    assert!(platform["pss_bytes_session"].is_number() && platform["cpu_seconds_opening_1000"].is_number());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rooms_beside_each_other_are_told_apart() {
    let running = SOUND.start().await;
    let fixed = ["mixed", "--small", "2", "--small-rate", "30", "--rate", "10", "--seconds", "1"];
    let (code, report, err) = measure(&running, &fixed).await;
    assert_eq!((code, err.as_str()), (0, ""), "{report}");
    for (room, expected) in [("big", 40), ("small", 60)] {
        let room = &report[room];
        assert_eq!(room["deliveries"]["received"], json!(expected), "{report}");
        assert!(room["latency_us"]["last"]["p99"].as_f64().unwrap() > 0.0, "{report}");
    }
    let of_most = ["mixed", "--percent", "50", "--small", "2", "--seconds", "1"];
    let (code, report, err) = measure(&running, &of_most).await;
    assert_eq!((code, err.as_str()), (0, ""), "{report}");
    let (most, rate) = (report["most_a_second"].as_f64().unwrap(), report["big"]["rate"].as_f64().unwrap());
    assert!((rate - most / 2.0).abs() <= 0.5 || rate <= 1.0, "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_and_repeated_messages_fail_the_run() {
    let running = Platform { copies: 0, ..SOUND }.start().await;
    let (code, report, err) = measure(&running, &["connect", "--hold", "0"]).await;
    assert_eq!((code, &report["deliveries"]["lost"]), (1, &json!(4)));
    assert!(err.contains("4 of 4 deliveries were lost"), "{err}");
    assert_eq!((&report["troubles"][0]["second"], &report["troubles"][0]["lost"]), (&json!(0), &json!(4)));
    let running = Platform { copies: 2, ..SOUND }.start().await;
    let (code, _, err) = measure(&running, &["room", "--rate", "10", "--seconds", "1"]).await;
    assert_eq!(code, 1);
    assert!(err.contains("repeated"), "{err}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_that_end_unasked_fail_the_run() {
    let running = Platform { closes_second: true, ..SOUND }.start().await;
    let (code, report, err) = measure(&running, &["room", "--rate", "10", "--seconds", "1"]).await;
    assert_eq!((code, &report["ended_sessions"]), (1, &json!(2)), "{err}");
    assert!(err.contains("closed with 4002"), "{err}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn joins_that_are_told_to_wait_ask_again_and_every_answer_counts() {
    let running = Platform { refusals: &["RATE_LIMITED", "UNAVAILABLE"], ..SOUND }.start().await;
    let (code, report, err) = measure(&running, &["join", "--rooms", "2"]).await;
    assert_eq!((code, err.as_str()), (0, ""), "{report}");
    let joins = &report["joins"];
    assert_eq!(joins["answers"], json!({"RATE_LIMITED": 4, "UNAVAILABLE": 4, "joined": 4}));
    assert_eq!((&joins["joined"], &joins["not_joined"]), (&json!(4), &json!(0)));
    let waited = joins["latency_us"]["p50"].as_f64().unwrap();
    assert!(waited >= 40_000.0 && joins["seconds_to_last"].as_f64().unwrap() >= waited / 1e6, "{joins}");
    assert!(joins["answer_us"]["p50"].as_f64().unwrap() < waited, "answers are timed one by one: {joins}");

    let running = Platform { refusals: &["ROOM_FULL"], ..SOUND }.start().await;
    let (code, report, err) = measure(&running, &["join"]).await;
    assert_eq!((code, &report["joins"]["not_joined"]), (1, &json!(4)), "{err}");
    assert!(err.contains("4 of 4 sessions did not join (ROOM_FULL"), "{err}");
}

/// Sockets of this machine with that port on either side and in TIME_WAIT, by their addresses.
fn waiting(port: u16) -> BTreeSet<String> {
    const TIME_WAIT: &str = "06";
    let sockets = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let port = format!(":{port:04X}");
    let fields = sockets.lines().map(|line| line.split_ascii_whitespace().collect::<Vec<_>>());
    fields
        .filter(|socket| socket[3] == TIME_WAIT)
        .filter(|socket| socket[1].ends_with(&port) || socket[2].ends_with(&port))
        .map(|socket| socket[1..3].join(" "))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_leaves_no_port_waiting() {
    let running = SOUND.start().await;
    // Whoever had this port a minute ago may have left some.
    let before = waiting(running.node.port());
    let (code, report, err) = measure(&running, &["connect", "--hold", "0"]).await;
    assert_eq!((code, err.as_str()), (0, ""), "{report}");
    let left: Vec<_> = waiting(running.node.port()).difference(&before).cloned().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_happened_around_the_pushes_is_reported() {
    let running = Platform { degraded: &["REGISTRY_STALE"], ..SOUND }.start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let metrics = format!("http://{}/metrics", listener.local_addr().unwrap());
    tokio::spawn(async move {
        for reading in 1.. {
            let (mut stream, _) = listener.accept().await.unwrap();
            // Closing with the request unread would reset the connection.
            let read = tokio::io::AsyncReadExt::read(&mut stream, &mut [0; 1_024]).await.unwrap();
            assert!(read > 0);
            let body = format!("# TYPE transactions_total counter\ntransactions_total {}\n", reading * 5);
            let answer = format!("HTTP/1.0 200 OK\r\n\r\n{body}");
            tokio::io::AsyncWriteExt::write_all(&mut stream, answer.as_bytes()).await.unwrap();
        }
    });
    let folder = std::env::temp_dir().join(format!("roomcast-load-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let mut process = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    std::fs::write(folder.join("node.pid"), format!("{}\n", process.id())).unwrap();
    let folder = folder.to_str().unwrap();
    let named = format!("sleeper={}", process.id());
    let around = ["--controller-metrics", &metrics, "--pid-files", folder, "--pid", &named];
    let load = ["room", "--rate", "10", "--seconds", "2", "--late", "60000"];
    let (code, report, err) = measure(&running, &[&load[..], &around[..]].concat()).await;
    process.kill().unwrap();
    process.wait().unwrap();
    std::fs::remove_dir_all(folder).unwrap();
    assert_eq!((code, err.as_str()), (0, ""), "{report}");
    assert_eq!(report["controllers"], json!({"transactions_total": 5}));
    let names: Vec<_> =
        report["processes"].as_array().unwrap().iter().map(|at| at["name"].as_str()).collect();
    assert_eq!(names[..2], [Some("sleeper"), Some("node")]);
    assert_eq!(report["pushes"]["degraded"], json!({"REGISTRY_STALE": 20}));
    let seconds: Vec<_> = report["troubles"].as_array().unwrap().iter().map(|at| &at["degraded"]).collect();
    assert_eq!(seconds, [&json!(10), &json!(10)]);
    let gap = report["longest_gap_ms"].as_f64().unwrap();
    assert!(gap >= 90.0, "pushes come every 100 ms: {gap}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_away_or_elsewhere_is_told_in_one_line() {
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let away = Running { node: address, grpc: address, json: address };
    let (code, _, err) = measure(&away, &["room"]).await;
    assert_eq!((code, err.lines().count()), (1, 1), "{err}");
    assert!(err.contains(&address.to_string()), "{err}");
    let elsewhere = Running { node: ([192, 0, 2, 1], 8080).into(), ..away };
    let (code, _, err) = measure(&elsewhere, &["room"]).await;
    assert_eq!(code, 1);
    assert!(err.contains("only loopback addresses"), "{err}");
}
