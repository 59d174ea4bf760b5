//! Opens connections, keeps idle ones, and lends them out.
//!
//! A connection comes back only from a call that finished all its exchanges and its transaction, by `give_back`. What
//! is dropped in any other way, after a time-out, an error, or with a future that was given up, is closed: the server
//! ends its transaction and lets its locks go. A pool that takes back whatever is dropped has to find out later in
//! which state it is, and waits meanwhile for a server that may be frozen.

use std::{
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use roomcast_runtime::config::{Database, DatabaseTls, MysqlTarget};
use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, MySql, MySqlConnection,
    mysql::{MySqlArguments, MySqlConnectOptions, MySqlRow, MySqlSslMode},
    query::Query,
};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, timeout},
};

use super::fault::{BACKEND, Fault, Result};
use crate::error::Error;

/// A connection that idled longer is closed instead of used: far below what middleboxes forget and below
/// [`SERVER_PATIENCE`].
const IDLE_MAX: Duration = Duration::from_secs(15);

/// The server ends a connection that says nothing for this long, and with it a transaction whose process froze or
/// whose machine vanished.
const SERVER_PATIENCE: Duration = Duration::from_secs(30);

/// Connections to one database, at most `database.connections_max`.
pub(super) struct Pool {
    options: MySqlConnectOptions,
    /// Run on each new connection.
    session: String,
    /// user@host:port/database, for errors.
    place: String,
    permits: Semaphore,
    /// The one used last is used next, so that those beyond the need grow old.
    idle: Mutex<Vec<Idle>>,
    pool_timeout: Duration,
    statement_timeout: Duration,
}

struct Idle {
    connection: MySqlConnection,
    since: Instant,
}

/// The first exchange of a borrowed connection, which shows that it still stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Greeting {
    Ping,
    Begin,
}

impl Greeting {
    async fn say(self, connection: &mut MySqlConnection) -> sqlx::Result<()> {
        match self {
            Self::Ping => connection.ping().await,
            Self::Begin => sqlx::raw_sql("BEGIN").execute(connection).await.map(|_| ()),
        }
    }
}

impl Pool {
    pub(super) fn new(target: &MysqlTarget, section: &Database) -> crate::Result<Self> {
        Ok(Self {
            options: options(target)?,
            session: session(section.statement_timeout),
            place: place(target),
            permits: Semaphore::new(section.connections_max as usize),
            idle: Mutex::new(Vec::new()),
            pool_timeout: section.pool_timeout,
            statement_timeout: section.statement_timeout,
        })
    }

    /// Borrows a connection for statements that only read.
    pub(super) async fn lease(&self) -> Result<Lease<'_>> {
        self.within(self.take(Greeting::Ping)).await
    }

    /// Borrows a connection with a transaction begun on it.
    pub(super) async fn begin(&self) -> Result<Transaction<'_>> {
        Ok(Transaction(self.within(self.take(Greeting::Begin)).await?))
    }

    /// The pool's time-out covers the greeting too: it takes no time on a server that answers, so a frozen one is
    /// found out here and not by the longer time-out of a statement.
    async fn within<T>(&self, taking: impl Future<Output = Result<T>>) -> Result<T> {
        let late = |_| Fault::late(&format!("get a connection to {}", self.place), self.pool_timeout);
        timeout(self.pool_timeout, taking).await.map_err(late)?
    }

    /// Closes what idles: after an outage it is most likely broken.
    pub(super) fn close_idle(&self) {
        let broken = std::mem::take(&mut *self.idle());
        drop(broken);
    }

    async fn take(&self, greeting: Greeting) -> Result<Lease<'_>> {
        let permit = self.permits.acquire().await.expect("it is never closed");
        let lease = |connection| Lease { pool: self, connection, _permit: permit };
        while let Some(mut idle) = self.pop_idle() {
            // One that broke while it idled is not the call's fault: the next one may do.
            if idle.since.elapsed() < IDLE_MAX && greeting.say(&mut idle.connection).await.is_ok() {
                return Ok(lease(idle.connection));
            }
        }
        let failed = |error| Fault::wrap(error, &format!("connect to {}", self.place));
        let mut connection = self.options.connect().await.map_err(failed)?;
        let session = sqlx::raw_sql(AssertSqlSafe(self.session.as_str()));
        session.execute(&mut connection).await.map_err(failed)?;
        if greeting == Greeting::Begin {
            greeting.say(&mut connection).await.map_err(failed)?;
        }
        Ok(lease(connection))
    }

    fn pop_idle(&self) -> Option<Idle> {
        self.idle().pop()
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Pool {
    /// The options hold the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("place", &self.place).finish_non_exhaustive()
    }
}

/// A borrowed connection; closed when dropped.
pub(super) struct Lease<'a> {
    pool: &'a Pool,
    connection: MySqlConnection,
    _permit: SemaphorePermit<'a>,
}

pub(super) type Statement<'q> = Query<'q, MySql, MySqlArguments>;

