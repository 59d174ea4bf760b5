//! The program as a user starts it: what it prints, how it ends, and what it says when it cannot run.

#![allow(clippy::unwrap_used, reason = "a test: its panics are verdicts")]

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

const DEADLINE: Duration = Duration::from_secs(60);

const FREE_PORTS: [&str; 7] = [
    "server.port=0",
    "server.metrics_port=0",
    "push_manager.port=0",
    "push_manager.metrics_port=0",
    "connect_node.http_port=0",
    "connect_node.grpc_port=0",
    "connect_node.metrics_port=0",
];

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_standalone"));
    command.env_clear().args(arguments);
    for port in FREE_PORTS {
        command.args(["--set", port]);
    }
    command
}

/// Runs to its end; a program that goes on fails the test.
fn run(arguments: &[&str]) -> Output {
    let mut child = command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait(&mut child);
    child.wait_with_output().unwrap()
}

fn wait(child: &mut Child) -> i32 {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code().unwrap_or(-1);
        }
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("the program did not end by itself");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// One clear line on standard error, or one for each of several problems after it, and failure.
fn refusal(output: &Output) -> String {
    assert!(!output.status.success());
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    let lines: Vec<_> = text.lines().filter(|line| line.starts_with("standalone: ")).collect();
    assert_eq!(lines.len(), 1, "{text}");
    assert!(!text.contains("panicked"), "{text}");
    text[text.find(lines[0]).unwrap()..].to_owned()
}

struct Running {
    child: Child,
    text: String,
}

impl Running {
    /// Starts with the data in this folder and waits until it says how to stop it.
    fn start(data: &Path, nodes: &str) -> Self {
        let path = format!("database.path={}", data.display());
        let mut child = command(&["--nodes", nodes, "--set", &path])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut text = String::new();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        while !text.contains("Ctrl-C stops everything") {
            if lines.read_line(&mut text).unwrap() == 0 {
                let mut why = String::new();
                child.stderr.take().unwrap().read_to_string(&mut why).unwrap();
                panic!("it ended: {text}{why}");
            }
        }
        Self { child, text }
    }

    /// host:port of the first page or of the push API.
    fn address(&self, before: &str) -> String {
        let rest = self.text.split(before).nth(1).unwrap_or_else(|| panic!("no {before:?} in {}", self.text));
        rest.split(['/', ' ', '\n']).next().unwrap().to_owned()
    }

    fn request(&self, address: &str, request: &str) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        reply
    }

    fn post(&self, address: &str, path: &str, body: &str) -> String {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        self.request(address, &format!("{head}{body}"))
    }

    fn get(&self, address: &str, path: &str) -> String {
        self.request(address, &format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"))
    }

    /// Ctrl-C, and the exit code.
    fn interrupt(mut self) -> i32 {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
        wait(&mut self.child)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn it_serves_three_nodes_and_stops_on_ctrl_c() {
    let folder = tempfile::tempdir().unwrap();
    let platform = Running::start(folder.path(), "3");
    assert_eq!(platform.text.matches("page http://").count(), 3, "{}", platform.text);
    let page = platform.address("page http://");
    assert!(platform.get(&page, "/health").contains("200 OK"));
    // The command line is offered only where it was built.
    let client = Path::new(env!("CARGO_BIN_EXE_standalone")).with_file_name("biz-client");
    let offered = format!("{} --push-manager {}", client.display(), platform.address("gRPC and JSON "));
    assert_eq!(platform.text.contains(&offered), client.is_file(), "{}", platform.text);
    let push = platform.address("gRPC and JSON ");
    let reply = platform.post(&push, "/v1/push/broadcast", r#"{"content":{"data":"Hello"}}"#);
    assert!(reply.contains("200 OK") && reply.contains("\"targets\":0"), "{reply}");
    assert_eq!(platform.interrupt(), 0);
}

#[test]
fn rooms_outlive_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let platform = Running::start(folder.path(), "1");
    let page = platform.address("page http://");
    let mut socket = TcpStream::connect(&page).unwrap();
    socket
        .write_all(
            b"GET /ws?user_id=u&room_id=kept HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
              Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        )
        .unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains("\"joined\"") {
        let mut chunk = [0; 4096];
        let length = socket.read(&mut chunk).unwrap();
        assert!(length > 0, "{}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&chunk[..length]);
    }
    assert_eq!(platform.interrupt(), 0);
    let journal = std::fs::metadata(folder.path().join("roomcast.db-wal"));
    assert!(journal.is_err() || journal.unwrap().len() == 0, "the file is complete without it");
    let platform = Running::start(folder.path(), "1");
    let push = platform.address("gRPC and JSON ");
    let reply = platform.get(&push, "/v1/rooms/kept");
    assert!(reply.contains("200 OK") && reply.contains("\"member_count\":1"), "{reply}");
    assert_eq!(platform.interrupt(), 0);
}

#[test]
fn a_port_in_use_is_one_clear_line() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = format!("push_manager.port={}", taken.local_addr().unwrap().port());
    let mut command = command(&["--ephemeral"]);
    command.args(["--set", &port]);
    let line = refusal(&command.output().unwrap());
    assert!(line.contains(&taken.local_addr().unwrap().to_string()), "{line}");
    assert!(line.contains("set push_manager.port to a free port"), "{line}");
}

#[test]
fn a_bad_key_is_named_with_what_was_meant() {
    let line = refusal(&run(&["--set", "room.default_max_user=7"]));
    assert!(line.contains("did you mean default_max_users?"), "{line}");
    assert!(refusal(&run(&["--set", "network.bind=0.0.0.0"])).contains("allow_insecure"));
    assert!(refusal(&run(&["--config", "/nowhere.yaml"])).contains("/nowhere.yaml"));
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a-file");
    std::fs::write(&file, "not a folder").unwrap();
    let path = format!("database.path={}/data", file.display());
    let line = refusal(&run(&["--set", &path]));
    assert!(line.contains("a-file/data"), "{line}");
}

#[test]
fn the_configuration_is_checked_and_printed() {
    let output = run(&["--check-config"]);
    assert!(output.status.success());
    let output = run(&["--print-config", "--set", "room.default_max_users=7"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.contains("default_max_users: 7"), "{text}");
}
