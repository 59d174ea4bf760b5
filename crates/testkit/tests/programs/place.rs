//! The stores and the registry that programs are given: shared ones under a prefix of their own, or a set of its own.

use std::{collections::BTreeMap, process::Command};

use roomcast_registry::{Registration, Role};
use roomcast_runtime::config::{Layers, Program};
use roomcast_test_servers::{Etcd, MariaDb, Redis, unique};

use crate::{binaries, process::Process};

/// Where programs find each other. Everything that one place names is apart from every other.
#[derive(Clone)]
pub struct Place {
    /// Environment of each program.
    pub environment: BTreeMap<&'static str, String>,
    /// `--set` of each program.
    pub sets: Vec<String>,
}

impl Place {
    /// On the servers that this test binary shares, with the tables in place.
    pub async fn shared() -> Self {
        let (etcd, redis, mariadb) = (Etcd::shared(), Redis::shared(), MariaDb::shared());
        let place = Self::on(etcd, redis, &mariadb.url(&mariadb.create_database()));
        place.migrate().await;
        place
    }

    /// On these servers.
    pub fn on(etcd: &Etcd, redis: &Redis, database_url: &str) -> Self {
        let urls =
            [("ETCD_URL", etcd.url()), ("REDIS_URL", redis.url()), ("DATABASE_URL", database_url.to_owned())];
        let prefix = unique("programs");
        let sets = vec![format!("etcd.key_prefix=/{prefix}"), format!("redis.key_prefix={prefix}:")];
        Self { environment: BTreeMap::from(urls), sets }
    }

    /// The same place, with one variable set otherwise.
    pub fn with(mut self, variable: &'static str, value: &str) -> Self {
        self.environment.insert(variable, value.to_owned());
        self
    }

    /// A program of this place.
    pub fn command(&self, program: &str) -> Command {
        let mut command = binaries::command(program);
        command.envs(&self.environment);
        for set in &self.sets {
            command.args(["--set", set]);
        }
        command
    }

    /// Has `controller-manager --migrate` bring the tables; what it says.
    pub async fn migrate(&self) -> String {
        let mut command = self.command("controller-manager");
        command.arg("--migrate");
        let end = Process::run(command).await;
        assert_eq!(end.code, Some(0), "{}", end.said);
        end.said
    }

    /// What is registered here under a role.
    pub async fn registered(&self, role: Role) -> Vec<Registration> {
        let environment = self.environment.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
        let layers = Layers::default().with_environment(environment).with_sets(self.sets.clone());
        let config = layers.load(Program::Controller).unwrap();
        let registry = roomcast_registry::open(&config.etcd).unwrap();
        registry.list(role).await.unwrap()
    }
}
