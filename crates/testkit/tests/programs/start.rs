//! Programs that are there before their stores.

use roomcast_registry::Role;
use roomcast_test_servers::{Etcd, MariaDb, Redis};
use roomcast_testkit::{Client, eventually, outcome};
use serde_json::{Value, json};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::{
    place::Place,
    process::Process,
    service::{STOP_LIMIT, Service},
};

struct Stores {
    etcd: Etcd,
    mariadb: MariaDb,
    redis: Redis,
}

impl Stores {
    fn kill(&self) {
        self.etcd.kill();
        self.mariadb.kill();
        self.redis.kill();
    }

    fn start_again(&self) {
        self.etcd.start_again();
        self.redis.start_again();
        self.mariadb.start_again();
    }
}

/// Stores with the tables in place, all of them stopped. A database that comes without tables would end a controller.
async fn gone() -> (Stores, String) {
    let stores = Stores { etcd: Etcd::start(), mariadb: MariaDb::start(), redis: Redis::start() };
    let database = stores.mariadb.create_database();
    Place::on(&stores.etcd, &stores.redis, &stores.mariadb.url(&database)).migrate().await;
    stores.kill();
    (stores, database)
}

async fn until_missing(service: &Service, missing: &[String]) {
    let report = json!({"ready": false, "state": "starting", "missing": missing, "degraded": []});
    service.until_says(503, &report).await;
    let (status, health) = service.api(service.metrics()).get("/health").await;
    assert_eq!((status, health), (200, json!({"status": "ok"})));
}

/// Each that is missing is told once, however often it was looked for.
fn assert_told_once(service: &Service, missing: &[String]) {
    let said = service.process.said();
    for what in missing {
        let told = said.matches(&format!("{what} is missing; trying again")).count();
        let found = said.matches(&format!("{what} is there")).count();
        assert_eq!((told, found), (1, 1), "{what}: {said}");
    }
    assert_eq!(said.matches(" is missing; trying again").count(), missing.len(), "{said}");
    assert!(!said.contains(" ERROR ") && !said.contains("calls are refused until it does"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_that_start_before_their_stores_name_them_and_serve_when_they_come() {
    let (stores, database) = gone().await;
    let place = Place::on(&stores.etcd, &stores.redis, &stores.mariadb.url(&database));
    let etcd = format!("etcd {}", stores.etcd.endpoint());
    let mysql = format!("MySQL 127.0.0.1:{}/{database}", stores.mariadb.port());
    let redis = format!("Redis {}", stores.redis.address());
    let (only_etcd, all) = ([etcd.clone()], [mysql, redis, etcd]);

    let node = Service::node(&place, "connect-node-1");
    let push_manager = Service::push_manager(&place, "push-manager-1");
    let controller = Service::controller(&place, "controller-1");
    until_missing(&node, &only_etcd).await;
    until_missing(&push_manager, &only_etcd).await;
    until_missing(&controller, &all).await;
    assert_unserved(&node, &push_manager, &controller).await;

    stores.start_again();
    let said = place.migrate().await;
    let address = format!("database {database} at 127.0.0.1:{}", stores.mariadb.port());
    assert!(said.contains("The schema is in place: version ") && said.contains(&address), "{said}");
    for service in [&controller, &push_manager, &node] {
        service.until_ready().await;
    }
    assert_told_once(&node, &only_etcd);
    assert_told_once(&push_manager, &only_etcd);
    assert_told_once(&controller, &all);

    let mut ann = Client::join(&node.ws(), "ann", &["blue"]).await;
    let reply = push_manager.api(push_manager.grpc()).push_room("blue", "Hello").await;
    assert_eq!((outcome(&reply, "WRITTEN"), &reply["receipt"]["complete"]), (1, &json!(true)), "{reply}");
    assert_eq!(ann.push().await, "Hello");
    for service in [node, push_manager, controller] {
        service.stop().await;
    }
    assert!(place.registered(Role::ConnectNode).await.is_empty());
}

/// What else is asked of programs that wait.
async fn assert_unserved(node: &Service, push_manager: &Service, controller: &Service) {
    for (service, port) in [(node, node.http()), (push_manager, push_manager.grpc())] {
        let (status, answer) = service.api(port).get("/ready").await;
        assert_eq!((status, &answer["state"]), (503, &json!("starting")));
        assert_eq!(service.api(port).get("/health").await.0, 200);
    }
    assert_eq!(node.api(node.http()).get("/ws?user_id=ann").await.0, 503);
    assert_eq!(node.api(node.http()).get("/nodes").await.1["nodes"], json!([]));
    let push = json!({"content": {"data": "Hello"}});
    let (status, answer) = push_manager.api(push_manager.grpc()).post("/v1/push/broadcast", push).await;
    assert_eq!((status, &answer["error"]["code"]), (503, &Value::from("UNAVAILABLE")), "{answer}");
    for service in [node, push_manager, controller] {
        let channel = tonic::transport::Endpoint::from_shared(format!("http://{}", service.grpc())).unwrap();
        let mut health = HealthClient::new(channel.connect().await.unwrap());
        let answer = health.check(HealthCheckRequest { service: String::new() }).await.unwrap();
        assert_eq!(answer.into_inner().status, 2, "NOT_SERVING");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_waits_for_a_store_ends_at_once_when_told_to() {
    let (stores, database) = gone().await;
    let place = Place::on(&stores.etcd, &stores.redis, &stores.mariadb.url(&database));
    let controller = Service::controller(&place, "controller-1");
    let node = Service::node(&place, "connect-node-1");
    for service in [controller, node] {
        eventually("it waits", async || {
            service.process.said().contains("is missing; trying again").then_some(())
        })
        .await;
        let end = service.process.terminate(STOP_LIMIT / 5).await;
        assert_eq!(end.code, Some(0), "{}", end.said);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_without_its_server_is_one_clear_line() {
    let (stores, database) = gone().await;
    let place = Place::on(&stores.etcd, &stores.redis, &stores.mariadb.url(&database));
    let mut command = place.command("controller-manager");
    command.arg("--migrate");
    let end = Process::run(command).await;
    let line = end.refusal("controller-manager");
    assert!(line.contains(&format!("MySQL 127.0.0.1:{}/{database}", stores.mariadb.port())), "{line}");
    stores.start_again();
    place.migrate().await;
}
