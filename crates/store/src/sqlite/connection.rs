//! Opens databases and hands out connections: one that writes, a few that read.

use std::{
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use sqlx::{
    ConnectOptions, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};
use tokio::sync::{Mutex, MutexGuard};

use super::fault::{BACKEND, failed, wrap};
use crate::{
    error::{Error, Result},
    sql::{SCHEMA_VERSION, VERSION_WITHOUT_LOGS},
};

const SCHEMA: &str = include_str!("../schema.sqlite.sql");

/// What tables that knew no logs lack.
const ADD_LOGS: &str = "ALTER TABLE rooms ADD COLUMN log TEXT NOT NULL DEFAULT 'RECENT';
     ALTER TABLE rooms ADD COLUMN on_log_failure TEXT NOT NULL DEFAULT 'DEGRADE';
     ALTER TABLE room_users ADD COLUMN read_epoch INTEGER;
     ALTER TABLE room_users ADD COLUMN read_offset INTEGER;
     UPDATE versions SET value = 2 WHERE name = 'schema'";

/// How long SQLite itself waits for another handle's write lock: far above one transaction, and short enough that an
/// answer comes while somebody still waits for it.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Reads are short; more connections than this only add memory.
const READERS: usize = 3;

/// Each connection is behind a queue of its own. A pool of one would do the same with a timer in it, and its time-out
/// would fire under a paused clock.
#[derive(Debug)]
pub(super) struct Connections {
    writer: Mutex<SqliteConnection>,
    /// Empty for a database in memory: it has the writer only.
    readers: Vec<Mutex<SqliteConnection>>,
    next: AtomicUsize,
}

impl Connections {
    /// Creates or migrates what is missing. `synchronous` says whether a commit waits for the disk.
    pub(super) async fn file(path: &Path, synchronous: SqliteSynchronous) -> Result<Self> {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder)
                .map_err(|error| unusable(path, format!("its folder cannot be created: {error}"), error))?;
        }
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(synchronous)
            .busy_timeout(BUSY_TIMEOUT);
        let mut writer = connect(&options, path).await?;
        apply_schema(&mut writer).await.map_err(|error| at(path, error))?;
        let mut readers = Vec::with_capacity(READERS);
        for _ in 0..READERS {
            readers.push(Mutex::new(connect(&options, path).await?));
        }
        Ok(Self { writer: Mutex::new(writer), readers, next: AtomicUsize::new(0) })
    }

    pub(super) async fn memory() -> Result<Self> {
        let options = SqliteConnectOptions::new().in_memory(true);
        let mut writer = options.connect().await.map_err(failed("open a database in memory"))?;
        apply_schema(&mut writer).await?;
        Ok(Self { writer: Mutex::new(writer), readers: Vec::new(), next: AtomicUsize::new(0) })
    }

    pub(super) async fn writer(&self) -> MutexGuard<'_, SqliteConnection> {
        self.writer.lock().await
    }

    pub(super) async fn reader(&self) -> MutexGuard<'_, SqliteConnection> {
        if self.readers.is_empty() {
            return self.writer.lock().await;
        }
        if let Some(free) = self.readers.iter().find_map(|reader| reader.try_lock().ok()) {
            return free;
        }
        let next = self.next.fetch_add(1, Ordering::Relaxed) % self.readers.len();
        self.readers[next].lock().await
    }
}

/// The switch of a new file to WAL does not wait for a lock as everything else does, so two programs that create one
/// file at the same time can meet there.
async fn connect(options: &SqliteConnectOptions, path: &Path) -> Result<SqliteConnection> {
    const ATTEMPTS: u32 = 20;
    const PAUSE: Duration = Duration::from_millis(25);
    let mut attempt = 1;
    loop {
        match options.connect().await.map_err(|error| at(path, wrap(error, "open the database".to_owned()))) {
            Err(error) if error.is_retryable() && attempt < ATTEMPTS => {
                attempt += 1;
                tokio::time::sleep(PAUSE).await;
            }
            answer => return answer,
        }
    }
}

async fn apply_schema(connection: &mut SqliteConnection) -> Result<()> {
    let mut transaction = super::begin(connection).await?;
    if version(&mut transaction).await? == Some(VERSION_WITHOUT_LOGS) {
        sqlx::raw_sql(ADD_LOGS).execute(&mut *transaction).await.map_err(failed("migrate the tables"))?;
    }
    sqlx::raw_sql(SCHEMA).execute(&mut *transaction).await.map_err(failed("create the tables"))?;
    check_version(&mut transaction).await?;
    super::commit(transaction).await
}

/// `None` while there are no tables.
async fn version(connection: &mut SqliteConnection) -> Result<Option<i64>> {
    let tables = "SELECT COUNT(*) FROM sqlite_schema WHERE type = 'table' AND name = 'versions'";
    let tables: i64 =
        sqlx::query_scalar(tables).fetch_one(&mut *connection).await.map_err(failed("list the tables"))?;
    if tables == 0 {
        return Ok(None);
    }
    sqlx::query_scalar("SELECT value FROM versions WHERE name = 'schema'")
        .fetch_optional(connection)
        .await
        .map_err(failed("read the schema version"))
}

/// Reads the schema's version from the file itself; also the answer to "does it answer".
pub(super) async fn check_version(connection: &mut SqliteConnection) -> Result<()> {
    let found: i64 = sqlx::query_scalar("SELECT value FROM versions WHERE name = 'schema'")
        .fetch_one(connection)
        .await
        .map_err(failed("read the schema version"))?;
    if found == SCHEMA_VERSION {
        return Ok(());
    }
    Err(Error::Failed {
        backend: BACKEND,
        context: format!(
            "the tables have schema version {found}, this program works with {SCHEMA_VERSION}; \
             use a matching program or another database file"
        ),
        source: None,
    })
}

/// Moves everything from the journal beside the file into the file, so that a copy of the file alone is complete.
pub(super) async fn checkpoint(connection: &mut SqliteConnection) -> Result<()> {
    sqlx::raw_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        .execute(connection)
        .await
        .map_err(failed("empty the journal"))?;
    Ok(())
}

/// Names the file in an error; what cannot be opened gets advice.
fn at(path: &Path, error: Error) -> Error {
    match error {
        Error::Unavailable { backend, context, source } => Error::Unavailable {
            backend,
            context: format!("{context} (database {})", path.display()),
            source,
        },
        Error::Failed { context, source: Some(source), .. } => {
            unusable(path, format!("{context}: {source}"), source)
        }
        Error::Failed { backend, context, source } => {
            Error::Failed { backend, context: format!("database {}: {context}", path.display()), source }
        }
        other => other,
    }
}

fn unusable(path: &Path, why: String, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Failed {
        backend: BACKEND,
        context: format!(
            "cannot use {} as the database ({why}); make its folder writable for this user, or configure \
             another path",
            path.display()
        ),
        source: Some(source.into()),
    }
}
