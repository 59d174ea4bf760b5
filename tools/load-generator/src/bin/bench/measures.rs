//! What is measured, against whom, and in which set it is.

use crate::servers::{Cores, Kind, Server};

/// One measure; the floor is measured beside it in each round.
pub struct Measure {
    pub set: &'static str,
    pub name: &'static str,
    pub sessions: u32,
    /// Of the load generator, beside the time.
    pub arguments: &'static [&'static str],
    pub contenders: &'static [Contender],
    pub cores: Cores,
    /// How many times as long as the others it lasts.
    pub times: u32,
}

/// Who is measured, and how the pushes get there.
pub struct Contender {
    pub server: Server,
    pub way: &'static str,
}

const ONE: Kind = Kind::Standalone { nodes: 1 };
const LOGGED: Server = Server { words: "default logs", kind: ONE, settings: &[] };
const UNLOGGED: Server =
    Server { words: "no logs", kind: ONE, settings: &["log.room=none", "log.user=none"] };
const TIERS: Server = Server { words: "separate processes", kind: Kind::Separate, settings: &[] };
const UNPINGED: Server = Server {
    words: "separate processes, no pings",
    kind: Kind::Separate,
    settings: &["connect_node.ping_interval=10m"],
};

const fn by(server: Server, way: &'static str) -> Contender {
    Contender { server, way }
}

const fn nodes(words: &'static str, nodes: u16) -> Contender {
    by(Server { words, kind: Kind::Standalone { nodes }, settings: &[] }, "--stream")
}

const BOTH: &[Contender] = &[by(LOGGED, "--stream"), by(UNLOGGED, "--stream")];
const DEFAULT: &[Contender] = &[by(LOGGED, "--stream")];
const SEPARATE: &[Contender] = &[by(TIERS, "--stream")];
const AND_HTTP: &[Contender] = &[by(LOGGED, "--stream"), by(UNLOGGED, "--stream"), by(LOGGED, "--http")];
const EVERY_WAY: &[Contender] =
    &[by(LOGGED, "--stream"), by(UNLOGGED, "--stream"), by(LOGGED, "--unary"), by(LOGGED, "--http")];
const IDLE: &[Contender] = &[by(TIERS, ""), by(UNPINGED, ""), by(LOGGED, "")];

const fn measure(
    set: &'static str,
    name: &'static str,
    sessions: u32,
    arguments: &'static [&'static str],
    contenders: &'static [Contender],
) -> Measure {
    Measure { set, name, sessions, arguments, contenders, cores: Cores::First, times: 1 }
}

const LONE: &[&str] = &["room", "--window", "1"];
const EIGHT: &[&str] = &["room", "--window", "8"];
const LONE_1K: &[&str] = &["room", "--window", "1", "--bytes", "1024"];
const EIGHT_1K: &[&str] = &["room", "--window", "8", "--bytes", "1024"];

/// Those of the page.
pub const MEASURES: &[Measure] = &[
    measure("rooms", "room of 1,000, 128 B, one at a time", 1_000, LONE, BOTH),
    measure("rooms", "room of 1,000, 128 B, eight in flight", 1_000, EIGHT, BOTH),
    measure("rooms", "room of 1,000, 1 KiB, one at a time", 1_000, LONE_1K, BOTH),
    measure("rooms", "room of 1,000, 1 KiB, eight in flight", 1_000, EIGHT_1K, BOTH),
    measure("rooms", "room of 10,000, 128 B, one at a time", 10_000, LONE, BOTH),
    measure("rooms", "room of 10,000, 128 B, eight in flight", 10_000, EIGHT, BOTH),
    measure("rooms", "room of 10,000, 1 KiB, one at a time", 10_000, LONE_1K, BOTH),
    measure("rooms", "room of 10,000, 1 KiB, eight in flight", 10_000, EIGHT_1K, BOTH),
    measure("tiers", "room of 1,000, 128 B, one at a time", 1_000, LONE, SEPARATE),
    measure("tiers", "room of 1,000, 128 B, eight in flight", 1_000, EIGHT, SEPARATE),
    measure("tiers", "room of 10,000, 128 B, one at a time", 10_000, LONE, SEPARATE),
    measure("tiers", "room of 10,000, 128 B, eight in flight", 10_000, EIGHT, SEPARATE),
    measure(
        "small-rooms",
        "1,000 rooms of 10, 64 in flight",
        10_000,
        &["room", "--rooms", "1000", "--window", "64"],
        AND_HTTP,
    ),
    Measure {
        cores: Cores::All,
        ..measure(
            "users",
            "single users of 10,000, 256 in flight, both cores for all",
            10_000,
            &["user", "--window", "256"],
            EVERY_WAY,
        )
    },
    Measure {
        cores: Cores::All,
        ..measure(
            "latency",
            "single users of 10,000, 500 a second, both cores for all",
            10_000,
            &["user", "--rate", "500"],
            EVERY_WAY,
        )
    },
    measure("latency", "room of 1,000, 20 a second", 1_000, &["room", "--rate", "20"], BOTH),
    measure(
        "mixed",
        "room of 10 (its latency) beside a room of 10,000 at 70 % of its most",
        10_000,
        &["mixed", "--percent", "70", "--small", "10", "--small-rate", "20"],
        BOTH,
    ),
    measure(
        "slow",
        "room of 1,000, 20 a second, beside 5 % more who read 2 kB/s",
        1_000,
        &["slow", "--rate", "20", "--share", "5", "--read-rate", "2000"],
        DEFAULT,
    ),
    Measure {
        times: 10,
        ..measure("idle", "15,000 idle sessions in rooms of 10", 15_000, &["idle", "--rooms", "1500"], IDLE)
    },
];

/// Those of `--growth`.
pub const GROWTH: &[Measure] = &[
    measure("members", "room of 1,000", 1_000, LONE, DEFAULT),
    measure("members", "room of 2,000", 2_000, LONE, DEFAULT),
    measure("members", "room of 5,000", 5_000, LONE, DEFAULT),
    measure("members", "room of 10,000", 10_000, LONE, DEFAULT),
    measure("members", "room of 15,000", 15_000, LONE, DEFAULT),
    measure("rooms", "10 rooms of 10", 100, &["room", "--rooms", "10", "--window", "64"], DEFAULT),
    measure("rooms", "100 rooms of 10", 1_000, &["room", "--rooms", "100", "--window", "64"], DEFAULT),
    measure("rooms", "1,000 rooms of 10", 10_000, &["room", "--rooms", "1000", "--window", "64"], DEFAULT),
    measure("rooms", "10,000 rooms of 1", 10_000, &["room", "--rooms", "10000", "--window", "64"], DEFAULT),
    measure("nodes", "room of 1,000 on 1 node", 1_000, LONE, &[nodes("default logs", 1)]),
    measure("nodes", "room of 1,000 on 2 nodes", 1_000, LONE, &[nodes("default logs", 2)]),
    measure("nodes", "room of 1,000 on 5 nodes", 1_000, LONE, &[nodes("default logs", 5)]),
    measure("nodes", "room of 1,000 on 10 nodes", 1_000, LONE, &[nodes("default logs", 10)]),
];
