//! The `push-manager` program: arguments, configuration, run.

use std::{process::ExitCode, sync::Arc};

use clap::Parser;
use push_manager::Running;
use roomcast_runtime::{
    cli::{ConfigFlags, block_on, end, run_until_signal, workers},
    config::Program,
    logging,
};

/// More threads than a push-manager on a full lane of each node keeps busy.
const WORKERS_MAX: usize = 16;

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
    let starting = push_manager::run(Arc::new(config));
    let running = run_until_signal(starting, |_| {}, Running::failed, Running::end, Running::end_limit);
    block_on(workers(WORKERS_MAX), running)
}
