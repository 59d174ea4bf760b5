//! The schema: applied by the program or by the client, checked, and errors that say what to do.

use std::error::Error as _;

use roomcast_runtime::config::{Database, SecretUrl};
use roomcast_store::{ErrorKind, Migrated, Rooms, migrate, open_rooms};
use roomcast_test_servers::{MariaDb, unique};
use roomcast_types::{LogPolicy, RoomId};
use tokio::task::JoinSet;

use super::{fresh, open, section};

const TABLES: &str = "SHOW TABLES";

#[tokio::test]
async fn a_migration_creates_what_is_missing_and_can_be_repeated() {
    let server = MariaDb::shared();
    let database = unique("missing-`database");
    let section = Database { dbname: database.clone(), ..section_by_keys(server) };
    assert_eq!(migrate(&section).await.unwrap(), Migrated { version: 2, is_new: true });
    open(&section).ping().await.unwrap();
    assert_eq!(migrate(&section).await.unwrap(), Migrated { version: 2, is_new: false });
    assert_eq!(
        server.run(&database, TABLES),
        "inbox_locks\ninbox_messages\nlog_keys\nlog_messages\nlogs\nroom_users\nrooms\nversions\n"
    );
}

fn section_by_keys(server: &MariaDb) -> Database {
    Database {
        url: SecretUrl::default(),
        host: "127.0.0.1".into(),
        port: server.port(),
        ..section(server, "")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_may_migrate_at_once() {
    let section = section(MariaDb::shared(), &unique("new"));
    let mut tasks = JoinSet::new();
    for _ in 0..8 {
        let section = section.clone();
        tasks.spawn(async move { migrate(&section).await.unwrap() });
    }
    tasks.join_all().await;
    open(&section).ping().await.unwrap();
}

#[tokio::test]
async fn the_file_does_for_the_client_what_a_migration_does() {
    let server = MariaDb::shared();
    let by_client = server.create_database();
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../schema.sql");
    for _ in 0..2 {
        server.run(&by_client, &format!("source {file}"));
    }
    open(&section(server, &by_client)).ping().await.unwrap();
    let by_program = fresh(server).await.url.expose().rsplit('/').next().unwrap().to_owned();
    for table in server.run(&by_client, TABLES).lines() {
        let show = format!("SHOW CREATE TABLE {table}");
        assert_eq!(server.run(&by_client, &show), server.run(&by_program, &show));
    }
    let versions = "SELECT name, value FROM versions ORDER BY name";
    assert_eq!(server.run(&by_client, versions), "deleted_rooms\t0\nschema\t2\n");
    assert_eq!(server.run(&by_program, versions), "deleted_rooms\t0\nschema\t2\n");
}

#[tokio::test]
async fn a_missing_database_and_missing_tables_come_with_advice() {
    let server = MariaDb::shared();
    let error = open(&section(server, "nowhere")).ping().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Failed);
    assert!(error.to_string().contains("nowhere: the database does not exist; create it"), "{error}");

    let empty = section(server, &server.create_database());
    let rooms = open(&empty);
    for error in [rooms.ping().await.unwrap_err(), rooms.totals().await.unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::Failed);
        assert!(error.to_string().contains("run controller-manager --migrate"), "{error}");
        assert!(error.source().is_some());
    }
    assert!(!rooms.counters().is_refusing);
    migrate(&empty).await.unwrap();
    rooms.ping().await.unwrap();
}

