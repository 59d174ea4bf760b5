//! What can be written on the command line, with the bounds of everything.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum, value_parser};

use crate::process::Named;

/// Measures a Roomcast on this machine: pushes and connections over its public interfaces, from one process.
///
/// Latencies count from the time a push was due, so that a late sender does not hide a slow platform. Only loopback
/// addresses are taken. Exits with 1 when a message was lost, repeated or refused, or a session failed.
#[derive(Debug, Parser)]
#[command(version)]
pub struct Args {
    #[command(flatten)]
    pub common: Common,
    #[command(subcommand)]
    pub measurement: Measurement,
}

/// Where and how to measure.
#[derive(Debug, ClapArgs)]
pub struct Common {
    /// Nodes, ws://host:port/ws, separated by commas; sessions are spread over them in turn.
    #[arg(long, global = true, default_value = "ws://127.0.0.1:8080/ws", value_delimiter = ',')]
    pub nodes: Vec<String>,
    /// Push-managers, host:port, separated by commas.
    #[arg(long, global = true, default_value = "127.0.0.1:50053", value_delimiter = ',')]
    pub push_manager: Vec<String>,
    /// Controller-managers, host:port: they create the room of the run.
    #[arg(long, global = true, default_value = "127.0.0.1:50051", value_delimiter = ',')]
    pub controller: Vec<String>,
    /// Pushes through a floor, host:port of its publishers, in place of Roomcast: sessions go to --nodes all the same.
    #[arg(long, global = true, value_name = "ADDRESS")]
    pub floor: Option<String>,
    /// Sessions, one for each user; this process needs an open file for each.
    #[arg(long, global = true, default_value_t = 100, value_parser = value_parser!(u32).range(1..=200_000))]
    pub sessions: u32,
    /// Handshakes at the same time.
    #[arg(long, global = true, default_value_t = 128, value_parser = value_parser!(u32).range(1..=1_000))]
    pub handshakes: u32,
    /// Connect from 127.0.0.1 to 127.0.0.N: each has its own ports.
    #[arg(long, global = true, default_value_t = 1, value_parser = value_parser!(u8).range(1..=64))]
    pub source_addresses: u8,
    /// Threads that read.
    #[arg(long, global = true, default_value_t = 1, value_parser = value_parser!(u8).range(1..=8))]
    pub threads: u8,
    /// How long to wait for sessions to open, and for the last messages, in seconds.
    #[arg(long, global = true, default_value_t = 30, value_parser = value_parser!(u64).range(1..=300))]
    pub patience: u64,
    /// Processes whose CPU time and memory to report, PID or NAME=PID; may be given many times.
    #[arg(long, global = true, value_name = "[NAME=]PID")]
    pub pid: Vec<Named>,
    /// The same for each NAME.pid in a folder, such as .cluster/run.
    #[arg(long, global = true, value_name = "FOLDER")]
    pub pid_files: Option<PathBuf>,
    /// The same for each descendant of a process, under the names of their programs.
    #[arg(long, global = true, value_name = "PID")]
    pub children_of: Option<u32>,
    /// Metrics of the controllers, http://host:port/metrics, separated by commas: their counters are read before and
    /// after.
    #[arg(long, global = true, value_delimiter = ',', value_name = "URL")]
    pub controller_metrics: Vec<String>,
    /// How to show the result.
    #[arg(long, global = true, value_enum, default_value_t = Format::Table)]
    pub output: Format,
    /// Short for --output json.
    #[arg(long, global = true)]
    pub json: bool,
}

impl Common {
    /// How to show the result.
    pub fn format(&self) -> Format {
        if self.json { Format::Json } else { self.output }
    }
}

/// How the result is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// How many pushes of which size.
#[derive(Debug, Clone, ClapArgs)]
pub struct Load {
    /// Pushes a second, whether or not earlier ones were answered.
    #[arg(long, default_value_t = 20, value_parser = value_parser!(u32).range(1..=100_000))]
    pub rate: u32,
    /// So many pushes at once, each as soon as one is answered, in place of a rate (a closed loop); a million at most.
    #[arg(long, conflicts_with = "rate", value_parser = value_parser!(u32).range(1..=4_000))]
    pub window: Option<u32>,
    #[command(flatten)]
    pub way: Way,
    /// How long to push, in seconds.
    #[arg(long, default_value_t = 10, value_parser = value_parser!(u32).range(1..=600))]
    pub seconds: u32,
    /// Size of the content in bytes.
    #[arg(long, default_value_t = 128, value_parser = value_parser!(u32).range(48..=1_000_000))]
    pub bytes: u32,
    /// A push whose last receiver got it later than this counts as late, in milliseconds.
    #[arg(long, default_value_t = 1_000, value_parser = value_parser!(u32).range(1..=600_000))]
    pub late: u32,
    /// Each push is answered when every session has acknowledged it (wait level ACKED), 30 s later at most.
    #[arg(long, conflicts_with = "http")]
    pub ack: bool,
}

/// How pushes travel to a push-manager.
#[derive(Debug, Clone, Copy, Default, ClapArgs)]
pub struct Way {
    /// A gRPC call for each push; so they travel when nothing is said.
    #[arg(long, conflicts_with_all = ["stream", "http"])]
    pub unary: bool,
    /// Over one PushStream.
    #[arg(long, conflicts_with = "http")]
    pub stream: bool,
    /// An HTTP POST of JSON for each push.
    #[arg(long)]
    pub http: bool,
    /// Connections of --http, kept alive; who finds none idle waits for one.
    #[arg(long, default_value_t = 64, value_parser = value_parser!(u16).range(1..=1_024))]
    pub http_connections: u16,
}

