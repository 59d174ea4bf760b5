//! Turns the driver's errors into the store's, and says here, at the edge, what each means: nobody answers, a
//! conflict with another transaction, or an answer.

use std::time::Duration;

use crate::error::Error;

pub(super) const BACKEND: &str = "mysql";

/// Outcome of a statement.
pub(super) type Result<T> = std::result::Result<T, Fault>;

/// An error of the store, with what decides about another try.
#[derive(Debug)]
pub(super) struct Fault {
    error: Error,
    kind: Kind,
    /// Number of the server's error.
    number: Option<u16>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Nobody answers, or not as the one who may write.
    Outage,
    /// Another transaction was in the way: the same call may succeed at once.
    Conflict,
    /// The server answered, with an error.
    Answer,
}

impl Fault {
    pub(super) fn is_outage(&self) -> bool {
        self.kind == Kind::Outage
    }

    pub(super) fn is_conflict(&self) -> bool {
        self.kind == Kind::Conflict
    }

    /// The row is there already.
    pub(super) fn is_duplicate(&self) -> bool {
        self.number == Some(DUPLICATE)
    }

    /// The column is there already.
    pub(super) fn is_known_column(&self) -> bool {
        self.number == Some(KNOWN_COLUMN)
    }

    /// The database itself is missing.
    pub(super) fn is_unknown_database(&self) -> bool {
        self.number == Some(UNKNOWN_DATABASE)
    }

    /// A table is missing.
    pub(super) fn is_missing_table(&self) -> bool {
        self.number == Some(NO_SUCH_TABLE)
    }

    /// Wraps a driver's error that happened while doing `context`.
    pub(super) fn wrap(error: sqlx::Error, context: &str) -> Self {
        let number = number(&error);
        let kind = kind(&error, number);
        let context = match advice(&error, number) {
            Some(advice) => format!("{context}: {advice}"),
            None => context.to_owned(),
        };
        let source = Some(Box::new(error) as _);
        let error = match kind {
            Kind::Outage | Kind::Conflict => Error::Unavailable { backend: BACKEND, context, source },
            Kind::Answer => Error::Failed { backend: BACKEND, context, source },
        };
        Self { error, kind, number }
    }

    /// Another transaction did in between what this one found undone: it is to be begun anew.
    pub(super) fn overtaken(context: &str) -> Self {
        let error = Error::Unavailable { backend: BACKEND, context: context.to_owned(), source: None };
        Self { error, kind: Kind::Conflict, number: None }
    }

    pub(super) fn late(context: &str, limit: Duration) -> Self {
        let context = format!("{context}: no answer within {} ms", limit.as_millis());
        let error = Error::Unavailable { backend: BACKEND, context, source: None };
        Self { error, kind: Kind::Outage, number: None }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self { error, kind: Kind::Answer, number: None }
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        fault.error
    }
}

/// A row that this program cannot have written.
pub(super) fn unreadable(
    context: impl Into<String>,
    cause: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> Error {
    Error::Failed { backend: BACKEND, context: context.into(), source: Some(cause.into()) }
}

/// Numbers of <https://dev.mysql.com/doc/mysql-errors/8.0/en/server-error-reference.html> and
/// <https://mariadb.com/kb/en/mariadb-error-code-reference/>.
fn number(error: &sqlx::Error) -> Option<u16> {
    let error = error.as_database_error()?.try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>()?;
    Some(error.number())
}

const DUPLICATE: u16 = 1062;
const KNOWN_COLUMN: u16 = 1060;
const UNKNOWN_DATABASE: u16 = 1049;
const NO_SUCH_TABLE: u16 = 1146;
const NO_SUCH_COLUMN: u16 = 1054;

/// Lock wait timeout, deadlock, row changed since it was read, and group replication's certification failure.
const CONFLICTS: [u16; 4] = [1205, 1213, 1020, 3101];

/// Too many connections; shutting down; gone, killed or timed out on the server's side; read-only, as after a
/// failover; a cluster without a majority; no room on the disk.
const OUTAGES: [u16; 31] = [
    1040, 1129, 1203, 1226, 1042, 1043, 1047, 1053, 1077, 1079, 1080, 1105, 1152, 1158, 1159, 1160, 1161,
    1180, 1184, 1290, 1317, 1792, 1836, 1927, 1969, 3024, 3100, 3168, 4031, 1021, 1114,
];

/// Access denied: to the server, to the database, to a table, and by a plug-in.
const DENIED: [u16; 4] = [1045, 1044, 1142, 1698];

fn kind(error: &sqlx::Error, number: Option<u16>) -> Kind {
    match (error, number) {
        (_, Some(number)) if CONFLICTS.contains(&number) => Kind::Conflict,
        (_, Some(number)) if OUTAGES.contains(&number) => Kind::Outage,
        (error, _) if is_tls(error) => Kind::Answer,
        // A broken exchange ends with its connection; the next one starts afresh.
        (sqlx::Error::Io(_) | sqlx::Error::Protocol(_), _) => Kind::Outage,
        _ => Kind::Answer,
    }
}

/// The server has no TLS, or a certificate that is not trusted, which the TLS library reports as invalid data.
fn is_tls(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Tls(_) => true,
        sqlx::Error::Io(error) => error.kind() == std::io::ErrorKind::InvalidData,
        _ => false,
    }
}

fn advice(error: &sqlx::Error, number: Option<u16>) -> Option<&'static str> {
    match number {
        Some(UNKNOWN_DATABASE) => {
            Some("the database does not exist; create it, or run controller-manager --migrate")
        }
        Some(NO_SUCH_TABLE) => {
            Some("a table is missing; run controller-manager --migrate, or mysql DATABASE < schema.sql")
        }
        Some(NO_SUCH_COLUMN) => Some("a column is missing; run controller-manager --migrate"),
        Some(number) if DENIED.contains(&number) => {
            Some("access denied; check database.user, its password and its grants")
        }
        _ if is_tls(error) => {
            Some("no TLS that this program may trust; check database.tls and database.ca_file")
        }
        _ => None,
    }
}
