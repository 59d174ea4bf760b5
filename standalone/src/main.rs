//! The `standalone` program: the whole platform in one process.

use std::{process::ExitCode, time::Duration};

use clap::Parser;
use roomcast_runtime::{
    Config,
    cli::{ConfigFlags, block_on, end, run_until_signal},
    config::{DatabaseTarget, Program},
    logging,
};
use standalone::{Options, Platform, ports::NODES_MAX};

/// Longer than all of it takes to stop in order; what takes longer hangs.
const STOP_MAX: Duration = Duration::from_secs(20);

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
    if !config.network.bind.is_loopback() {
        tracing::warn!(
            bind = %config.network.bind,
            "other machines can reach this platform and nothing asks for credentials"
        );
    }
    let place = place_of_rooms(&config, arguments.ephemeral);
    let starting =
        Platform::start(Options { config, nodes: arguments.nodes, is_ephemeral: arguments.ephemeral });
    let started = |platform: &Platform| show(platform, &place);
    // All nodes end together: nobody could go to another one, so nobody is told to.
    let end = async |platform: Platform, _| platform.stop().await;
    block_on(0, run_until_signal(starting, started, Platform::failed, end, |_| STOP_MAX))
}

fn place_of_rooms(config: &Config, is_ephemeral: bool) -> String {
    match config.database.target() {
        _ if is_ephemeral => "in memory".to_owned(),
        Ok(DatabaseTarget::Sqlite { folder }) => {
            format!("in {}", std::path::absolute(&folder).unwrap_or(folder).display())
        }
        _ => format!("in {}", config.database.shown()),
    }
}

#[allow(clippy::print_stdout, reason = "the program's answer to its user")]
fn show(platform: &Platform, place: &str) {
    let push = platform.push_manager();
    println!("Roomcast runs. Rooms are kept {place}.\n");
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
        println!("                    You are the first in room-001; a room begins with its first member.");
    }
    let to = push.grpc_address();
    if let Some(client) = biz_client() {
        println!("Then push:          {client} --push-manager {to} push room room-001 \"Hello\"");
    }
    println!(
        "or with curl:       curl -X POST http://{to}/v1/push/room/room-001 -d '{{\"content\":{{\"type\":\"TEXT\",\"data\":\"Hello\"}}}}'"
    );
    println!("\nCtrl-C stops everything.");
}

/// The command line that was built beside this program, as one would write it here; `None` when it is not there.
fn biz_client() -> Option<String> {
    let program = std::env::current_exe().ok()?.with_file_name("biz-client");
    if !program.is_file() {
        return None;
    }
    let here = std::env::current_dir().ok();
    let short = here.and_then(|here| program.strip_prefix(here).ok());
    Some(short.unwrap_or(&program).display().to_string())
}
