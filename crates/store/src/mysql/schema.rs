//! Creates the database and its tables, and checks their version.

use std::time::Duration;

use roomcast_runtime::config::{Database, MysqlTarget};
use sqlx::{AssertSqlSafe, ConnectOptions, MySqlConnection, mysql::MySqlConnectOptions};

use super::{
    connection::{Lease, options, place, within},
    fault::{BACKEND, Result},
    row::unsigned,
};
use crate::{
    error::Error,
    open::Migrated,
    sql::{SCHEMA_VERSION, VERSION_WITHOUT_LOGS},
};

const SCHEMA: &str = include_str!("../../../../schema.sql");

/// Tables are created while others may read or create them.
const PATIENCE: Duration = Duration::from_secs(60);

const VERSION: &str = "SELECT value FROM versions WHERE name = 'schema'";

/// What tables that knew no logs lack. A statement is done or not, whatever happens to who gave it; one that was done
/// before meets its own columns.
const ADD_LOGS: [&str; 2] = [
    "ALTER TABLE rooms \
     ADD COLUMN log VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT 'RECENT', \
     ADD COLUMN on_log_failure VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT 'DEGRADE'",
    "ALTER TABLE room_users ADD COLUMN read_epoch BIGINT NULL, ADD COLUMN read_offset BIGINT NULL",
];

const SET_VERSION: &str = "UPDATE versions SET value = 2 WHERE name = 'schema' AND value = 1";

/// Reads the schema's version from the database itself; also the answer to "does it answer".
pub(super) async fn check_version(lease: &mut Lease<'_>) -> Result<()> {
    let found = lease.one("read the schema version", sqlx::query(VERSION)).await?;
    let found = found.map(|found| unsigned(&found, "value")).transpose()?;
    Ok(check(found.map(|found| found as i64))?)
}

/// See [`crate::open::migrate`].
pub(super) async fn migrate(target: &MysqlTarget, section: &Database) -> Result<Migrated> {
    let options = options(target)?;
    let place = place(target);
    let mut connection = match connect(&options, section, &place).await {
        Err(fault) if fault.is_unknown_database() => {
            create_database(target, section, &place).await?;
            connect(&options, section, &place).await?
        }
        answer => answer?,
    };
    let found = match version(&mut connection).await {
        Err(fault) if fault.is_missing_table() => None,
        answer => answer?,
    };
    if found == Some(VERSION_WITHOUT_LOGS) {
        add_logs(&mut connection).await?;
    } else if found.is_some() {
        check(found)?;
    }
    within(PATIENCE, "create the tables", sqlx::raw_sql(SCHEMA).execute(&mut connection)).await?;
    if found == Some(VERSION_WITHOUT_LOGS) {
        // Last, so that a migration that ended half-way is taken up again.
        within(PATIENCE, "set the version", sqlx::raw_sql(SET_VERSION).execute(&mut connection)).await?;
    }
    check(version(&mut connection).await?)?;
    Ok(Migrated { version: SCHEMA_VERSION, is_new: found.is_none() })
}

async fn add_logs(connection: &mut MySqlConnection) -> Result<()> {
    for statement in ADD_LOGS {
        let added =
            within(PATIENCE, "migrate the tables", sqlx::raw_sql(statement).execute(&mut *connection));
        if let Err(fault) = added.await
            && !fault.is_known_column()
        {
            return Err(fault);
        }
    }
    Ok(())
}

async fn connect(options: &MySqlConnectOptions, section: &Database, place: &str) -> Result<MySqlConnection> {
    within(section.pool_timeout, &format!("connect to {place}"), options.connect()).await
}

async fn create_database(target: &MysqlTarget, section: &Database, place: &str) -> Result<()> {
    let none = MysqlTarget { dbname: String::new(), ..target.clone() };
    let mut connection = connect(&options(&none)?, section, place).await?;
    let name = target.dbname.replace('`', "``");
    let create = format!("CREATE DATABASE IF NOT EXISTS `{name}` CHARACTER SET utf8mb4");
    let create = sqlx::raw_sql(AssertSqlSafe(create));
    within(PATIENCE, &format!("create database {}", target.dbname), create.execute(&mut connection)).await?;
    Ok(())
}

async fn version(connection: &mut MySqlConnection) -> Result<Option<i64>> {
    let found = sqlx::query(VERSION).fetch_all(connection);
    let found = within(PATIENCE, "read the schema version", found).await?;
    Ok(found.first().map(|found| unsigned(found, "value")).transpose()?.map(|found| found as i64))
}

fn check(found: Option<i64>) -> std::result::Result<(), Error> {
    let context = match found {
        Some(SCHEMA_VERSION) => return Ok(()),
        Some(found) if found < SCHEMA_VERSION => format!(
            "the tables have schema version {found}, this program works with {SCHEMA_VERSION}; \
             run controller-manager --migrate"
        ),
        Some(found) => format!(
            "the tables have schema version {found}, this program works with {SCHEMA_VERSION}; use a matching \
             program or another database"
        ),
        None => "table versions has no row schema; run controller-manager --migrate".to_owned(),
    };
    Err(Error::Failed { backend: BACKEND, context, source: None })
}
