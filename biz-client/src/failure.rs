//! Ends with one line that says what, where and what to do, and the exit code that goes with it.

use std::process::ExitCode;

use roomcast_client::Error;

/// Why the command did not do what it was asked.
#[derive(Debug)]
pub enum Failure {
    /// The command line makes no sense.
    Usage(String),
    /// Refused, or nobody answered.
    Refused(String),
    /// Accepted, and the level that was asked for was not reached in time: what was printed says so.
    Incomplete,
    /// Nobody reads what is printed: not worth a word.
    Unread,
}

impl Failure {
    /// Says so on standard error.
    pub fn report(self) -> ExitCode {
        match self {
            Self::Usage(text) => {
                eprintln!("biz-client: {text}");
                ExitCode::from(2)
            }
            Self::Refused(text) => {
                eprintln!("biz-client: {text}");
                ExitCode::FAILURE
            }
            Self::Incomplete => ExitCode::from(3),
            Self::Unread => ExitCode::FAILURE,
        }
    }

    /// A call to a server that failed; `option` is the flag that names the server.
    pub fn of(server: &str, option: &str, error: Error) -> Self {
        let cause = error.cause().map(|cause| format!(" ({cause})")).unwrap_or_default();
        let text = match error {
            Error::InvalidAddress { .. } => return Self::Usage(format!("{option}: {error}")),
            Error::Unreachable { address, .. } => format!(
                "{server} at {address} does not answer{cause}; is it running? `standalone` starts all tiers, \
                 {option} names another address"
            ),
            Error::Interrupted { address, .. } => format!(
                "the connection to {server} at {address} broke before it answered{cause}; \
                 it may have done what was asked"
            ),
            Error::Deadline { after } => format!(
                "{server} gave no answer within {after:?}; it may have done what was asked; \
                 --timeout gives it longer"
            ),
            other => other.to_string(),
        };
        Self::Refused(text)
    }
}

/// Help and version go to standard output; a mistake becomes one line.
pub fn usage(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    if error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let _ = error.print();
        return ExitCode::from(2);
    }
    let text = error.render().to_string();
    let said = text
        .lines()
        .map(str::trim)
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more information"));
    let line = said.filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
    let line = line.strip_prefix("error: ").unwrap_or(&line);
    eprintln!("biz-client: {line}; --help tells more");
    ExitCode::from(2)
}
