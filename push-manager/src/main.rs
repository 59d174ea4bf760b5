//! The `push-manager` program: arguments, configuration, run.

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;
use roomcast_runtime::{
    Config,
    config::{Layers, Program},
    logging,
};

/// Takes pushes from business servers and delivers them through the connect-nodes.
#[derive(Debug, Parser)]
#[command(name = "push-manager", version)]
struct Arguments {
    /// YAML file laid over the defaults.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Sets any key, for example --set push_manager.port=50063. May be repeated.
    #[arg(long = "set", value_name = "PATH=VALUE")]
    sets: Vec<String>,
    /// Says whether the configuration is valid, and ends.
    #[arg(long)]
    check_config: bool,
    /// Prints the configuration in force, and ends.
    #[arg(long)]
    print_config: bool,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(line) => {
            eprintln!("push-manager: {line}");
            ExitCode::FAILURE
        }
    }
}

#[allow(clippy::print_stdout, reason = "what a user asked to see")]
fn run(arguments: &Arguments) -> Result<(), String> {
    let config = load(arguments)?;
    if arguments.check_config {
        println!("The configuration is valid.");
        return Ok(());
    }
    if arguments.print_config {
        let text = serde_saphyr::to_string(&config).map_err(|error| error.to_string())?;
        println!("{}", text.trim_end());
        return Ok(());
    }
    logging::init(&config.log);
    Err("no registry is configured that other processes can reach; run `standalone` for all tiers in one process"
        .to_owned())
}

fn load(arguments: &Arguments) -> Result<Config, String> {
    let mut layers = Layers::default();
    if let Some(path) = &arguments.config {
        layers = layers.with_file(path).map_err(|error| error.to_string())?;
    }
    layers
        .with_environment(std::env::vars())
        .with_sets(arguments.sets.clone())
        .load(Program::PushManager)
        .map_err(|error| error.to_string())
}
