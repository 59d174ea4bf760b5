//! `make drill`: breaks a platform of separate processes at random and tells whether anything was lost unseen.

#![allow(clippy::print_stdout, reason = "a command-line tool")]

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::{Parser, value_parser};
use roomcast_testkit::{
    drill::{Course, Setup, crowd, run, scenarios},
    programs,
};

/// Starts etcd, MariaDB, Redis and the platform of its own on loopback addresses, a crowd of sessions and a publisher;
/// breaks something every few seconds, heals it, and checks that everything accepted arrived or was flagged. The
/// programs are those beside this one. Exits with 1 when a check fails.
#[derive(Debug, Parser)]
#[command(name = "drill")]
struct Arguments {
    /// How long.
    #[arg(long, default_value_t = 600, value_parser = value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// Of everything that is left to chance; a fresh one unless given.
    #[arg(long)]
    seed: Option<u64>,
    #[arg(long, default_value_t = 10_000, value_parser = value_parser!(u32).range(1..=40_000))]
    sessions: u32,
    #[arg(long, default_value_t = 100, value_parser = value_parser!(u32).range(1..=10_000))]
    rooms: u32,
    /// Pushes a second.
    #[arg(long, default_value_t = 100, value_parser = value_parser!(u32).range(1..=10_000))]
    rate: u32,
    /// From one fault to the next, in seconds.
    #[arg(long, default_value_t = 10, value_parser = value_parser!(u64).range(1..=3_600))]
    every: u64,
    /// Only this scenario, in place of drawn ones.
    #[arg(long)]
    scenario: Option<String>,
    /// How often.
    #[arg(long, default_value_t = 1, value_parser = value_parser!(u32).range(1..=1_000))]
    times: u32,
    #[arg(long, default_value_t = 3, value_parser = value_parser!(u8).range(1..=50))]
    nodes: u8,
    /// Sessions are the product's own client in place of one that costs less.
    #[arg(long)]
    product: bool,
    /// No proxies between the parts, for scenarios that break processes or stores alone: they take a tenth of two cores.
    #[arg(long)]
    direct: bool,
    /// It is a failure, too, when something takes longer than promised.
    #[arg(long)]
    timed: bool,
    /// Where logs go when a check fails.
    #[arg(long, default_value = "drill-logs")]
    logs: PathBuf,
    /// Tells what scenarios there are.
    #[arg(long)]
    list: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.list {
        for scenario in scenarios::all() {
            let drawn = if scenario.is_drawn { "" } else { " (not drawn)" };
            println!("{:<32} {}{drawn}", scenario.name, scenario.promise);
        }
        return ExitCode::SUCCESS;
    }
    let seed = arguments.seed.unwrap_or_else(fresh_seed);
    let mut setup = Setup::large(programs::beside(), seed);
    (setup.sessions, setup.rooms) = (arguments.sessions as usize, arguments.rooms as usize);
    (setup.rate, setup.parts[2]) = (arguments.rate, arguments.nodes.into());
    (setup.is_timed, setup.logs) = (arguments.timed, Some(arguments.logs));
    setup.is_proxied = !arguments.direct;
    if arguments.product {
        setup.kind = crowd::Kind::Product;
    }
    println!(
        "seed {seed}: {} sessions, {} rooms, {} pushes a second",
        setup.sessions, setup.rooms, setup.rate
    );
    let report = match &arguments.scenario {
        None => {
            let (every, time) =
                (Duration::from_secs(arguments.every), Duration::from_secs(arguments.seconds));
            run(&setup, Course::Drawn { every, time }).await
        }
        Some(name) => match scenarios::named(name) {
            Some(scenario) => {
                println!("{}: {}", scenario.name, scenario.promise);
                run(&setup, Course::Scenario(scenario, arguments.times as usize)).await
            }
            None => {
                println!("there is no scenario {name}; --list has all");
                return ExitCode::from(2);
            }
        },
    };
    print!("{report}");
    if report.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn fresh_seed() -> u64 {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
    u64::from(since.subsec_nanos()) ^ since.as_secs()
}
