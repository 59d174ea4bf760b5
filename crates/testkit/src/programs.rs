//! The programs of the platform, built once with the profile and into the folder of this test binary.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// The folder that the programs are in: `target/PROFILE`.
pub fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(build)
}

/// The folder of the running program, where the build of the platform has put the others.
pub fn beside() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    own.parent().unwrap().to_owned()
}

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
    // Word for word what runs all tests, so that nothing is built a second time with another choice of features.
    cargo
        .args(["test", "--workspace", "--no-run", "--quiet", "--profile", profile, "--target-dir"])
        .arg(target);
    // What cargo tells this test of itself; build scripts that watch it would run again, and all that needs them.
    for (name, _) in std::env::vars_os() {
        if name
            .to_str()
            .is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_"))
        {
            cargo.env_remove(name);
        }
    }
    assert!(cargo.status().unwrap().success(), "{cargo:?} failed");
    folder.to_owned()
}
