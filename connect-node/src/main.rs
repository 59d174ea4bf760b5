//! The `connect-node` program: arguments, configuration, run.

use std::process::ExitCode;

use clap::Parser;
use roomcast_runtime::{
    cli::{ConfigFlags, NO_SHARED_REGISTRY, end},
    config::Program,
    logging,
};

/// Holds WebSocket sessions and delivers pushes to them.
#[derive(Debug, Parser)]
#[command(name = "connect-node", version)]
struct Arguments {
    #[command(flatten)]
    config: ConfigFlags,
}

fn main() -> ExitCode {
    end("connect-node", run(&Arguments::parse()))
}

fn run(arguments: &Arguments) -> Result<(), String> {
    let Some(config) = arguments.config.load(Program::ConnectNode)? else { return Ok(()) };
    logging::init(&config.log);
    Err(NO_SHARED_REGISTRY.to_owned())
}
