//! The `standalone` program: the whole platform in one process.

use std::process::ExitCode;

use clap::Parser;
use roomcast_runtime::{
    cli::{ConfigFlags, end},
    config::Program,
    logging,
};
use standalone::{Options, Platform, ports::NODES_MAX};

/// Roomcast in one process: controller-manager, push-manager and connect-nodes on their usual ports.
#[derive(Debug, Parser)]
#[command(name = "standalone", version)]
struct Arguments {
    /// How many connect-nodes: HTTP on 8080, 8081, …
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=i64::from(NODES_MAX)))]
    nodes: u16,
    /// Keep rooms in memory only; nothing is written.
    #[arg(long)]
    ephemeral: bool,
    #[command(flatten)]
    config: ConfigFlags,
}

fn main() -> ExitCode {
    end("standalone", run(&Arguments::parse()))
}

fn run(arguments: &Arguments) -> Result<(), String> {
    let Some(config) = arguments.config.load(Program::Standalone)? else { return Ok(()) };
    logging::init(&config.log);
    let options = Options { config, nodes: arguments.nodes, is_ephemeral: arguments.ephemeral };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start: {error}"))?;
    runtime.block_on(serve(options))
}

async fn serve(options: Options) -> Result<(), String> {
    let mut end = end_signal()?;
    let data = if options.is_ephemeral {
        "in memory".to_owned()
    } else {
        let path = &options.config.database.path;
        format!("in {}", std::path::absolute(path).unwrap_or_else(|_| path.clone()).display())
    };
    if !options.config.network.bind.is_loopback() {
        tracing::warn!(
            bind = %options.config.network.bind,
            "other machines can reach this platform and nothing asks for credentials"
        );
    }
    let starting = Platform::start(options);
    let mut platform = tokio::select! {
        started = starting => started.map_err(|error| error.to_string())?,
        () = end.recv() => return Ok(()),
    };
    show(&platform, &data);
    let failure = tokio::select! {
        () = end.recv() => None,
        why = platform.failed() => Some(why),
    };
    eprintln!("Stopping; press Ctrl-C again to end at once.");
    tokio::select! {
        () = platform.stop() => {}
        () = end.recv() => return Err("ended before everything was stopped".to_owned()),
    }
    failure.map_or(Ok(()), Err)
}

#[allow(clippy::print_stdout, reason = "the program's answer to its user")]
fn show(platform: &Platform, data: &str) {
    let push = platform.push_manager();
    println!("Roomcast runs. Rooms are kept {data}.\n");
    for node in platform.nodes() {
        let (http, grpc, metrics) = (node.http_address(), node.grpc_address(), node.metrics_address());
        println!(
            "  {:<16} page http://{http}/  gRPC {grpc}  metrics http://{metrics}/metrics",
            node.node_id()
        );
    }
    let (grpc, metrics) = (push.grpc_address(), push.metrics_address());
    println!("  {:<16} gRPC and JSON {grpc}  metrics http://{metrics}/metrics", "push-manager");
    let (grpc, metrics) = (platform.controller().grpc_address(), platform.controller().metrics_address());
    println!("  {:<16} gRPC {grpc}  metrics http://{metrics}/metrics", "controller");
    if let Some(first) = platform.nodes().next() {
        println!("\nOpen in a browser:  http://{}/?connect=1", first.http_address());
    }
    let to = push.grpc_address();
    println!(
        "Then push:          cargo run --release -q -p biz-client -- --push-manager {to} push room room-001 \"Hello\""
    );
    println!(
        "or:                 curl -X POST http://{to}/v1/push/room/room-001 -d '{{\"content\":{{\"type\":\"TEXT\",\"data\":\"Hello\"}}}}'"
    );
    println!("\nCtrl-C stops everything.");
}

/// Ctrl-C and SIGTERM.
struct EndSignal {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl EndSignal {
    async fn recv(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

fn end_signal() -> Result<EndSignal, String> {
    use tokio::signal::unix::{SignalKind, signal};
    let failed = |error: std::io::Error| format!("cannot watch for signals: {error}");
    Ok(EndSignal {
        interrupt: signal(SignalKind::interrupt()).map_err(failed)?,
        terminate: signal(SignalKind::terminate()).map_err(failed)?,
    })
}
