//! The controller-manager as a process of its own.

use std::{io::Write, path::PathBuf, process::ExitCode};

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

fn run(arguments: &Arguments) -> Result<(), String> {
    let config = load(arguments).map_err(|error| error.to_string())?;
    if arguments.print_config {
        let text = serde_saphyr::to_string(&config).map_err(|error| error.to_string())?;
        // A reader that has seen enough, such as `head`, is no failure.
        let _ = writeln!(std::io::stdout(), "{}", text.trim_end());
    }
    if arguments.check_config || arguments.print_config {
        return Ok(());
    }
    logging::init(&config.log);
    Err("no registry is configured that other processes can reach; run `standalone` for all tiers in one process"
        .to_owned())
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(line) => {
            eprintln!("controller-manager: {line}");
            ExitCode::FAILURE
        }
    }
}
