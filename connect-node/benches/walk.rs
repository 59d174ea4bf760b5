//! Pushes to a room of one shard, for counting the instructions of its walk:
//! `valgrind --tool=callgrind --collect-atstart=no --toggle-collect='*walk_slice*' BENCH 300 100`.

#![allow(clippy::print_stdout, reason = "its result")]

#[allow(dead_code, clippy::unwrap_used, reason = "it serves the tests, too")]
#[path = "../tests/shard/fixture.rs"]
mod fixture;
#[allow(dead_code, clippy::unwrap_used, reason = "it serves the tests, too")]
#[path = "../tests/shard/hub.rs"]
mod hub;

use fixture::{Node, counts};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut numbers = std::env::args().filter_map(|argument| argument.parse::<usize>().ok());
    let (sessions, pushes) = (numbers.next().unwrap_or(300), numbers.next().unwrap_or(100));
    let node = Node::start().await;
    let mut members = Vec::new();
    for user in 0..sessions {
        members.push(node.member(&format!("user_id=u{user}&room_id=r")).await);
    }
    let data = "x".repeat(100);
    let mut written = 0;
    for _ in 0..pushes {
        written += counts(node.push("r", &data).await).await.written;
    }
    println!("{written} deliveries");
}