/// How many rooms the sessions are divided into; they must come out even.
#[derive(Debug, Clone, Copy, ClapArgs)]
pub struct Rooms {
    /// Rooms, each with the same number of sessions.
    #[arg(long, default_value_t = 1, value_parser = value_parser!(u32).range(1..=20_000))]
    pub rooms: u32,
}

/// Rooms of a scenario that does without them, too.
#[derive(Debug, Clone, Copy, ClapArgs)]
pub struct MaybeRooms {
    /// Rooms, each with the same number of sessions; 0: the sessions are in no room.
    #[arg(long, default_value_t = 1, value_parser = value_parser!(u32).range(0..=20_000))]
    pub rooms: u32,
}

/// A small room beside a big one.
#[derive(Debug, Clone, ClapArgs)]
pub struct Mixed {
    /// Members of the small room; the sessions are those of the big one.
    #[arg(long, default_value_t = 10, value_parser = value_parser!(u32).range(1..=1_000))]
    pub small: u32,
    /// Pushes to the small room a second.
    #[arg(long, default_value_t = 20, value_parser = value_parser!(u32).range(1..=10_000))]
    pub small_rate: u32,
    /// Pushes to the big room a second.
    #[arg(long, default_value_t = 5, value_parser = value_parser!(u32).range(1..=10_000))]
    pub rate: u32,
    /// Pushes to the big room in percent of its most, which is measured first, in place of a rate.
    #[arg(long, conflicts_with = "rate", value_parser = value_parser!(u32).range(1..=100))]
    pub percent: Option<u32>,
    /// Pushes at once while the most is measured.
    #[arg(long, default_value_t = 1, value_parser = value_parser!(u32).range(1..=64))]
    pub window: u32,
    #[command(flatten)]
    pub way: Way,
    /// How long to push, in seconds; measuring the most takes as long again.
    #[arg(long, default_value_t = 10, value_parser = value_parser!(u32).range(1..=600))]
    pub seconds: u32,
    /// Size of the content in bytes.
    #[arg(long, default_value_t = 128, value_parser = value_parser!(u32).range(48..=1_000_000))]
    pub bytes: u32,
}

/// Readers that are slow.
#[derive(Debug, Clone, Copy, ClapArgs)]
pub struct Readers {
    /// How many, beside the sessions.
    #[arg(long, default_value_t = 1, value_parser = value_parser!(u32).range(1..=1_000))]
    pub readers: u32,
    /// How many in percent of the sessions, in place of a number.
    #[arg(long, conflicts_with = "readers", value_parser = value_parser!(u32).range(1..=100))]
    pub share: Option<u32>,
    /// Bytes a second that each of them reads. 0: they stop reading, and have to be closed with 4002.
    #[arg(long, default_value_t = 0, value_parser = value_parser!(u32).range(0..=10_000_000))]
    pub read_rate: u32,
}

impl Readers {
    /// How many beside so many sessions; at least one.
    pub fn count(&self, sessions: u32) -> u32 {
        self.share.map_or(self.readers, |percent| (sessions * percent / 100).max(1))
    }
}

/// Pushes beside a reader that is stuck.
#[derive(Debug, Clone, ClapArgs)]
pub struct Stuck {
    /// Pushes in a round, one after the other at the default wait.
    #[arg(long, default_value_t = 200, value_parser = value_parser!(u32).range(1..=400))]
    pub pushes: u32,
    /// Rounds with and without the reader, in turn.
    #[arg(long, default_value_t = 5, value_parser = value_parser!(u32).range(1..=100))]
    pub rounds: u32,
    /// Size of the content in bytes: what waits for the reader stays below what closes it.
    #[arg(long, default_value_t = 128, value_parser = value_parser!(u32).range(1..=256))]
    pub bytes: u32,
}

/// What to measure.
#[derive(Debug, Subcommand)]
pub enum Measurement {
    #[command(flatten)]
    Load(Scenario),
    /// Whether one reader that stopped reading makes pushes slower: rounds of sequential pushes to one room, with it and
    /// without it, and the ratio of their medians.
    Stuck(Stuck),
    /// A small room at a given rate beside a big one that is busy: the latency of each.
    Mixed(Mixed),
}

/// What load to measure under.
#[derive(Debug, Subcommand)]
pub enum Scenario {
    /// All sessions in rooms, pushes to the rooms in turn.
    Room {
        #[command(flatten)]
        load: Load,
        #[command(flatten)]
        rooms: Rooms,
    },
    /// Opens all sessions without rooms; then all join at the same moment, and again when they are told to wait; then
    /// one push to each room.
    Join {
        #[command(flatten)]
        rooms: Rooms,
    },
    /// Pushes to one random user each.
    User(Load),
    /// Pushes to everyone. Nobody else may be connected.
    Broadcast(Load),
    /// Opens all sessions as fast as their node takes them, holds them, then one push to each room.
    #[command(visible_alias = "storm")]
    Connect {
        /// How long to hold the sessions, in seconds.
        #[arg(long, default_value_t = 5, value_parser = value_parser!(u32).range(0..=600))]
        hold: u32,
        #[command(flatten)]
        rooms: MaybeRooms,
    },
    /// Opens all sessions, waits until the platform is at rest, and looks on while nothing is pushed.
    Idle {
        /// How long to look on, in seconds.
        #[arg(long, default_value_t = 30, value_parser = value_parser!(u32).range(1..=600))]
        seconds: u32,
        #[command(flatten)]
        rooms: MaybeRooms,
    },
    /// As room, beside readers that are slow; nobody else may suffer.
    Slow {
        #[command(flatten)]
        load: Load,
        #[command(flatten)]
        readers: Readers,
    },
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Args::command().debug_assert();
    }
}
