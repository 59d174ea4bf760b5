//! The built programs against each other: the load generator against the floor, and what `bench` can be asked for.

#![allow(clippy::unwrap_used)]

use std::{
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(20);

/// A floor and its port; ended when dropped.
struct Floor(Child, u16);

impl Floor {
    fn start() -> Self {
        let port = pair_of_ports();
        let mut command = Command::new(env!("CARGO_BIN_EXE_floor"));
        let floor = Self(command.arg(port.to_string()).stdout(Stdio::null()).spawn().unwrap(), port);
        let until = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", port + 1)).is_err() {
            assert!(Instant::now() < until, "the floor does not listen");
            std::thread::yield_now();
        }
        floor
    }

    fn measure(&self, scenario: &[&str]) -> Value {
        let mut command = Command::new(env!("CARGO_BIN_EXE_load-generator"));
        command.args(["--nodes", &format!("ws://127.0.0.1:{}/ws", self.1)]);
        command.args(["--floor", &format!("127.0.0.1:{}", self.1 + 1), "--json"]);
        command.args(["--pid", &format!("floor={}", self.0.id())]).args(scenario);
        let output = command.output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{scenario:?}: {told}");
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// Two that follow each other, below the range that systems give to outgoing connections.
fn pair_of_ports() -> u16 {
    let is_free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    let start = std::process::id() as u16 % 5_000;
    let mut ports = (0..5_000).map(|step| 20_000 + (start + step) % 5_000 * 2);
    ports.find(|port| is_free(*port) && is_free(port + 1)).unwrap()
}

#[test]
fn a_floor_takes_what_a_platform_takes() {
    let floor = Floor::start();
    let many = ["--sessions", "20"];
    let report =
        floor.measure(&[&many[..], &["room", "--rooms", "4", "--window", "8", "--seconds", "1"]].concat());
    let (pushes, received) = (&report["pushes"]["accepted"], &report["deliveries"]["received"]);
    assert_eq!(pushes.as_u64().unwrap() * 5, received.as_u64().unwrap(), "{report}");
    assert_eq!(report["processes"][0]["name"], "floor");
    assert!(report["processes"][0]["cpu_seconds_pushing"].as_f64().unwrap() > 0.0, "{report}");

    let report = floor.measure(&[&many[..], &["mixed", "--percent", "70", "--seconds", "1"]].concat());
    let small = &report["small"];
    assert_eq!(small["deliveries"]["received"], 200, "20 a second to 10: {report}");
    assert!(report["most_a_second"].as_f64().unwrap() > report["big"]["rate"].as_f64().unwrap());

    let report = floor.measure(&[&many[..], &["idle", "--seconds", "1", "--rooms", "2"]].concat());
    assert_eq!((&report["pushes"]["accepted"], &report["ended_sessions"]), (&0.into(), &0.into()));
    assert!(report["open_us"]["p99"].as_f64().unwrap() > 0.0, "{report}");
}

#[test]
fn measures_are_picked_by_set_and_by_word() {
    let list = |arguments: &[&str]| {
        let output =
            Command::new(env!("CARGO_BIN_EXE_bench")).arg("--list").args(arguments).output().unwrap();
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    };
    let (all, growth) = (list(&[]), list(&["--growth"]));
    assert!(all.lines().count() > 10 && growth.lines().count() > 10 && all != growth);
    let idle = list(&["--set", "idle,mixed"]);
    assert!(idle.contains("15,000 idle sessions") && idle.contains("room of 10 (its"), "{idle}");
    let big = list(&["--set", "rooms", "--only", "10,000"]);
    assert!(big.lines().all(|line| line.contains("room of 10,000")), "{big}");
    assert!(list(&["--set", "nonsense"]).contains("there is no such measure"));
}
