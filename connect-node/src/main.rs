//! The `connect-node` program: arguments, configuration, run.

use std::{process::ExitCode, sync::Arc};

use clap::Parser;
use connect_node::Running;
use roomcast_runtime::{
    cli::{ConfigFlags, block_on, end, run_until_signal, workers},
    config::Program,
    logging,
};

/// Lanes and reports have these; the shards, which do most of the work, have threads of their own.
const WORKERS_MAX: usize = 2;

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

/// Idle sessions are many small things that lie apart: large pages that hold a few of them each cost some 600 bytes a
/// session (15,000 sessions; `make bench SET=idle`).
fn use_small_pages() {
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        tracing::debug!(%error, "large pages stay on; sessions take more memory");
    }
}

fn run(arguments: &Arguments) -> Result<(), String> {
    let Some(config) = arguments.config.load(Program::ConnectNode)? else { return Ok(()) };
    logging::init(&config.log);
    use_small_pages();
    let starting = connect_node::run(Arc::new(config));
    let running = run_until_signal(starting, |_| {}, Running::over, Running::end, Running::end_limit);
    block_on(workers(WORKERS_MAX), running)
}
