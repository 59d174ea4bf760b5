//! What the programs' command lines share: where the configuration comes from, how a program runs until it is told to
//! stop, and how it ends.

use std::{io::Write, path::PathBuf, process::ExitCode, time::Duration};

use tokio::{
    runtime::Builder,
    signal::unix::{Signal, SignalKind, signal},
    time::timeout,
};

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

/// Prints a line. A reader that has seen enough, such as `head`, is no failure.
pub fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Runs a program's future on a tokio runtime with this many workers; 0: on this thread alone.
pub fn block_on(workers: usize, main: impl Future<Output = Result<(), String>>) -> Result<(), String> {
    let mut builder = if workers == 0 { Builder::new_current_thread() } else { Builder::new_multi_thread() };
    let runtime = builder
        .worker_threads(workers.max(1))
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start threads: {error}"))?;
    let result = runtime.block_on(main);
    // What still runs is abandoned with the process: nothing in it may delay the end.
    runtime.shutdown_background();
    result
}

/// As many workers as this machine has cores, but at most `max`.
pub fn workers(max: usize) -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(max)
}

/// Why a service ends without a signal.
#[derive(Debug, PartialEq, Eq)]
pub enum Over {
    /// Somebody asked for it over the service's own interface.
    Asked,
    /// It cannot go on; says why.
    Failed(String),
}

impl From<String> for Over {
    fn from(why: String) -> Self {
        Self::Failed(why)
    }
}

/// How a service ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Hands its work over to the others of its kind before it goes.
    Drain,
    /// Only puts in order what takes no time.
    Stop,
}

/// Starts a service and runs it until SIGINT, SIGTERM or somebody who may ask for it ends it, which drains it, or until
/// it fails, which stops it and is the error. A signal while it starts ends it at once, and so does a second one while
/// it drains or stops. `limit` says how long its end may take: what takes longer hangs.
pub async fn run_until_signal<S, E: std::fmt::Display, O: Into<Over>>(
    starting: impl Future<Output = Result<S, E>>,
    started: impl FnOnce(&S),
    over: impl AsyncFn(&mut S) -> O,
    end: impl AsyncFnOnce(S, End),
    limit: impl FnOnce(&S) -> Duration,
) -> Result<(), String> {
    let mut signals = Signals::new()?;
    let mut service = tokio::select! {
        started = starting => started.map_err(|error| error.to_string())?,
        name = signals.next() => {
            tracing::info!(signal = name, "ended before it had started");
            return Ok(());
        }
    };
    started(&service);
    let limit = limit(&service);
    let why = tokio::select! {
        name = signals.next() => {
            tracing::info!(signal = name, "stopping; a second signal ends it at once");
            Over::Asked
        }
        over = over(&mut service) => over.into(),
    };
    let (how, result) = match why {
        Over::Asked => (End::Drain, Ok(())),
        Over::Failed(why) => (End::Stop, Err(why)),
    };
    tokio::select! {
        ended = timeout(limit, end(service, how)) => match ended {
            Ok(()) => result,
            Err(_) => Err(format!("not everything stopped within {} s", limit.as_secs())),
        },
        name = signals.next() => Err(format!("a second signal ({name}) ended it before everything was stopped")),
    }
}

/// SIGINT (Ctrl-C) and SIGTERM.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> Result<Self, String> {
        let watch = |kind| signal(kind).map_err(|error| format!("cannot watch for signals: {error}"));
        Ok(Self { interrupt: watch(SignalKind::interrupt())?, terminate: watch(SignalKind::terminate())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
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
