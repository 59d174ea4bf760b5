//! `scripts/cluster.sh`: the platform as separate processes on servers of its own, as `make cluster` starts it.

#![allow(clippy::unwrap_used, reason = "the panics of tests are verdicts")]

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use roomcast_testkit::{Api, Client, programs};

/// What the processes listen on, without an offset.
const PORTS: [u16; 21] = [
    2379, 2380, 3306, 6379, 50051, 9090, 50061, 9100, 50053, 9094, 50063, 9104, 50052, 8080, 9091, 50055,
    8081, 9092, 50056, 8082, 9093,
];
/// Puts the gRPC ports above the range of outgoing connections.
const OFFSETS: std::ops::Range<u16> = 10_960..12_000;
const NAMES: [&str; 10] = [
    "etcd",
    "mariadb",
    "redis",
    "controller-1",
    "controller-2",
    "push-manager-1",
    "push-manager-2",
    "connect-node-1",
    "connect-node-2",
    "connect-node-3",
];

/// A folder, and a shell that ends whatever runs there when this process is gone, however that ended.
struct Place {
    folder: PathBuf,
    offset: u16,
    keeper: Child,
}

impl Place {
    fn new() -> Self {
        let folder = std::env::temp_dir().join(format!("roomcast-script-{}", std::process::id()));
        let keeper = r#"read -r _; CLUSTER_DIR=$1 "$0" stop; rm -rf "$1""#;
        let keeper = Command::new("sh")
            .args(["-c", keeper])
            .args([&script(), &folder])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut offsets = OFFSETS.clone().cycle().skip(std::process::id() as usize % OFFSETS.len());
        let is_free = |offset: &u16| PORTS.iter().all(|port| TcpListener::bind(local(port + offset)).is_ok());
        let offset = offsets.by_ref().take(OFFSETS.len()).find(is_free).expect("some ports are free");
        Self { folder, offset, keeper }
    }

    fn port(&self, usual: u16) -> u16 {
        usual + self.offset
    }

    fn address(&self, usual: u16) -> SocketAddr {
        local(self.port(usual))
    }

    /// Whether the script succeeded, and what it said.
    fn run(&self, arguments: &[&str]) -> (bool, String) {
        let programs = programs::folder();
        let Output { status, stdout, stderr } = Command::new(script())
            .args(arguments)
            .env("CLUSTER_DIR", &self.folder)
            .env("PORT_OFFSET", self.offset.to_string())
            .env("CARGO_TARGET_DIR", programs.parent().unwrap())
            .env("PROFILE", programs.file_name().unwrap())
            .env("NODES", "3")
            .output()
            .unwrap();
        let said = [stdout, stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
        (status.success(), said)
    }

    fn succeed(&self, arguments: &[&str]) -> String {
        let (is_done, said) = self.run(arguments);
        assert!(is_done, "{arguments:?} failed:\n{said}");
        said
    }

    /// Name and state of each process.
    fn states(&self) -> (bool, BTreeMap<String, String>) {
        let (is_whole, said) = self.run(&["status"]);
        let rows = said.lines().skip(1).map(|line| {
            let words: Vec<_> = line.split_whitespace().collect();
            (words[0].to_owned(), words[1].to_owned())
        });
        (is_whole, rows.collect())
    }

    fn pid(&self, name: &str) -> Option<u32> {
        let file = self.folder.join(format!("run/{name}.pid"));
        std::fs::read_to_string(file).ok()?.trim().parse().ok()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/cluster.sh").canonicalize().unwrap()
}

/// Not there, or ended and only not yet buried by whoever adopts orphans.
fn is_gone(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().unwrap().trim().chars().next().is_none_or(|state| state == 'Z')
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_starts_survives_a_killed_node_and_ends_without_a_trace() {
    let place = Place::new();
    // What others hold is named and left alone: a port that has to be ours, and one that can be another.
    let foreign_page = TcpListener::bind(place.address(8082)).unwrap();
    let foreign_etcd = TcpListener::bind(place.address(2379)).unwrap();
    let (is_done, said) = place.run(&["start"]);
    let complaint = format!("port {} for connect-node-3 is taken by", place.port(8082));
    assert!(!is_done && said.contains(&complaint), "{said}");
    assert!(
        said.contains(&format!("(pid {})", std::process::id())) && said.contains("PORT_OFFSET"),
        "{said}"
    );
    assert_eq!(NAMES.iter().find_map(|name| place.pid(name)), None, "nothing was started");
    drop(foreign_page);

    let said = place.succeed(&["start"]);
    let note = format!("etcd of this cluster takes {}", place.port(12_379));
    assert!(said.contains(&note) && said.contains(&format!("http://{}/", place.address(8081))), "{said}");
    let (is_whole, states) = place.states();
    assert!(is_whole && NAMES.iter().all(|name| states[*name] == "ready"), "{states:?}");

    let mut bob = Client::join(&format!("ws://{}/ws", place.address(8081)), "bob", &["room-1"]).await;
    Api::new(place.address(50053)).push_room("room-1", "before").await;
    assert_eq!(bob.push().await, "before");

    let first = place.pid("connect-node-1").unwrap();
    assert!(Command::new("kill").args(["-9", &first.to_string()]).status().unwrap().success());
    let (is_whole, states) = place.states();
    let down: Vec<_> = states.iter().filter(|(_, state)| *state != "ready").collect();
    assert!(!is_whole && down == [(&"connect-node-1".to_owned(), &"down".to_owned())], "{states:?}");
    let said = place.succeed(&["start"]);
    assert!(said.contains("Started: connect-node-1\n"), "{said}");
    assert_ne!(place.pid("connect-node-1"), Some(first));
    let mut alice = Client::join(&format!("ws://{}/ws", place.address(8080)), "alice", &["room-1"]).await;
    let reply = Api::new(place.address(50063)).push_room("room-1", "after").await;
    assert_eq!(reply["receipt"]["outcomes"]["WRITTEN"], 2, "{reply}");
    assert_eq!((bob.push().await, alice.push().await), ("after".to_owned(), "after".to_owned()));

    let pids: Vec<_> = NAMES.iter().map(|name| place.pid(name).unwrap()).collect();
    place.succeed(&["stop"]);
    assert!(pids.into_iter().all(is_gone));
    for port in PORTS {
        let is_foreign = port == 2379;
        assert_eq!(TcpStream::connect(place.address(port)).is_ok(), is_foreign, "port {port}");
    }
    drop(foreign_etcd);
    let (is_whole, states) = place.states();
    assert!(!is_whole && states.values().all(|state| state == "down"), "{states:?}");
}
