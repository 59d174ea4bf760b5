//! Measures the platform over its public interfaces, from a process of its own.

mod args;
mod counters;
mod course;
mod crowd;
mod floor;
mod http;
mod joins;
mod mixed;
mod process;
mod report;
mod scenario;
mod schedule;
mod session;
mod stuck;
mod tally;
mod target;
mod timeline;
mod wire;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Args, Format, Measurement};

fn main() -> ExitCode {
    let args = Args::parse();
    let measured = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(measure(&args)));
    let (text, verdict) = match measured {
        Ok(measured) => measured,
        Err(error) => {
            eprintln!("load-generator: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    // A reader that went away changes nothing about the result.
    let _ = std::io::Write::write_all(&mut std::io::stdout(), text.as_bytes());
    match verdict {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("load-generator: {why}");
            ExitCode::FAILURE
        }
    }
}

/// The result as text, and whether it is one to be content with.
async fn measure(args: &Args) -> anyhow::Result<(String, Result<(), String>)> {
    let is_table = args.common.format() == Format::Table;
    match &args.measurement {
        Measurement::Load(scenario) => {
            let report = scenario::run(&args.common, scenario).await?;
            Ok((if is_table { report.table() } else { report.json() }, report.verdict()))
        }
        Measurement::Stuck(stuck) => {
            let report = stuck::run(&args.common, stuck).await?;
            Ok((if is_table { report.table() } else { report.json() }, Ok(())))
        }
        Measurement::Mixed(mixed) => {
            let report = mixed::run(&args.common, mixed).await?;
            Ok((if is_table { report.table() } else { report.json() }, report.verdict()))
        }
    }
}
