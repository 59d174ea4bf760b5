//! Logins, certificates and settings: right ones are taken, wrong ones are errors that say what to do.

use roomcast_runtime::config::{self, Secret};
use roomcast_store::{ErrorKind, Presence, open_presence};
use roomcast_test_servers::Redis;

use super::support::{open_section, section};

/// What goes wrong with the first call, and how it reads with its causes.
async fn failure(section: &config::Redis) -> (ErrorKind, String) {
    let error = open_section(section).now().await.unwrap_err();
    let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
    (error.kind(), format!("{error}: {source}"))
}

#[tokio::test]
async fn a_password_is_needed_where_one_is_set() {
    let server = Redis::start();
    server.run(&["ACL", "SETUSER", "ann", "on", ">s3cret", "~*", "+@all"]);
    server.run(&["CONFIG", "SET", "requirepass", "s3cret"]);
    let plain = section(&server.url(), "");
    let of = |user: &str, password: &str| config::Redis {
        user: user.to_owned(),
        password: Secret::new(password),
        ..plain.clone()
    };
    for right in [of("", "s3cret"), of("ann", "s3cret")] {
        open_section(&right).now().await.unwrap();
    }
    for wrong in [plain.clone(), of("", "other"), of("ann", "other"), of("bob", "s3cret")] {
        let (kind, text) = failure(&wrong).await;
        assert!(kind == ErrorKind::Failed && text.contains("set redis.user and redis.password"), "{text}");
        assert!(!text.contains("s3cret"), "{text}");
    }
}

#[tokio::test]
async fn a_user_without_dangerous_commands_serves() {
    let server = Redis::start();
    server.run(&["ACL", "SETUSER", "ann", "on", ">s3cret", "~*", "+@all", "-@dangerous"]);
    let presence = open_section(&config::Redis {
        user: "ann".to_owned(),
        password: Secret::new("s3cret"),
        ..section(&server.url(), "")
    });
    let generation = presence.generation().await.unwrap();
    server.run(&["FLUSHALL"]);
    assert_ne!(presence.generation().await.unwrap(), generation);
}

#[tokio::test]
async fn a_certificate_is_checked_against_the_authorities_given() {
    let server = Redis::start_with_tls();
    let (url, authority) = server.tls().unwrap();
    let trusted = config::Redis { ca_file: authority.ca_file().to_owned(), ..section(&url, "") };
    open_section(&trusted).now().await.unwrap();
    let (kind, text) = failure(&section(&url, "")).await;
    assert!(kind == ErrorKind::Failed && text.contains("set redis.ca_file"), "{text}");
    let missing = config::Redis { ca_file: "/nowhere/ca.pem".into(), ..section(&url, "") };
    let error = open_presence(&missing).err().unwrap();
    assert!(error.to_string().contains("redis.ca_file: cannot read /nowhere/ca.pem"), "{error}");
}

#[tokio::test]
async fn a_section_opens_what_it_means() {
    let server = Redis::start();
    let (memory, redis) = (section("memory:", ""), section(&server.url(), "p:"));
    open_presence(&memory).unwrap().generation().await.unwrap();
    assert_eq!(server.run(&["DBSIZE"]).trim(), "0");
    open_presence(&redis).unwrap().generation().await.unwrap();
    assert_eq!(server.run(&["KEYS", "*"]).trim(), "p:{generation:0}");
    assert!(open_presence(&section("http://host", "")).err().unwrap().to_string().contains("redis.url"));
}
