//! `make bench`: Roomcast beside the floor, in turn, and what a delivery costs in ratios to it.
//!
//! Each round starts every server afresh on the first core and the load generator on the second. What is compared is the CPU
//! time of the server's processes, all three tiers together, per delivery: of one round, because the machine's speed changes.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line tool")]

mod load;
mod measures;
mod page;
mod servers;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result, ensure};
use clap::{Parser, value_parser};

use crate::{
    load::{Run, take},
    measures::{GROWTH, MEASURES, Measure},
    page::{IDLES, LOADS, head, idle_row, load_row},
    servers::FLOOR,
};

/// From here on the page is written by hand and kept.
const BY_HAND: &str = "\n## Where the rest goes";

/// Measures Roomcast beside the floor and writes a page of ratios. The usual ports of Roomcast and 9310, 9311, 9320, 9321
/// have to be free. The programs are those beside this one.
#[derive(Debug, Parser)]
struct Arguments {
    /// How often each measure is taken, all servers in turn: medians are told, with the least and the most.
    #[arg(long, default_value_t = 3, value_parser = value_parser!(u32).range(1..=99))]
    rounds: u32,
    /// How long each lasts; idle sessions are looked at ten times as long.
    #[arg(long, default_value_t = 3, value_parser = value_parser!(u32).range(1..=60))]
    seconds: u32,
    /// Only measures of these sets, separated by commas; --list tells all.
    #[arg(long, value_delimiter = ',')]
    set: Vec<String>,
    /// Only measures with one of these words in their names; may be given several times.
    #[arg(long)]
    only: Vec<String>,
    /// How the ratios change with members, rooms and nodes, in place of the measures of the page.
    #[arg(long)]
    growth: bool,
    /// Tells sets and names, and ends.
    #[arg(long)]
    list: bool,
    /// Where the page goes: docs/benchmarks.md, or docs/growth.md with --growth; a part of the measures is only printed
    /// when nothing is said.
    #[arg(long)]
    page: Option<PathBuf>,
    /// Folder of the programs; that of this one when nothing is said.
    #[arg(long)]
    programs: Option<PathBuf>,
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

impl Arguments {
    fn is_wanted(&self, measure: &Measure) -> bool {
        let is_of_set = self.set.is_empty() || self.set.iter().any(|set| set == measure.set);
        let has_word =
            self.only.is_empty() || self.only.iter().any(|word| measure.name.contains(word.as_str()));
        is_of_set && has_word
    }

    fn page(&self) -> Option<PathBuf> {
        let is_whole = self.set.is_empty() && self.only.is_empty();
        let usual = if self.growth { "docs/growth.md" } else { "docs/benchmarks.md" };
        self.page.clone().or_else(|| is_whole.then(|| usual.into()))
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let all = if arguments.growth { GROWTH } else { MEASURES };
    let wanted: Vec<_> = all.iter().filter(|measure| arguments.is_wanted(measure)).collect();
    ensure!(!wanted.is_empty(), "there is no such measure; --list tells all");
    if arguments.list {
        for measure in wanted {
            println!("{:<12}{}", measure.set, measure.name);
        }
        return Ok(());
    }
    let programs = match &arguments.programs {
        Some(programs) => programs.clone(),
        None => env::current_exe()?.parent().context("a program has a folder")?.to_owned(),
    };
    let (mut loads, mut idles) = (String::new(), String::new());
    for measure in wanted {
        let rows = rows(measure, arguments, &programs)?;
        print!("{}{}", rows.0, rows.1);
        loads.push_str(&rows.0);
        idles.push_str(&rows.1);
    }
    let Some(page) = arguments.page() else { return Ok(()) };
    let (title, command) =
        if arguments.growth { ("Growth", "make bench-growth") } else { ("Benchmarks", "make bench") };
    let mut text = head(title, command, arguments.rounds, arguments.seconds);
    text.push_str(&table(LOADS, &loads));
    if !idles.is_empty() {
        text.push_str("\n## Idle sessions\n\n");
        text.push_str(&table(IDLES, &idles));
    }
    let before = fs::read_to_string(&page).unwrap_or_default();
    text.push_str(before.find(BY_HAND).map_or("", |at| &before[at..]));
    fs::write(&page, text).with_context(|| format!("cannot write {}", page.display()))
}

fn table(head: &str, rows: &str) -> String {
    if rows.is_empty() { String::new() } else { format!("{head}{rows}") }
}

/// Rows of one measure for the table of loads and for that of idle sessions; all rounds of all servers in turn.
fn rows(measure: &Measure, arguments: &Arguments, programs: &Path) -> Result<(String, String)> {
    let mut runs: Vec<Vec<Run>> = measure.contenders.iter().map(|_| Vec::new()).collect();
    let mut floors = Vec::new();
    for round in 1..=arguments.rounds {
        eprintln!("{}, round {round} of {}", measure.name, arguments.rounds);
        for (contender, runs) in measure.contenders.iter().zip(&mut runs) {
            runs.push(take(programs, &contender.server, contender.way, measure, arguments.seconds)?);
        }
        floors.push(take(programs, &FLOOR, "", measure, arguments.seconds)?);
    }
    let (mut loads, mut idles) = (String::new(), String::new());
    let is_idle = floors.iter().all(|run| run.idle.is_some());
    for (contender, runs) in measure.contenders.iter().zip(&runs) {
        if is_idle {
            idles.push_str(&idle_row(measure.name, contender.server.words, runs)?);
        } else {
            let words = format!("{}, {}", contender.server.words, contender.way.trim_start_matches('-'));
            loads.push_str(&load_row(measure.name, &words, runs, &floors)?);
        }
    }
    if is_idle {
        idles.push_str(&idle_row(measure.name, FLOOR.words, &floors)?);
    }
    Ok((loads, idles))
}
