//! The programs under test.

use std::process::Command;

use roomcast_testkit::programs;

/// A command that runs a program with nothing of this test's environment.
pub fn command(program: &str) -> Command {
    let mut command = Command::new(programs::folder().join(program));
    command.env_clear();
    command
}