impl Lease<'_> {
    /// Runs a statement; how many rows it found or changed.
    pub(super) async fn execute(&mut self, context: &str, statement: Statement<'_>) -> Result<u64> {
        let limit = self.pool.statement_timeout;
        let done = within(limit, context, statement.execute(&mut self.connection)).await?;
        Ok(done.rows_affected())
    }

    /// The row that a query finds, if any.
    pub(super) async fn one(&mut self, context: &str, query: Statement<'_>) -> Result<Option<MySqlRow>> {
        // All, so that nothing of the answer stays unread.
        Ok(self.all(context, query).await?.into_iter().next())
    }

    /// The rows that a query finds.
    pub(super) async fn all(&mut self, context: &str, query: Statement<'_>) -> Result<Vec<MySqlRow>> {
        within(self.pool.statement_timeout, context, query.fetch_all(&mut self.connection)).await
    }

    /// Runs statements in one exchange, up to the first that fails; the rows that they find.
    pub(super) async fn text(&mut self, context: &str, statements: String) -> Result<Vec<MySqlRow>> {
        let exchange = sqlx::raw_sql(AssertSqlSafe(statements)).fetch_all(&mut self.connection);
        within(self.pool.statement_timeout, context, exchange).await
    }

    /// For the next one who borrows.
    pub(super) fn give_back(self) {
        let Self { pool, connection, _permit } = self;
        pool.idle().push(Idle { connection, since: Instant::now() });
    }

    async fn command(&mut self, context: &str, command: &'static str) -> Result<()> {
        let limit = self.pool.statement_timeout;
        within(limit, context, sqlx::raw_sql(command).execute(&mut self.connection)).await?;
        Ok(())
    }
}

/// A transaction under way; its connection is closed, and so it is rolled back, when dropped.
pub(super) struct Transaction<'a>(Lease<'a>);

impl Transaction<'_> {
    pub(super) async fn commit(mut self) -> Result<()> {
        self.0.command("commit a transaction", "COMMIT").await?;
        self.0.give_back();
        Ok(())
    }

    /// Runs statements and commits, in one exchange.
    pub(super) async fn commit_after(mut self, context: &str, statements: String) -> Result<()> {
        self.0.text(context, statements + "; COMMIT").await?;
        self.0.give_back();
        Ok(())
    }

    /// Ends it without effect and keeps its connection: for an end that is no error.
    pub(super) async fn rollback(mut self) -> Result<()> {
        self.0.command("roll back a transaction", "ROLLBACK").await?;
        self.0.give_back();
        Ok(())
    }
}

impl<'a> std::ops::Deref for Transaction<'a> {
    type Target = Lease<'a>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl std::ops::DerefMut for Transaction<'_> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

pub(super) async fn within<T>(
    limit: Duration,
    context: &str,
    exchange: impl Future<Output = sqlx::Result<T>>,
) -> Result<T> {
    match timeout(limit, exchange).await {
        Ok(answer) => answer.map_err(|error| Fault::wrap(error, context)),
        Err(_) => Err(Fault::late(context, limit)),
    }
}

pub(super) fn place(target: &MysqlTarget) -> String {
    format!("{}@{}:{}/{}", target.user, target.host, target.port, target.dbname)
}

/// The session's settings are ours, in [`session`]; of the driver's only the character set, utf8mb4.
pub(super) fn options(target: &MysqlTarget) -> crate::Result<MySqlConnectOptions> {
    let mut options = MySqlConnectOptions::new()
        .host(target.host.trim_start_matches('[').trim_end_matches(']'))
        .port(target.port)
        .username(&target.user)
        .database(&target.dbname)
        .pipes_as_concat(false)
        .no_engine_substitution(false)
        .timezone(None)
        .ssl_mode(match target.tls {
            DatabaseTls::Disabled => MySqlSslMode::Disabled,
            DatabaseTls::Preferred => MySqlSslMode::Preferred,
            DatabaseTls::Required => MySqlSslMode::Required,
            DatabaseTls::Verify => MySqlSslMode::VerifyIdentity,
        })
        .disable_statement_logging();
    if !target.password.is_empty() {
        options = options.password(target.password.expose());
    }
    if !target.ca_file.as_os_str().is_empty() {
        let authorities = std::fs::read(&target.ca_file).map_err(|error| Error::Failed {
            backend: BACKEND,
            context: format!("database.ca_file: cannot read {}", target.ca_file.display()),
            source: Some(error.into()),
        })?;
        options = options.ssl_ca_from_pem(authorities);
    }
    Ok(options)
}

/// What a connection starts with. A wait for a lock ends before the statement's time-out, so that it is an answer and
/// no outage. MariaDB also bounds statements and idle transactions itself; MySQL reads a comment there.
fn session(statement_timeout: Duration) -> String {
    let seconds = statement_timeout.as_secs_f64();
    let lock_wait = (seconds.ceil() as u64).saturating_sub(1).clamp(1, 5);
    let idle_transaction = (seconds.ceil() as u64).max(1);
    format!(
        "SET SESSION autocommit = 1, \
         sql_mode = 'STRICT_ALL_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION', \
         innodb_lock_wait_timeout = {lock_wait}, wait_timeout = {} \
         /*M!100303 , max_statement_time = {seconds}, idle_transaction_timeout = {idle_transaction} */; \
         SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
        SERVER_PATIENCE.as_secs(),
    )
}
