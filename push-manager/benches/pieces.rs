//! Inner pieces of a push: `pieces PIECE TIMES` does one so many times, for counting instructions (`make counts`);
//! `pieces memory WHAT COUNT` prints the bytes that each of so many routes takes (`make route-memory`).

#![allow(clippy::print_stdout, reason = "its result")]

use std::hint::black_box;

use push_manager::pieces::{Queue, Table, room, user};

/// Routes that are looked up.
const ROUTES: u32 = 10_000;
/// Messages that leave a lane together.
const BATCH: usize = 64;
const CONTENT_BYTES: usize = 128;

fn main() {
    // `cargo bench` adds an argument of its own.
    let arguments: Vec<_> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let words: Vec<_> = arguments.iter().map(String::as_str).collect();
    match *words.as_slice() {
        ["memory", what, count] => memory(what, number(count)),
        [piece, times] => repeat(piece, number(times)),
        _ => println!(
            "pieces user-route|room-route|queue|batch TIMES; pieces memory users|rooms|known-users|known-rooms COUNT"
        ),
    }
}

fn number(text: &str) -> u32 {
    text.parse().unwrap_or_else(|_| panic!("{text:?} is no number"))
}

fn repeat(piece: &str, times: u32) {
    let table = Table::new();
    let mut queue = Queue::new(CONTENT_BYTES);
    match piece {
        "user-route" => {
            table.add_users(ROUTES);
            let ids: Vec<_> = (0..ROUTES).map(user).collect();
            (0..times as usize).for_each(|turn| assert_eq!(table.find_user(&ids[turn * 7 % ids.len()]), 1));
        }
        "room-route" => {
            table.add_rooms(ROUTES);
            let ids: Vec<_> = (0..ROUTES).map(room).collect();
            (0..times as usize).for_each(|turn| assert_eq!(table.find_room(&ids[turn * 7 % ids.len()]), 1));
        }
        "queue" => (0..times).for_each(|_| assert!(queue.push(), "the queue is full")),
        "batch" => {
            for _ in 0..times as usize / BATCH {
                assert!((0..BATCH).all(|_| queue.push()), "the queue is full");
                black_box(queue.leave());
            }
        }
        other => panic!("there is no piece {other:?}"),
    }
}

fn memory(what: &str, count: u32) {
    let mut table = Table::new();
    // What is taken once belongs to nobody.
    table.add_users(1);
    table.add_rooms(1);
    let before = resident_bytes();
    match what {
        "users" => table.add_users(count),
        "rooms" => table.add_rooms(count),
        "known-users" => table.learn_users(count),
        "known-rooms" => table.learn_rooms(count),
        other => panic!("there is no table of {other:?}"),
    }
    let grown = resident_bytes().saturating_sub(before);
    assert_eq!(table.find_user(&user(0)) + table.find_room(&room(0)), 2);
    println!("{what:<12} {count:>9} {:>7.0} bytes each", grown as f64 / f64::from(count));
}

/// From /proc: all that the allocator holds, what it keeps free included.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.split_ascii_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) * 1_024
}
