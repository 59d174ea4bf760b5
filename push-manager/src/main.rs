//! The `push-manager` program: arguments, configuration, run.

use std::process::ExitCode;

use clap::Parser;
use roomcast_runtime::{
    cli::{ConfigFlags, NO_SHARED_REGISTRY, end},
    config::Program,
    logging,
};

/// Takes pushes from business servers and delivers them through the connect-nodes.
#[derive(Debug, Parser)]
#[command(name = "push-manager", version)]
struct Arguments {
    #[command(flatten)]
    config: ConfigFlags,
}

fn main() -> ExitCode {
    end("push-manager", run(&Arguments::parse()))
}

fn run(arguments: &Arguments) -> Result<(), String> {
    let Some(config) = arguments.config.load(Program::PushManager)? else { return Ok(()) };
    logging::init(&config.log);
    Err(NO_SHARED_REGISTRY.to_owned())
}
