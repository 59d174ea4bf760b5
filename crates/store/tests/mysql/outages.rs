//! A server that is frozen, killed, or may not write: calls fail soon, then at once, and work again after it.

use std::{sync::Arc, time::Duration};

use roomcast_runtime::config::{Database, SecretUrl};
use roomcast_store::{ErrorKind, MysqlRooms, Rooms};
use roomcast_test_servers::MariaDb;
use tokio::{task::JoinSet, time::Instant};

use super::{
    fresh, holders, name, new_room, now, open, raw, room, seats, wait_until, wait_until_no_transaction,
};

/// As impatient as a controller.
async fn impatient(server: &MariaDb) -> Database {
    Database {
        pool_timeout: Duration::from_millis(300),
        statement_timeout: Duration::from_millis(700),
        ..fresh(server).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_server_makes_calls_fail_soon_then_at_once_until_it_thaws() {
    let server = MariaDb::start();
    let section = impatient(&server).await;
    let rooms = Arc::new(open(&section));
    let joins = |rooms: &Arc<MysqlRooms>, round: usize| {
        let mut tasks = JoinSet::new();
        for number in 0..300 {
            let (rooms, batch) = (rooms.clone(), seats(&format!("{round}-{number}-"), 1));
            tasks.spawn(async move { rooms.admit(&room("r"), &batch, Some(new_room(100)), now()).await });
        }
        tasks
    };
    rooms.admit(&room("r"), &seats("first", 40), Some(new_room(100)), now()).await.unwrap();
    // In mid-burst, so that some of them hold transactions.
    let burst = joins(&rooms, 0);
    wait_until("joins are under way", async || rooms.counters().transactions > 5).await;
    server.freeze();
    let frozen_at = Instant::now();
    burst.join_all().await;
    for answer in joins(&rooms, 1).join_all().await {
        assert_eq!(answer.unwrap_err().kind(), ErrorKind::Unavailable);
    }
    assert!(rooms.counters().is_refusing);
    let refused = rooms.counters().calls_refused;
    for _ in 0..1_000 {
        assert_eq!(rooms.ping().await.unwrap_err().kind(), ErrorKind::Unavailable);
    }
    assert!(rooms.counters().calls_refused - refused > 900);
    // Each of them would have waited a pool time-out.
    assert!(frozen_at.elapsed() < Duration::from_secs(30), "{:?}", frozen_at.elapsed());

    server.thaw();
    wait_until("it works again", async || rooms.ping().await.is_ok()).await;
    assert!(!rooms.counters().is_refusing);
    wait_until_no_transaction(&server, name(&section)).await;
    rooms.admit(&room("r"), &seats("last", 100), None, now()).await.unwrap();
    assert_eq!(holders(&rooms, &room("r")).await.len(), 100);
    // Those that waited for the frozen server are closed by now, and not kept beside new ones.
    let mut look = raw(&server, "").await;
    wait_until("it has no more connections than it may", async || {
        let count = sqlx::query_scalar("SELECT COUNT(*) FROM information_schema.processlist WHERE db = ?");
        let count: i64 = count.bind(name(&section)).fetch_one(&mut look).await.unwrap();
        count <= i64::from(section.connections_max)
    })
    .await;
}

#[tokio::test]
async fn a_server_that_was_killed_and_started_again_is_used_again_with_what_it_had() {
    let server = MariaDb::start();
    let section = impatient(&server).await;
    let rooms = open(&section);
    rooms.admit(&room("r"), &seats("u", 3), Some(new_room(9)), now()).await.unwrap();
    server.kill();
    for _ in 0..20 {
        let error = rooms.admit(&room("r"), &seats("u", 4), None, now()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    }
    assert!(rooms.counters().is_refusing);
    let late = open(&section);
    assert_eq!(late.ping().await.unwrap_err().kind(), ErrorKind::Unavailable);
    server.start_again();
    for rooms in [&rooms, &late] {
        wait_until("it is used again", async || rooms.ping().await.is_ok()).await;
        assert_eq!(holders(rooms, &room("r")).await.len(), 3);
    }
}

#[tokio::test]
async fn a_restart_while_nobody_calls_is_not_noticed() {
    let server = MariaDb::start();
    let rooms = open(&fresh(&server).await);
    rooms.admit(&room("r"), &seats("u", 3), Some(new_room(9)), now()).await.unwrap();
    server.kill();
    server.start_again();
    assert_eq!(rooms.admit(&room("r"), &seats("u", 4), None, now()).await.unwrap().members, 4);
}

#[tokio::test]
async fn a_server_that_may_not_write_is_unavailable() {
    let server = MariaDb::start();
    let section = impatient(&server).await;
    let database = name(&section);
    // root may write even then.
    server.run("", &format!("CREATE USER keeper; GRANT ALL ON {database}.* TO keeper"));
    let url = SecretUrl::new(format!("mysql://keeper@127.0.0.1:{}/{database}", server.port()));
    let rooms = open(&Database { url, ..section.clone() });
    rooms.admit(&room("r"), &seats("u", 3), Some(new_room(9)), now()).await.unwrap();
    server.run("", "SET GLOBAL read_only = 1");
    let error = rooms.admit(&room("r"), &seats("u", 4), None, now()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    assert_eq!(holders(&rooms, &room("r")).await.len(), 3);
    server.run("", "SET GLOBAL read_only = 0");
    assert_eq!(rooms.admit(&room("r"), &seats("u", 4), None, now()).await.unwrap().members, 4);
}

#[tokio::test]
async fn a_server_with_too_many_connections_is_unavailable() {
    let server = MariaDb::start();
    let section = impatient(&server).await;
    server.run("", "CREATE USER keeper; GRANT ALL ON *.* TO keeper WITH MAX_USER_CONNECTIONS 1");
    let url = SecretUrl::new(format!("mysql://keeper@127.0.0.1:{}/{}", server.port(), name(&section)));
    let section = Database { url, ..section };
    let (first, second) = (open(&section), open(&section));
    first.ping().await.unwrap();
    let error = second.ping().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
}
