//! How programs end: when they are told to, and when what they were given cannot work.

use roomcast_registry::Role;
use roomcast_test_servers::{Etcd, MariaDb, Redis, unique};
use roomcast_testkit::eventually;

use crate::{
    place::Place,
    process::{End, Process},
    service::Service,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_is_told_to_stop_gives_its_registration_back() {
    let place = Place::shared().await;
    let controller = Service::controller(&place, "controller-1").ready().await;
    let push_manager = Service::push_manager(&place, "push-manager-1").ready().await;
    let node = Service::node(&place, "connect-node-1").ready().await;
    for (service, role) in
        [(node, Role::ConnectNode), (push_manager, Role::PushManager), (controller, Role::ControllerManager)]
    {
        assert_eq!(place.registered(role).await.len(), 1);
        let end = service.stop().await;
        // By the process itself: the lease would have lasted some seconds more.
        assert!(place.registered(role).await.is_empty(), "{role}");
        let failures = end.said.lines().filter(|line| line.contains(" WARN ") || line.contains(" ERROR "));
        assert_eq!(failures.count(), 0, "{}", end.said);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_with_the_same_id_ends_and_names_the_first() {
    let place = Place::shared().await;
    let controller = Service::controller(&place, "controller-1").ready().await;
    let push_manager = Service::push_manager(&place, "push-manager-1").ready().await;
    let node = Service::node(&place, "connect-node-1").ready().await;
    for (service, program, id) in [
        (&node, "connect-node", "connect-node-1"),
        (&push_manager, "push-manager", "push-manager-1"),
        (&controller, "controller-manager", "controller-1"),
    ] {
        let end = service.twin().process.end().await;
        let line = end.refusal(program);
        let holder = format!("{id} is already registered by {}", service.grpc());
        assert!(line.contains(&holder), "{line}");
        service.until_ready().await;
    }
}

/// Starts a controller that cannot run; its last line. What it says must not have the password in it.
async fn refused_controller(place: &Place, password: &str) -> String {
    let end = Service::controller(place, "controller-1").process.end().await;
    assert!(!end.said.contains(password), "{}", end.said);
    end.refusal("controller-manager").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_ends_a_controller_with_a_line_that_names_the_store() {
    let mariadb = MariaDb::shared();
    let (database, user) = (mariadb.create_database(), unique("user"));
    mariadb
        .run("", &format!("CREATE USER {user} IDENTIFIED BY 'right'; GRANT ALL ON {database}.* TO {user}"));
    let at = format!("127.0.0.1:{}/{database}", mariadb.port());
    let place = Place::shared().await;
    let right = place.clone().with("DATABASE_URL", &format!("mysql://{user}:right@{at}"));
    right.migrate().await;
    let wrong = place.clone().with("DATABASE_URL", &format!("mysql://{user}:hunter2@{at}"));
    let line = refused_controller(&wrong, "hunter2").await;
    assert!(line.contains(&format!("MySQL {at}")) && line.contains("denied"), "{line}");

    let redis = Redis::start();
    redis.run(&["CONFIG", "SET", "requirepass", "right"]);
    let wrong = place.clone().with("REDIS_URL", &format!("redis://:hunter2@{}", redis.address()));
    let line = refused_controller(&wrong, "hunter2").await;
    assert!(line.contains(&format!("Redis {}", redis.address())), "{line}");
    let right = place.with("REDIS_URL", &format!("redis://:right@{}", redis.address()));
    Service::controller(&right, "controller-1").ready().await.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_that_are_missing_end_a_controller_with_a_line_that_says_how_to_make_them() {
    let mariadb = MariaDb::shared();
    let place = Place::shared().await.with("DATABASE_URL", &mariadb.url(&mariadb.create_database()));
    let line = refused_controller(&place, "hunter2").await;
    assert!(line.contains("controller-manager --migrate"), "{line}");
    place.migrate().await;
    Service::controller(&place, "controller-1").ready().await.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_of_its_own_is_refused_and_stores_of_its_own_are_warned_of() {
    let place = Place::shared().await;
    for program in ["controller-manager", "push-manager", "connect-node"] {
        let end = Process::run(place.clone().with("ETCD_URL", "memory:").command(program)).await;
        let line = end.refusal(program);
        assert!(line.contains("etcd.url") && line.contains("standalone"), "{line}");
    }
    let folder = tempfile::tempdir().unwrap();
    let sqlite = format!("sqlite:{}", folder.path().display());
    let place = place.with("REDIS_URL", "memory:").with("DATABASE_URL", &sqlite);
    let End { said, .. } = Service::controller(&place, "controller-1").ready().await.stop().await;
    assert_eq!(said.matches("run this one only").count(), 1, "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_a_program_that_is_stopping() {
    let etcd = Etcd::start();
    let place = Place::shared().await.with("ETCD_URL", &etcd.url());
    let push_manager = Service::push_manager(&place, "push-manager-1").ready().await;
    // It waits for an answer when it gives its registration back.
    etcd.freeze();
    push_manager.process.signal("INT");
    eventually("it stops", async || push_manager.process.said().contains("stopping").then_some(())).await;
    assert_eq!(push_manager.readiness().await.unwrap().1["state"], "draining");
    push_manager.process.signal("INT");
    let end = push_manager.process.end().await;
    assert!(end.refusal("push-manager").contains("a second signal"), "{}", end.said);
}
