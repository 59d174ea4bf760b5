//! The programs under test, built once with the profile and into the folder of this test binary.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

const PROGRAMS: [&str; 4] = ["controller-manager", "push-manager", "connect-node", "standalone"];

/// A command that runs a program with nothing of this test's environment.
pub fn command(program: &str) -> Command {
    assert!(PROGRAMS.contains(&program), "{program} is none of ours");
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let mut command = Command::new(FOLDER.get_or_init(build).join(program));
    command.env_clear();
    command
}

/// Builds them; the folder they are in.
fn build() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    // target/PROFILE/deps/this
    let folder = own.ancestors().nth(2).unwrap();
    let target = folder.parent().unwrap();
    let profile = match folder.file_name().unwrap().to_str().unwrap() {
        "debug" => "dev",
        profile => profile,
    };
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap());
    cargo.args(["build", "--quiet", "--profile", profile, "--target-dir"]).arg(target);
    for program in PROGRAMS {
        cargo.args(["-p", program]);
    }
    assert!(cargo.status().unwrap().success(), "{cargo:?} failed");
    folder.to_owned()
}
