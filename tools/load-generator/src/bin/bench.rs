//! `make bench`: Roomcast beside the floor, in turn, and what a delivery costs in ratios to it.
//!
//! Each round starts a fresh server on the first core and the load generator on the second. What is compared is the CPU time
//! of the server's process, all three tiers together, per delivery: of one round, because the machine's speed changes.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line tool")]

use std::{
    env,
    fmt::Write as _,
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use clap::{Parser, value_parser};
use serde_json::Value;

const FLOOR_PORT: u16 = 9310;
const READY_WITHIN: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// From here on the page is written by hand and kept.
const BY_HAND: &str = "\n## Where the rest goes";

/// Measures Roomcast beside the floor and writes a page of ratios. The ports 8080, 50051 to 50053, 9090, 9091, 9094 and 9310,
/// 9311 have to be free. The programs are those beside this one.
#[derive(Debug, Parser)]
struct Arguments {
    /// How often each measure is taken: medians are told, with the least and the most.
    #[arg(long, default_value_t = 3, value_parser = value_parser!(u32).range(1..=99))]
    rounds: u32,
    /// How long each lasts.
    #[arg(long, default_value_t = 3, value_parser = value_parser!(u32).range(1..=60))]
    seconds: u32,
    /// Only measures with one of these words in their names, separated by commas.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Where the page goes.
    #[arg(long, default_value = "docs/benchmarks.md")]
    page: PathBuf,
}

/// Who is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Server {
    /// With its default log policies.
    Roomcast,
    /// Without any log.
    Unlogged,
    Floor,
}

/// What is measured.
struct Measure {
    name: &'static str,
    sessions: u32,
    /// Of the load generator, beside the time.
    arguments: &'static [&'static str],
}

const MEASURES: &[Measure] = &[
    Measure {
        name: "room of 1,000, 128 B, one at a time",
        sessions: 1_000,
        arguments: &["room", "--window", "1"],
    },
    Measure {
        name: "room of 1,000, 128 B, eight in flight",
        sessions: 1_000,
        arguments: &["room", "--window", "8"],
    },
    Measure {
        name: "room of 1,000, 1 KiB, one at a time",
        sessions: 1_000,
        arguments: &["room", "--window", "1", "--bytes", "1024"],
    },
    Measure {
        name: "room of 1,000, 1 KiB, eight in flight",
        sessions: 1_000,
        arguments: &["room", "--window", "8", "--bytes", "1024"],
    },
    Measure {
        name: "1,000 rooms of 10, 64 in flight",
        sessions: 10_000,
        arguments: &["room", "--rooms", "1000", "--window", "64"],
    },
    Measure {
        name: "single users of 10,000, 256 in flight",
        sessions: 10_000,
        arguments: &["user", "--window", "256"],
    },
    Measure {
        name: "single users of 10,000, 500 a second",
        sessions: 10_000,
        arguments: &["user", "--rate", "500"],
    },
];

/// What one run came to.
#[derive(Debug, Clone, Copy)]
struct Run {
    /// CPU time of the server per delivery, in microseconds.
    cpu_us: f64,
    deliveries_a_second: f64,
    /// To the last receiver, in milliseconds.
    last_p50_ms: f64,
    last_p99_ms: f64,
}

/// A server under way; ended when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let folder = env::current_exe()?.parent().context("a program has a folder")?.to_owned();
    let mut page = head(arguments);
    for measure in MEASURES {
        let is_wanted = |word: &String| measure.name.contains(word.as_str());
        if !arguments.only.is_empty() && !arguments.only.iter().any(is_wanted) {
            continue;
        }
        let mut rounds = Vec::new();
        for _ in 0..arguments.rounds {
            let take = |server| take(&folder, server, measure, arguments.seconds);
            rounds.push([take(Server::Roomcast)?, take(Server::Unlogged)?, take(Server::Floor)?]);
        }
        let rows = rows(measure.name, &rounds)?;
        print!("{rows}");
        page.push_str(&rows);
    }
    let before = fs::read_to_string(&arguments.page).unwrap_or_default();
    page.push_str(before.find(BY_HAND).map_or("", |at| &before[at..]));
    fs::write(&arguments.page, page).with_context(|| format!("cannot write {}", arguments.page.display()))
}

fn take(folder: &Path, server: Server, measure: &Measure, seconds: u32) -> Result<Run> {
    let running = start(folder, server)?;
    let mut load = pinned(1, &folder.join("load-generator"));
    load.args(["--sessions", &measure.sessions.to_string(), "--output", "json", "--pid"]);
    load.arg(running.0.id().to_string());
    match server {
        Server::Roomcast | Server::Unlogged => load.args(measure.arguments).arg("--stream"),
        Server::Floor => {
            let (node, publishers) =
                (format!("ws://127.0.0.1:{FLOOR_PORT}/ws"), format!("127.0.0.1:{}", FLOOR_PORT + 1));
            load.args(["--nodes", &node, "--floor", &publishers]).args(measure.arguments)
        }
    };
    let out = load.args(["--seconds", &seconds.to_string()]).stderr(Stdio::inherit()).output()?;
    ensure!(out.status.success(), "{} failed against {server:?}", measure.name);
    read(&serde_json::from_slice(&out.stdout)?).context("the report of the load generator is strange")
}

