//! The controller-manager as a process of its own.

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;
use roomcast_runtime::{
    Config,
    config::{ConfigError, Layers, Program},
    logging,
};

/// Keeps rooms, seats and who is where.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Arguments {
    /// YAML laid over the defaults.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Sets one key, for example server.port=50051; may be repeated.
    #[arg(long = "set", value_name = "PATH=VALUE")]
    sets: Vec<String>,
    /// Checks the configuration and ends.
    #[arg(long)]
    check_config: bool,
    /// Prints the whole configuration and ends.
    #[arg(long)]
    print_config: bool,
}

fn load(arguments: &Arguments) -> Result<Config, ConfigError> {
    let mut layers = Layers::default();
    if let Some(file) = &arguments.config {
        layers = layers.with_file(file)?;
    }
    layers.with_environment(std::env::vars()).with_sets(arguments.sets.clone()).load(Program::Controller)
}

#[allow(clippy::print_stdout, reason = "what was asked for goes to standard output")]
fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let config = match load(&arguments) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("controller-manager: {error}");
            return ExitCode::FAILURE;
        }
    };
    if arguments.print_config {
        match serde_json::to_string_pretty(&config) {
            Ok(text) => println!("{text}"),
            Err(error) => {
                eprintln!("controller-manager: {error}");
                return ExitCode::FAILURE;
            }
        }
    }
    if arguments.check_config || arguments.print_config {
        return ExitCode::SUCCESS;
    }
    logging::init(&config.log);
    eprintln!(
        "controller-manager: no registry is configured that other processes can reach; \
         run `standalone` for all tiers in one process"
    );
    ExitCode::FAILURE
}
