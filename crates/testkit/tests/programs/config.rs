//! `--print-config` and `--check-config` of each program: the truth, but no secret.

use std::process::Command;

use crate::{
    binaries,
    process::{End, Process},
};

const PROGRAMS: [&str; 3] = ["controller-manager", "push-manager", "connect-node"];
/// Part of every password here.
const SECRET: &str = "hunter2";

/// A program with a password from every place one can come from.
fn with_secrets(program: &str, folder: &std::path::Path) -> Command {
    let (file, config) = (folder.join("password"), folder.join("config.yaml"));
    std::fs::write(&file, "hunter2-from-a-file\n").unwrap();
    std::fs::write(&config, "etcd:\n  user: roomcast\n  password: hunter2-from-the-config\n").unwrap();
    let mut command = binaries::command(program);
    command
        .env("DB_PASSWORD", "hunter2-from-the-environment")
        .env("DB_HOST", "db.example")
        .env("REDIS_URL", "redis://app:hunter2-from-a-url@cache.example:6380/1")
        .env("ETCD_PASSWORD_FILE", &file)
        .arg("--config")
        .arg(&config);
    command
}

async fn run(mut command: Command, arguments: &[&str]) -> End {
    command.args(arguments);
    let end = Process::run(command).await;
    assert!(!end.said.contains(SECRET), "a secret is shown:\n{}", end.said);
    end
}

#[tokio::test(flavor = "multi_thread")]
async fn the_configuration_is_shown_without_its_secrets() {
    let folder = tempfile::tempdir().unwrap();
    for program in PROGRAMS {
        let end = run(with_secrets(program, folder.path()), &["--print-config"]).await;
        assert_eq!(end.code, Some(0), "{}", end.said);
        assert!(end.said.contains("redis://app:***@cache.example:6380/1"), "{}", end.said);
        assert!(end.said.contains("host: db.example") && end.said.contains("***"), "{}", end.said);
        let end = run(with_secrets(program, folder.path()), &["--check-config"]).await;
        assert_eq!((end.code, end.said.trim()), (Some(0), "The configuration is valid."));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_the_configuration_is_told_without_its_secrets() {
    let folder = tempfile::tempdir().unwrap();
    for program in PROGRAMS {
        let wrong = ["--set", "database.url=mysql://root:hunter2@a,b/pubsub", "--check-config"];
        let end = run(with_secrets(program, folder.path()), &wrong).await;
        assert!(end.refusal(program).contains("database.url"), "{}", end.said);
        let mut command = with_secrets(program, folder.path());
        command.env("REDIS_URL", "http://hunter2@cache.example");
        let end = run(command, &["--check-config"]).await;
        assert!(end.refusal(program).contains("redis.url"), "{}", end.said);
        let wrong = ["--set", "etcd.password_file=/nowhere/password", "--check-config"];
        let end = run(with_secrets(program, folder.path()), &wrong).await;
        assert!(end.refusal(program).contains("etcd.password_file"), "{}", end.said);
    }
}
