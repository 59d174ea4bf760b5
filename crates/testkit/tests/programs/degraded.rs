//! What `/ready` says while a store or the registry is away.

use roomcast_test_servers::{Etcd, MariaDb, Redis};
use serde_json::json;

use crate::{place::Place, service::Service};

async fn until_degraded(service: &Service, degraded: &[&str]) {
    let report = json!({"ready": true, "state": "ready", "missing": [], "degraded": degraded});
    service.until_says(200, &report).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_goes_away_leaves_everybody_ready_and_is_named() {
    let (etcd, mariadb, redis) = (Etcd::start(), MariaDb::start(), Redis::start());
    let place = Place::on(&etcd, &redis, &mariadb.url(&mariadb.create_database()));
    place.migrate().await;
    let controller = Service::controller(&place, "controller-1").ready().await;
    let push_manager = Service::push_manager(&place, "push-manager-1").ready().await;
    let node = Service::node(&place, "connect-node-1").ready().await;

    redis.kill();
    until_degraded(&controller, &["redis"]).await;
    redis.start_again();
    controller.until_ready().await;
    mariadb.freeze();
    until_degraded(&controller, &["database"]).await;
    mariadb.thaw();
    controller.until_ready().await;
    etcd.kill();
    for service in [&controller, &push_manager, &node] {
        until_degraded(service, &["etcd"]).await;
    }
    etcd.start_again();
    for service in [&controller, &push_manager, &node] {
        service.until_ready().await;
    }
    // Nobody listens there, so the node has nobody to report to.
    controller.stop().await;
    until_degraded(&node, &["controller"]).await;
    for service in [node, push_manager] {
        service.stop().await;
    }
}
