//! The command line of a business server: pushes, and looks after rooms, users and nodes.

mod args;
mod audit;
mod degraded;
mod explain;
mod failure;
mod history;
mod listen;
mod message;
mod node;
mod output;
mod push;
mod receipt;
mod room;
mod user;
mod watch;

use std::process::ExitCode;

use clap::Parser;

use crate::{
    args::{Args, Command},
    failure::Failure,
    output::Output,
};

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => return failure::usage(&error),
    };
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn run(args: Args) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Refused(format!("the runtime does not start: {error}")))?;
    let mut output = Output::new(args.servers.output);
    runtime.block_on(async {
        let servers = &args.servers;
        match args.command {
            None => push::by_flags(servers, args.flags, &mut output).await,
            Some(_) if args.flags.is_given() => {
                Err(Failure::Usage("give either --action and its flags or a command, not both".into()))
            }
            Some(Command::Push { target }) => push::by_command(servers, target, &mut output).await,
            Some(Command::Watch { message_id, until }) => {
                watch::run(servers, &message_id, until, &mut output).await
            }
            Some(Command::History(history)) => history::run(servers, history, &mut output).await,
            Some(Command::Room { question }) => room::run(servers, question, &mut output).await,
            Some(Command::User { question }) => user::run(servers, question, &mut output).await,
            Some(Command::Node { question }) => node::run(servers, question, &mut output).await,
            Some(Command::Audit { since }) => audit::run(servers, since, &mut output).await,
            Some(Command::Explain(about)) => explain::explain(servers, about, &mut output).await,
            Some(Command::Trace { message_id }) => explain::trace(servers, &message_id, &mut output).await,
            Some(Command::Listen { to }) => listen::run(servers, to, &mut output).await,
        }
    })
}
