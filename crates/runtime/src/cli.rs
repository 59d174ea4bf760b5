//! What the programs' command lines share: where the configuration comes from, and how a program ends.

use std::{io::Write, path::PathBuf, process::ExitCode};

use crate::{
    Config,
    config::{Layers, Program},
};

/// Flags that every program of the platform takes.
#[derive(Debug, Clone, clap::Args)]
pub struct ConfigFlags {
    /// YAML file laid over the defaults.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Sets any key, for example --set room.default_max_users=1000. May be repeated.
    #[arg(long = "set", value_name = "PATH=VALUE")]
    sets: Vec<String>,
    /// Says whether the configuration is valid, and ends.
    #[arg(long)]
    check_config: bool,
    /// Prints the configuration in force, and ends.
    #[arg(long)]
    print_config: bool,
}

impl ConfigFlags {
    /// Reads file, environment and flags. `None` when the user asked to see or check it: that is done then. Errors:
    /// every problem, a line each.
    pub fn load(&self, program: Program) -> Result<Option<Config>, String> {
        let mut layers = Layers::default();
        if let Some(path) = &self.config {
            layers = layers.with_file(path).map_err(|error| error.to_string())?;
        }
        let layers = layers.with_environment(std::env::vars()).with_sets(self.sets.clone());
        let config = layers.load(program).map_err(|error| error.to_string())?;
        if self.print_config {
            let text = serde_saphyr::to_string(&config).map_err(|error| error.to_string())?;
            say(text.trim_end());
        } else if self.check_config {
            say("The configuration is valid.");
        } else {
            return Ok(Some(config));
        }
        Ok(None)
    }
}

/// A reader that has seen enough, such as `head`, is no failure.
fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// The end of a program: an error is its name and one line on standard error.
pub fn end(program: &str, result: Result<(), String>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(line) => {
            eprintln!("{program}: {line}");
            ExitCode::FAILURE
        }
    }
}

/// Why one tier does not run as a process of its own in this build.
pub const NO_SHARED_REGISTRY: &str =
    "no registry is configured that other processes can reach; run `standalone` for all tiers in one process";
