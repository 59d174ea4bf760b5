//! Encodes one push for the clients so many times, for counting instructions (`make counts`): `frame TIMES BYTES`.

#![allow(clippy::print_stdout, reason = "its result")]

use std::hint::black_box;

use connect_node::wire::{Encoding, Push, ServerFrame};
use roomcast_proto::pubsub::{Content, Deliver, deliver::Target};

fn encode(deliver: &Deliver) -> usize {
    black_box(ServerFrame::Push(Push::from(deliver)).encode(Encoding::Json)).len()
}

fn main() {
    let mut numbers = std::env::args().filter_map(|argument| argument.parse::<usize>().ok());
    let (times, bytes) = (numbers.next().unwrap_or(1_000), numbers.next().unwrap_or(128));
    let deliver = Deliver {
        message_id: "01JD3K8Z5XW8Q6F4C2B0A9Y7VT".into(),
        target: Some(Target::RoomId("room-0000001".into())),
        content: Some(Content { data: vec![b'x'; bytes].into(), ..Content::default() }),
        timestamp_ms: 1_700_000_000_000,
        ..Deliver::default()
    };
    let encoded: usize = (0..times).map(|_| encode(black_box(&deliver))).sum();
    println!("{encoded} bytes");
}
