//! All tiers in one process, on stores that outlive it.

use roomcast_registry::Role;
use roomcast_test_servers::MariaDb;
use roomcast_testkit::{Api, Client, eventually, outcome};

use crate::{place::Place, process::Process, service::STOP_LIMIT};

const PORTS: [&str; 7] = [
    "server.port=0",
    "server.metrics_port=0",
    "push_manager.port=0",
    "push_manager.metrics_port=0",
    "connect_node.http_port=0",
    "connect_node.grpc_port=0",
    "connect_node.metrics_port=0",
];

/// The address after these words.
fn address(said: &str, words: &str) -> String {
    let rest = said.split(words).nth(1).unwrap_or_else(|| panic!("no {words:?} in {said}"));
    rest.split(['/', ' ', '\n']).next().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_process_serves_on_the_stores_that_it_is_given() {
    let mariadb = MariaDb::shared();
    let database = mariadb.create_database();
    let place = Place::shared().await.with("DATABASE_URL", &mariadb.url(&database));
    let mut command = place.command("standalone");
    command.args(["--nodes", "2"]);
    for port in PORTS {
        command.args(["--set", port]);
    }
    let without_tables = {
        let mut command = place.command("standalone");
        command.args(PORTS.iter().flat_map(|port| ["--set", port]));
        Process::run(command).await
    };
    assert!(without_tables.refusal("standalone").contains("--migrate"), "{}", without_tables.said);

    place.migrate().await;
    let platform = Process::start(command);
    eventually("it runs", async || platform.said().contains("Ctrl-C stops everything").then_some(())).await;
    let said = platform.said();
    let kept = format!("Rooms are kept in MySQL 127.0.0.1:{}/{database}.", mariadb.port());
    assert!(said.contains(&kept), "{said}");
    assert_eq!(place.registered(Role::ConnectNode).await.len(), 2);
    let mut ann =
        Client::join(&format!("ws://{}/ws", address(&said, "page http://")), "ann", &["blue"]).await;
    let push = Api::new(address(&said, "gRPC and JSON ").parse().unwrap());
    assert_eq!(outcome(&push.push_room("blue", "Hello").await, "WRITTEN"), 1);
    assert_eq!(ann.push().await, "Hello");
    assert_eq!(mariadb.run(&database, "SELECT user_id FROM room_users").trim(), "ann");
    let end = platform.terminate(STOP_LIMIT).await;
    assert_eq!(end.code, Some(0), "{}", end.said);
    assert!(place.registered(Role::ConnectNode).await.is_empty());
}
