//! Measures the platform over its public interfaces, from a process of its own.

mod args;
mod counters;
mod crowd;
mod joins;
mod process;
mod report;
mod scenario;
mod schedule;
mod session;
mod tally;
mod target;
mod timeline;
mod wire;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Args, Format};

fn main() -> ExitCode {
    let args = Args::parse();
    let report = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(scenario::run(&args)));
    let report = match report {
        Ok(report) => report,
        Err(error) => {
            eprintln!("load-generator: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    let text = match args.common.output {
        Format::Table => report.table(),
        Format::Json => report.json(),
    };
    // A reader that went away changes nothing about the result.
    let _ = std::io::Write::write_all(&mut std::io::stdout(), text.as_bytes());
    match report.verdict() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("load-generator: {why}");
            ExitCode::FAILURE
        }
    }
}
