//! Structured logs: one line per event on standard error, ids as fields, no payloads, no tokens.

use std::io::IsTerminal;

use tracing_subscriber::{EnvFilter, fmt, util::SubscriberInitExt};

use crate::config::{Log, LogFormat};

/// Installs the process's log. Called once, in `main`; a second call changes nothing.
pub fn init(config: &Log) {
    let filter = EnvFilter::try_new(&config.level).unwrap_or_else(|_| EnvFilter::new("info"));
    let is_terminal = std::io::stderr().is_terminal();
    let builder = fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(is_terminal);
    let _ = match config.format {
        LogFormat::Text => builder.with_target(true).finish().try_init(),
        LogFormat::Json => builder.json().flatten_event(true).finish().try_init(),
    };
}
