//! MySQL keeps the rules of the record, on a MariaDB that this binary starts; and what it adds to them: appends that
//! share transactions, races between controllers, outages, and a schema of its own.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod appends;
mod conflicts;
mod outages;
mod races;
mod schema;

use std::{sync::Arc, time::Duration};

use roomcast_runtime::{Config, config};
use roomcast_store::{
    Inbox, Log, MysqlMessages, MysqlRooms, Rooms,
    conformance::rooms::Record,
    rooms::{NewRoom, SeatRequest},
};
use roomcast_test_servers::MariaDb;
use roomcast_types::{LogPolicy, Membership, OnLogFailure, RoomId, StoreTime, UserId};
use sqlx::{ConnectOptions, MySqlConnection, Row, mysql::MySqlConnectOptions};
use tokio::time::Instant;

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

fn open_messages(section: &config::Database) -> MysqlMessages {
    let config::DatabaseTarget::Mysql(target) = section.target().unwrap() else { panic!("not MySQL") };
    MysqlMessages::open(&target, section).unwrap()
}

/// An empty record in a database of its own.
async fn fresh(server: &MariaDb) -> config::Database {
    let section = section(server, &server.create_database());
    roomcast_store::migrate(&section).await.unwrap();
    section
}

/// A connection beside the record, to stand in its way and to look at the server.
async fn raw(server: &MariaDb, database: &str) -> MySqlConnection {
    let options: MySqlConnectOptions = server.url(database).parse().unwrap();
    options.connect().await.unwrap()
}

async fn run(connection: &mut MySqlConnection, sql: &'static str) {
    sqlx::raw_sql(sql).execute(connection).await.unwrap();
}

/// Transactions open in this database, those with this word in their description only. From the engine's own status:
/// the table of transactions is a copy that does not change while it is asked often.
async fn open_transactions(connection: &mut MySqlConnection, database: &str, word: &str) -> usize {
    let status = sqlx::raw_sql("SHOW ENGINE INNODB STATUS").fetch_one(&mut *connection).await.unwrap();
    let status: String = status.get("Status");
    let threads = sqlx::query_scalar("SELECT id FROM information_schema.processlist WHERE db = ?");
    let threads: Vec<i64> = threads.bind(database).fetch_all(connection).await.unwrap();
    let is_ours = |transaction: &&str| {
        threads.iter().any(|thread| transaction.contains(&format!("thread id {thread},")))
            && transaction.contains(", ACTIVE")
            && transaction.contains(word)
    };
    status.split("---TRANSACTION ").filter(is_ours).count()
}

async fn wait_until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while !condition().await {
        assert!(started.elapsed() < Duration::from_secs(30), "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Nothing that was given up holds a lock any longer.
async fn wait_until_no_transaction(server: &MariaDb, database: &str) {
    let mut look = raw(server, database).await;
    wait_until("no transaction is open", async || open_transactions(&mut look, database, "").await == 0)
        .await;
}

/// As many seats as the room says, and who holds them.
async fn holders(rooms: &MysqlRooms, id: &RoomId) -> Vec<String> {
    let seats = rooms.seats(id, None, 100_000).await.unwrap();
    assert_eq!(rooms.room(id).await.unwrap().unwrap().members, seats.len() as u64);
    seats.into_iter().map(|seat| seat.user_id.into()).collect()
}

fn name(section: &config::Database) -> &str {
    section.url.expose().rsplit('/').next().unwrap()
}

fn room(id: &str) -> RoomId {
    RoomId::new(id).unwrap()
}

fn now() -> StoreTime {
    StoreTime::from_millis(1_000)
}

fn seats(prefix: &str, count: usize) -> Vec<SeatRequest> {
    let user = |number| UserId::new(format!("{prefix}{number:04}")).unwrap();
    (0..count).map(|number| SeatRequest { user_id: user(number), user_name: String::new() }).collect()
}

fn new_room(max_users: u32) -> NewRoom {
    NewRoom {
        max_users,
        membership: Membership::Follow,
        log: LogPolicy::Recent,
        on_log_failure: OnLogFailure::Degrade,
        is_auto_created: true,
    }
}

mod messages {
    use roomcast_store::conformance::{inbox::Letterboxes, log::Journal};

    use super::*;

    /// As [`rules::two_handles`].
    async fn two_handles() -> [Arc<MysqlMessages>; 2] {
        let section = fresh(MariaDb::shared()).await;
        [open_messages(&section), open_messages(&section)].map(Arc::new)
    }

    async fn logs() -> Journal {
        Journal::new(two_handles().await.into_iter().map(|handle| handle as Arc<dyn Log>).collect())
    }

    async fn inboxes() -> Letterboxes {
        Letterboxes::new(two_handles().await.into_iter().map(|handle| handle as Arc<dyn Inbox>).collect())
    }

    mod log {
        roomcast_store::log_conformance!(super::logs());
    }

    mod inbox {
        roomcast_store::inbox_conformance!(super::inboxes());
    }
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