fn read(report: &Value) -> Option<Run> {
    let received = report["deliveries"]["received"].as_f64()?;
    let pushes = report["pushes"]["accepted"].as_f64()?;
    let cpu_seconds = report["processes"][0]["cpu_seconds_pushing"].as_f64()?;
    let last = &report["latency_us"]["last"];
    Some(Run {
        cpu_us: cpu_seconds * 1e6 / received,
        deliveries_a_second: report["pushes"]["a_second"].as_f64()? * received / pushes,
        last_p50_ms: last["p50"].as_f64()? / 1e3,
        last_p99_ms: last["p99"].as_f64()? / 1e3,
    })
}

fn start(folder: &Path, server: Server) -> Result<Running> {
    let (program, arguments, ports): (_, &[&str], &[u16]) = match server {
        Server::Roomcast => ("standalone", &[], &[8080, 50053]),
        Server::Unlogged => {
            ("standalone", &["--set", "log.room=none", "--set", "log.user=none"], &[8080, 50053])
        }
        Server::Floor => ("floor", &[], &[FLOOR_PORT, FLOOR_PORT + 1]),
    };
    let mut command = pinned(0, &folder.join(program));
    match server {
        Server::Floor => command.arg(FLOOR_PORT.to_string()),
        _ => command.args(["--ephemeral", "--set", "room.default_max_users=20000"]).args(arguments),
    };
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let mut running = Running(child);
    let until = Instant::now() + READY_WITHIN;
    for port in ports {
        while !is_ready(*port, server != Server::Floor) {
            if running.0.try_wait()?.is_some() || Instant::now() > until {
                bail!("{program} does not start; are its ports free?");
            }
            sleep(LOOK_EVERY);
        }
    }
    Ok(running)
}

/// Whether somebody listens, and says so.
fn is_ready(port: u16, asks: bool) -> bool {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return false };
    let ask = b"GET /ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let mut answer = [0; 12];
    !asks
        || (stream.write_all(ask).and_then(|()| stream.read_exact(&mut answer)).is_ok()
            && answer.ends_with(b" 200"))
}

fn pinned(core: u8, program: &Path) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", &core.to_string()]).arg(program);
    command
}

/// One row for each of ours, in ratios to the floor of the same round.
fn rows(name: &str, rounds: &[[Run; 3]]) -> Result<String> {
    let mut text = String::new();
    for (index, words) in [(0, "default logs"), (1, "no logs")] {
        let of =
            |ratio: fn(&Run, &Run) -> f64| spread(rounds.iter().map(|round| ratio(&round[index], &round[2])));
        let own = |value: fn(&Run) -> f64| spread(rounds.iter().map(|round| value(&round[index])));
        writeln!(
            text,
            "| {name} | {words} | {} | {} | {} | {} | {} | {} |",
            of(|own, floor| own.cpu_us / floor.cpu_us),
            own(|run| run.cpu_us),
            of(|own, floor| own.deliveries_a_second / floor.deliveries_a_second),
            own(|run| run.deliveries_a_second),
            own(|run| run.last_p50_ms),
            own(|run| run.last_p99_ms),
        )?;
    }
    Ok(text)
}

/// Median, least and most.
fn spread(values: impl Iterator<Item = f64>) -> String {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let show = |value: f64| if value >= 1_000.0 { format!("{value:.0}") } else { format!("{value:.2}") };
    match values.as_slice() {
        [] => "-".to_owned(),
        [only] => show(*only),
        [least, .., most] => format!("{} ({}-{})", show(values[values.len() / 2]), show(*least), show(*most)),
    }
}

fn head(arguments: &Arguments) -> String {
    let (rounds, seconds) = (arguments.rounds, arguments.seconds);
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cores = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("unknown", |(_, model)| model);
    format!(
        "# Benchmarks\n\nWritten by `make bench`: {rounds} rounds of {seconds} s, Roomcast and the floor in turn, on {cores} cores ({model}). The\n\
         server has one core, the load generator the other. Roomcast is all three tiers in one process, receipts at WRITTEN, metrics\n\
         on, pushes over one PushStream. The floor is one thread that writes a frame to each socket (`tools/load-generator`,\n\
         `floor`). Medians, with the least and the most in parentheses; ratios are of the same round.\n\n\
         | what | logs | CPU a delivery, floor = 1 | in us | deliveries/s, floor = 1 | deliveries/s | last member p50, ms | p99, ms |\n\
         |---|---|---|---|---|---|---|---|\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_is_compared_with_its_own_floor() {
        let run = |cpu_us| Run { cpu_us, deliveries_a_second: 10.0, last_p50_ms: 1.0, last_p99_ms: 2.0 };
        let rounds =
            [[run(2.0), run(1.0), run(1.0)], [run(8.0), run(2.0), run(2.0)], [run(3.0), run(1.0), run(1.0)]];
        let text = rows("x", &rounds).unwrap();
        assert!(
            text.starts_with("| x | default logs | 3.00 (2.00-4.00) | 3.00 (2.00-8.00) | 1.00 (1.00-1.00) |"),
            "{text}"
        );
    }
}
