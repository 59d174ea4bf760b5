//! The `controller-manager` program: arguments, configuration, run.

use std::process::ExitCode;

use clap::Parser;
use roomcast_runtime::{
    cli::{ConfigFlags, NO_SHARED_REGISTRY, end},
    config::Program,
    logging,
};

/// Keeps rooms, seats and who is where.
#[derive(Debug, Parser)]
#[command(name = "controller-manager", version)]
struct Arguments {
    #[command(flatten)]
    config: ConfigFlags,
}

fn main() -> ExitCode {
    end("controller-manager", run(&Arguments::parse()))
}

fn run(arguments: &Arguments) -> Result<(), String> {
    let Some(config) = arguments.config.load(Program::Controller)? else { return Ok(()) };
    logging::init(&config.log);
    Err(NO_SHARED_REGISTRY.to_owned())
}
