//! What the platform remembers: rooms and seats (SQL), the shared memory of who is where (presence), and messages for
//! those who were away (logs and inboxes).
//!
//! Each trait has one conformance suite in [`conformance`], written against the trait alone, so that a further
//! backend only has to be plugged in.

mod admission;
pub mod conformance;
pub mod counters;
pub mod error;
pub mod log;
pub mod memory;
pub mod mysql;
pub mod open;
pub mod presence;
pub mod redis;
pub mod rooms;
mod sql;
pub mod sqlite;

pub use counters::Counters;
pub use error::{Error, ErrorKind, Result};
pub use log::{Inbox, Log, Logs};
pub use memory::{MemoryPresence, inbox::MemoryInbox, log::MemoryLog};
pub use mysql::{MysqlMessages, MysqlRooms};
pub use open::{Migrated, migrate, open_logs, open_presence, open_rooms};
pub use presence::Presence;
pub use redis::{RedisLog, RedisPresence};
pub use rooms::Rooms;
pub use sqlite::{SqliteMessages, SqliteRooms};