#[tokio::test]
async fn tables_of_another_version_are_refused_and_left_alone() {
    let server = MariaDb::shared();
    let database = server.create_database();
    let section = section(server, &database);
    migrate(&section).await.unwrap();
    server.run(&database, "UPDATE versions SET value = 99 WHERE name = 'schema'; DROP TABLE room_users");
    for error in [open(&section).ping().await.unwrap_err(), migrate(&section).await.unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::Failed);
        assert!(error.to_string().contains("version 99, this program works with 2"), "{error}");
    }
    assert!(!server.run(&database, TABLES).contains("room_users"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_without_logs_are_named_and_migrated_with_what_is_in_them() {
    let server = MariaDb::shared();
    let database = server.create_database();
    let section = section(server, &database);
    server.run(&database, include_str!("../version_1/mysql.sql"));
    server.run(
        &database,
        "INSERT INTO rooms VALUES ('room', 3, 4, 'DURABLE', 9, 1, 0, 1, 2, NULL); \
         INSERT INTO room_users VALUES ('room', 'ann', 'Ann', 4, 2, NULL)",
    );
    // The file by hand adds tables, and leaves those that are there to the migration.
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../schema.sql");
    server.run(&database, &format!("source {file}"));
    let error = open(&section).ping().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Failed);
    let text = error.to_string();
    assert!(text.contains("version 1") && text.contains("run controller-manager --migrate"), "{text}");
    // As a migration that ended half-way leaves it.
    server.run(
        &database,
        "ALTER TABLE room_users ADD COLUMN read_epoch BIGINT NULL, ADD COLUMN read_offset BIGINT NULL",
    );
    let mut tasks = JoinSet::new();
    for _ in 0..4 {
        let section = section.clone();
        tasks.spawn(async move { migrate(&section).await.unwrap() });
    }
    assert_eq!(tasks.join_all().await, [Migrated { version: 2, is_new: false }; 4]);
    let rooms = open(&section);
    rooms.ping().await.unwrap();
    let row = rooms.room(&RoomId::new("room").unwrap()).await.unwrap().unwrap();
    assert_eq!((row.members, row.card.version, row.card.log), (1, 3, LogPolicy::Recent));
    let fresh = fresh(server).await.url.expose().rsplit('/').next().unwrap().to_owned();
    for table in ["rooms", "room_users"] {
        let show = format!("SHOW CREATE TABLE {table}");
        assert_eq!(server.run(&database, &show), server.run(&fresh, &show));
    }
}

#[tokio::test]
async fn a_wrong_password_is_a_failure_that_does_not_show_it() {
    let server = MariaDb::shared();
    let database = server.create_database();
    server.run(
        "",
        &format!(
            "CREATE USER IF NOT EXISTS keeper IDENTIFIED BY 'right'; GRANT ALL ON {database}.* TO keeper"
        ),
    );
    let with = |password: &str| Database {
        url: SecretUrl::new(format!("mysql://keeper:{password}@127.0.0.1:{}/{database}", server.port())),
        ..section(server, &database)
    };
    let error = open(&with("hunter2")).ping().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Failed);
    assert!(
        error.to_string().contains("keeper@127.0.0.1") && error.to_string().contains("check database.user"),
        "{error}"
    );
    let shown = format!("{error:?} {:?}", open(&with("hunter2")));
    assert!(!shown.contains("hunter2"), "{shown}");
    migrate(&with("right")).await.unwrap();
    open(&with("right")).ping().await.unwrap();
}

#[tokio::test]
async fn tls_that_the_server_does_not_have_is_refused_only_when_required() {
    let server = MariaDb::shared();
    let by_keys = |tls| Database { tls, ..section(server, "mysql") };
    use roomcast_runtime::config::DatabaseTls::{Disabled, Preferred, Required, Verify};
    for tls in [Disabled, Preferred] {
        let error = open(&by_keys(tls)).ping().await.unwrap_err();
        assert!(error.to_string().contains("a table is missing"), "{error}");
    }
    for tls in [Required, Verify] {
        let error = open(&by_keys(tls)).ping().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Failed);
        assert!(error.to_string().contains("check database.tls"), "{error}");
    }
}

#[tokio::test]
async fn the_configuration_says_which_record() {
    let folder = tempfile::tempdir().unwrap();
    let embedded = Database {
        url: SecretUrl::new(format!("sqlite:{}", folder.path().display())),
        ..section(MariaDb::shared(), "")
    };
    assert_eq!(migrate(&embedded).await.unwrap(), Migrated { version: 2, is_new: true });
    assert_eq!(migrate(&embedded).await.unwrap(), Migrated { version: 2, is_new: false });
    assert!(folder.path().join("roomcast.db").exists());
    for section in [embedded, fresh(MariaDb::shared()).await] {
        let rooms = open_rooms(&section).await.unwrap();
        rooms.ping().await.unwrap();
        assert_eq!(rooms.room(&RoomId::new("r").unwrap()).await.unwrap(), None);
    }
    let unreadable = Database { ca_file: "/nowhere/ca.pem".into(), ..section(MariaDb::shared(), "test") };
    let error = open_rooms(&unreadable).await.err().unwrap();
    assert!(error.to_string().contains("database.ca_file"), "{error}");
}
