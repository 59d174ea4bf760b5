//! The `controller-manager` program: arguments, configuration, run.

use std::{process::ExitCode, sync::Arc};

use clap::Parser;
use controller_manager::Running;
use roomcast_runtime::{
    Causes, Config,
    cli::{ConfigFlags, block_on, end, run_until_signal, say, workers},
    config::{DatabaseTarget, Program, RedisTarget},
    logging,
};
use roomcast_store::Migrated;

/// More threads than the stores keep busy.
const WORKERS_MAX: usize = 16;

/// Keeps rooms, seats and who is where.
#[derive(Debug, Parser)]
#[command(name = "controller-manager", version)]
struct Arguments {
    /// Brings the database's schema up to date, and ends. Safe to repeat.
    #[arg(long)]
    migrate: bool,
    #[command(flatten)]
    config: ConfigFlags,
}

fn main() -> ExitCode {
    end("controller-manager", run(&Arguments::parse()))
}

fn run(arguments: &Arguments) -> Result<(), String> {
    let Some(config) = arguments.config.load(Program::Controller)? else { return Ok(()) };
    logging::init(&config.log);
    if arguments.migrate {
        return block_on(0, migrate(&config));
    }
    warn_of_own_stores(&config);
    let starting = controller_manager::run(Arc::new(config));
    let running = run_until_signal(starting, |_| {}, Running::failed, Running::end, Running::end_limit);
    block_on(workers(WORKERS_MAX), running)
}

async fn migrate(config: &Config) -> Result<(), String> {
    let database = &config.database;
    let migrated = roomcast_store::migrate(database).await;
    let Migrated { version, .. } =
        migrated.map_err(|error| format!("{}: {}", database.shown(), Causes(&error)))?;
    let place = match database.target() {
        Ok(DatabaseTarget::Mysql(target)) => {
            format!("database {} at {}:{}", target.dbname, target.host, target.port)
        }
        _ => database.shown(),
    };
    say(&format!("The schema is in place: version {version} in {place}."));
    Ok(())
}

/// What another controller does not see, it would contradict.
fn warn_of_own_stores(config: &Config) {
    let mut own = Vec::new();
    if matches!(config.database.target(), Ok(DatabaseTarget::Sqlite { .. })) {
        own.push(config.database.shown());
    }
    if config.redis.target() == Ok(RedisTarget::Memory) {
        own.push(config.redis.shown());
    }
    if !own.is_empty() {
        tracing::warn!(
            stores = own.join(", "),
            "other controllers do not share these stores: run this one only"
        );
    }
}
