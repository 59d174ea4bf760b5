//! Opens the store that a section of the configuration means.

use std::sync::Arc;

use roomcast_runtime::config::{self, Database, DatabaseTarget, RedisTarget};

use crate::{
    error::{Error, Result},
    log::{Inbox, Log, Logs},
    memory::{MemoryPresence, log::MemoryLog},
    mysql::{MysqlMessages, MysqlRooms},
    presence::Presence,
    redis::{RedisLog, RedisPresence},
    rooms::Rooms,
    sqlite::{SqliteMessages, SqliteRooms},
};

/// The SQLite file, in the folder that the configuration names.
pub const DATABASE_FILE: &str = "roomcast.db";

/// What a migration found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Migrated {
    /// Version of the tables now.
    pub version: i64,
    /// Whether there were no tables before.
    pub is_new: bool,
}

/// The record of rooms. SQLite's file is opened, and created where missing; a MySQL server is not waited for: whether
/// it answers and has the right tables is what [`Rooms::ping`] says.
pub async fn open_rooms(section: &Database) -> Result<Arc<dyn Rooms>> {
    Ok(match target(section)? {
        DatabaseTarget::Sqlite { folder } => Arc::new(SqliteRooms::open(&folder.join(DATABASE_FILE)).await?),
        DatabaseTarget::Mysql(target) => Arc::new(MysqlRooms::open(&target, section)?),
    })
}

/// Creates the database and the tables where missing. Can be repeated, and may run several times at once; tables of
/// another version are left alone and are an error.
pub async fn migrate(section: &Database) -> Result<Migrated> {
    match target(section)? {
        DatabaseTarget::Sqlite { folder } => SqliteRooms::migrate(&folder.join(DATABASE_FILE)).await,
        DatabaseTarget::Mysql(target) => MysqlRooms::migrate(&target, section).await,
    }
}

/// The shared memory of who is where. A server is not waited for: the first call connects.
pub fn open_presence(section: &config::Redis) -> Result<Arc<dyn Presence>> {
    let target = section.target();
    Ok(match target.map_err(|context| Error::Failed { backend: "redis", context, source: None })? {
        RedisTarget::Memory => Arc::new(MemoryPresence::new()),
        RedisTarget::Server(server) => Arc::new(RedisPresence::open(&server, section)?),
    })
}

/// Logs and inboxes: those of the last minutes where the shared memory is, the others in the record. SQLite's file is
/// opened, and created where missing; no server is waited for.
pub async fn open_logs(database: &Database, redis: &config::Redis) -> Result<Logs> {
    let recent = redis.target();
    let recent: Arc<dyn Log> =
        match recent.map_err(|context| Error::Failed { backend: "redis", context, source: None })? {
            RedisTarget::Memory => Arc::new(MemoryLog::new()),
            RedisTarget::Server(server) => Arc::new(RedisLog::open(&server, redis)?),
        };
    let (durable, inbox): (Arc<dyn Log>, Arc<dyn Inbox>) = match target(database)? {
        DatabaseTarget::Sqlite { folder } => {
            let messages = Arc::new(SqliteMessages::open(&folder.join(DATABASE_FILE)).await?);
            (messages.clone(), messages)
        }
        DatabaseTarget::Mysql(target) => {
            let messages = Arc::new(MysqlMessages::open(&target, database)?);
            (messages.clone(), messages)
        }
    };
    Ok(Logs { recent, durable, inbox })
}

fn target(section: &Database) -> Result<DatabaseTarget> {
    section.target().map_err(|context| Error::Failed { backend: "database", context, source: None })
}
