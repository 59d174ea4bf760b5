//! MySQL keeps the rules of the record, on a MariaDB that this binary starts; and what it adds to them: races between
//! controllers, outages, and a schema of its own.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod schema;

use std::{sync::Arc, time::Duration};

use roomcast_runtime::{Config, config};
use roomcast_store::{MysqlRooms, Rooms, conformance::rooms::Record};
use roomcast_test_servers::MariaDb;

/// The section of the configuration that means this database, patient enough for a busy machine.
fn section(server: &MariaDb, database: &str) -> config::Database {
    config::Database {
        url: config::SecretUrl::new(server.url(database)),
        pool_timeout: Duration::from_secs(30),
        statement_timeout: Duration::from_secs(30),
        ..Config::default().database
    }
}

fn open(section: &config::Database) -> MysqlRooms {
    let config::DatabaseTarget::Mysql(target) = section.target().unwrap() else { panic!("not MySQL") };
    MysqlRooms::open(&target, section).unwrap()
}

/// An empty record in a database of its own.
async fn fresh(server: &MariaDb) -> config::Database {
    let section = section(server, &server.create_database());
    roomcast_store::migrate(&section).await.unwrap();
    section
}

mod rules {
    use super::*;

    /// Two handles, so that rules that race do it through two pools.
    async fn two_handles() -> Record {
        let section = fresh(MariaDb::shared()).await;
        let handles = [open(&section), open(&section)];
        Record::new(handles.into_iter().map(|rooms| Arc::new(rooms) as Arc<dyn Rooms>).collect())
    }

    roomcast_store::rooms_conformance!(two_handles());
}
