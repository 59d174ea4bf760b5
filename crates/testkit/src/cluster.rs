//! A cluster in one process: real services over real gRPC and WebSocket, each on a runtime of its own.

use std::sync::Arc;

use connect_node::Drained;
use roomcast_client::{Controller, Pusher};
use roomcast_registry::MemoryRegistry;
use roomcast_runtime::{
    Config,
    config::{Layers, Program},
};
use roomcast_store::{Logs, MemoryInbox, MemoryLog, MemoryPresence, SqliteRooms};
use standalone::Hosted;
use tokio::task::JoinHandle;

use crate::{
    api::Api,
    backends::{Backends, Servers},
    errors,
    freeze::Frozen,
};

/// Workers of each service's runtime.
const WORKERS: usize = 1;

/// Names what to start.
#[derive(Debug)]
pub struct ClusterBuilder {
    nodes: usize,
    push_managers: usize,
    controllers: usize,
    sets: Vec<String>,
    servers: Option<Servers>,
}

impl ClusterBuilder {
    /// How many connect-nodes.
    pub fn nodes(mut self, count: usize) -> Self {
        self.nodes = count;
        self
    }

    /// How many push-managers.
    pub fn push_managers(mut self, count: usize) -> Self {
        self.push_managers = count;
        self
    }

    /// How many controllers.
    pub fn controllers(mut self, count: usize) -> Self {
        self.controllers = count;
        self
    }

    /// Sets a configuration key: `path=value`.
    pub fn set(mut self, assignment: &str) -> Self {
        self.sets.push(assignment.to_owned());
        self
    }

    /// Stands on real servers instead of the embedded stores.
    pub fn on(mut self, servers: Servers) -> Self {
        self.sets.extend(servers.sets());
        self.servers = Some(servers);
        self
    }

    /// Starts everything and returns when every node takes sessions.
    pub async fn start(self) -> Cluster {
        errors::collect();
        let mut cluster = Cluster {
            registry: Arc::new(MemoryRegistry::new()),
            rooms: Arc::new(SqliteRooms::ephemeral().await.expect("SQLite in memory")),
            presence: Arc::new(MemoryPresence::new()),
            recent_log: Arc::new(MemoryLog::new()),
            durable_log: Arc::new(MemoryLog::new()),
            inbox: Arc::new(MemoryInbox::new()),
            sets: self.sets,
            servers: self.servers,
            controllers: Vec::new(),
            push_managers: Vec::new(),
            nodes: Vec::new(),
        };
        for _ in 0..self.controllers {
            cluster.start_controller().await;
        }
        for _ in 0..self.push_managers {
            cluster.start_push_manager().await;
        }
        for _ in 0..self.nodes {
            cluster.start_node().await;
        }
        cluster
    }
}

/// The running cluster; what is left of it dies with it. Indexes count from 0 in order of start.
pub struct Cluster {
    /// Shared by all services; has controls of its own. Unused on real servers, like the next five.
    pub registry: Arc<MemoryRegistry>,
    /// The record of rooms.
    pub rooms: Arc<SqliteRooms>,
    /// The shared memory; has controls of its own.
    pub presence: Arc<MemoryPresence>,
    /// Logs of the last minutes; may be switched off, flushed, dumped and restored.
    pub recent_log: Arc<MemoryLog>,
    /// Durable logs, in memory all the same.
    pub durable_log: Arc<MemoryLog>,
    /// Inboxes.
    pub inbox: Arc<MemoryInbox>,
    servers: Option<Servers>,
    sets: Vec<String>,
    controllers: Vec<Option<Hosted<controller_manager::Running>>>,
    push_managers: Vec<Option<Hosted<push_manager::Running>>>,
    nodes: Vec<Option<Hosted<connect_node::Running>>>,
}

impl Cluster {
    /// One controller, one push-manager, three nodes.
    pub fn builder() -> ClusterBuilder {
        ClusterBuilder { nodes: 3, push_managers: 1, controllers: 1, sets: Vec::new(), servers: None }
    }

    fn config(&self, name: &str) -> Arc<Config> {
        let free_ports = [
            "server.port=0",
            "server.metrics_port=0",
            "push_manager.port=0",
            "push_manager.metrics_port=0",
            "connect_node.grpc_port=0",
            "connect_node.http_port=0",
            "connect_node.metrics_port=0",
            "connect_node.shards=1",
        ];
        let names = ["server.id", "push_manager.id", "connect_node.id"].map(|key| format!("{key}={name}"));
        let sets = free_ports.map(str::to_owned).into_iter().chain(names).chain(self.sets.clone());
        Arc::new(
            Layers::default()
                .with_sets(sets)
                .load(Program::Standalone)
                .expect("the test's settings are valid"),
        )
    }

    fn backends(&self) -> Backends {
        if self.servers.is_some() {
            return Backends::Configured;
        }
        Backends::Embedded {
            registry: self.registry.clone(),
            rooms: self.rooms.clone(),
            presence: self.presence.clone(),
            logs: Logs {
                recent: self.recent_log.clone(),
                durable: self.durable_log.clone(),
                inbox: self.inbox.clone(),
            },
        }
    }

    /// The servers that the cluster stands on.
    pub fn servers(&self) -> &Servers {
        self.servers.as_ref().expect("the test put the cluster on servers")
    }

    /// Starts one more controller; its index.
    pub async fn start_controller(&mut self) -> usize {
        let config = self.config(&format!("controller-{}", self.controllers.len() + 1));
        let backends = self.backends();
        let starting = async move {
            let deps = controller_manager::Deps {
                registry: backends.registry(&config),
                rooms: backends.rooms(&config).await,
                presence: backends.presence(&config).await,
                logs: backends.logs(&config).await,
                config,
            };
            controller_manager::start(deps).await
        };
        let hosted = Hosted::start("controller", WORKERS, starting).await;
        self.controllers.push(Some(hosted.unwrap_or_else(|error| panic!("controller: {error}"))));
        self.controllers.len() - 1
    }

    /// Starts one more push-manager; its index.
    pub async fn start_push_manager(&mut self) -> usize {
        let config = self.config(&format!("push-manager-{}", self.push_managers.len() + 1));
        let backends = self.backends();
        let starting = async move {
            let deps = push_manager::Deps {
                registry: backends.registry(&config),
                logs: backends.logs(&config).await,
                config,
            };
            push_manager::start(deps).await
        };
        let hosted = Hosted::start("push-manager", WORKERS, starting).await;
        self.push_managers.push(Some(hosted.unwrap_or_else(|error| panic!("push-manager: {error}"))));
        self.push_managers.len() - 1
    }

    /// Starts one more node; its index.
    pub async fn start_node(&mut self) -> usize {
        let node = self.begin_node().await;
        self.add_node(node)
    }

    /// Starts one more node, which may have to wait for something.
    pub fn begin_node(&self) -> impl Future<Output = Hosted<connect_node::Running>> + use<> {
        let config = self.config(&format!("connect-node-{}", self.nodes.len() + 1));
        let backends = self.backends();
        let starting = async move {
            connect_node::start(connect_node::Deps { registry: backends.registry(&config), config }).await
        };
        async move {
            let hosted = Hosted::start("connect-node", WORKERS, starting).await;
            hosted.unwrap_or_else(|error| panic!("connect-node: {error}"))
        }
    }

    /// Takes a node that was begun into the cluster; its index.
    pub fn add_node(&mut self, node: Hosted<connect_node::Running>) -> usize {
        self.nodes.push(Some(node));
        self.nodes.len() - 1
    }

    /// A controller that was not ended.
    pub fn controller(&self, index: usize) -> &controller_manager::Running {
        self.controllers[index].as_ref().expect("was not ended").service()
    }

    /// A push-manager that was not ended.
    pub fn push_manager(&self, index: usize) -> &push_manager::Running {
        self.push_managers[index].as_ref().expect("was not ended").service()
    }

    /// A node that was not ended.
    pub fn node(&self, index: usize) -> &connect_node::Running {
        self.nodes[index].as_ref().expect("was not ended").service()
    }

    /// `ws://…/ws` of a node.
    pub fn ws(&self, node: usize) -> String {
        format!("ws://{}/ws", self.node(node).http_address())
    }

    /// A client of one push-manager.
    pub fn pusher(&self, index: usize) -> Pusher {
        let address = self.push_manager(index).grpc_address().to_string();
        Pusher::new([address]).expect("host:port")
    }

    /// The JSON API of one push-manager.
    pub fn api(&self, index: usize) -> Api {
        Api::new(self.push_manager(index).grpc_address())
    }

    /// The HTTP interface of one node.
    pub fn node_api(&self, index: usize) -> Api {
        Api::new(self.node(index).http_address())
    }

    /// Ends a node as `kill -9` does.
    pub fn kill_node(&mut self, index: usize) {
        self.nodes[index].take().expect("was not ended").kill();
    }

    /// Stops a node in order.
    pub async fn stop_node(&mut self, index: usize) {
        self.nodes[index].take().expect("was not ended").stop(connect_node::Running::stop).await;
    }

    /// Takes a node out of the cluster, to be drained beside what the test goes on with. What became of its sessions.
    pub fn drain_node(&mut self, index: usize) -> JoinHandle<Drained> {
        let hosted = self.nodes[index].take().expect("was not ended");
        tokio::spawn(
            async move { hosted.stop(connect_node::Running::drain).await.expect("it ends in order") },
        )
    }

    /// Takes a push-manager out of the cluster, to be drained. What it left behind.
    pub fn drain_push_manager(&mut self, index: usize) -> JoinHandle<push_manager::Left> {
        let hosted = self.push_managers[index].take().expect("was not ended");
        tokio::spawn(
            async move { hosted.stop(push_manager::Running::drain).await.expect("it ends in order") },
        )
    }

    /// Takes a controller out of the cluster, to be drained. What it left behind.
    pub fn drain_controller(&mut self, index: usize) -> JoinHandle<controller_manager::Left> {
        let hosted = self.controllers[index].take().expect("was not ended");
        tokio::spawn(async move {
            hosted.stop(controller_manager::Running::drain).await.expect("it ends in order")
        })
    }

    /// Stops a push-manager in order.
    pub async fn stop_push_manager(&mut self, index: usize) {
        let hosted = self.push_managers[index].take().expect("was not ended");
        hosted.stop(push_manager::Running::stop).await;
    }

    /// Ends a push-manager as `kill -9` does.
    pub fn kill_push_manager(&mut self, index: usize) {
        self.push_managers[index].take().expect("was not ended").kill();
    }

    /// Ends a controller as `kill -9` does.
    pub fn kill_controller(&mut self, index: usize) {
        self.controllers[index].take().expect("was not ended").kill();
    }

    /// A client of one controller.
    pub fn controller_client(&self, index: usize) -> Controller {
        let address = self.controller(index).grpc_address().to_string();
        Controller::new([address]).expect("host:port")
    }

    /// Freezes a push-manager until the guard is dropped.
    pub fn freeze_push_manager(&self, index: usize) -> Frozen {
        Frozen::new([(self.push_managers[index].as_ref().expect("was not ended").handle(), WORKERS)])
    }

    /// Freezes a node, its shards' threads included, until the guard is dropped.
    pub fn freeze_node(&self, index: usize) -> Frozen {
        let node = self.nodes[index].as_ref().expect("was not ended");
        let shards = node.service().shard_runtimes();
        Frozen::new(std::iter::once((node.handle(), WORKERS)).chain(shards.iter().map(|shard| (shard, 1))))
    }

    /// Stops what is left, in order, and fails when any service logged an ERROR.
    pub async fn finish(mut self) {
        for node in self.nodes.drain(..).flatten() {
            node.stop(connect_node::Running::stop).await;
        }
        for push_manager in self.push_managers.drain(..).flatten() {
            push_manager.stop(push_manager::Running::stop).await;
        }
        for controller in self.controllers.drain(..).flatten() {
            controller.stop(controller_manager::Running::stop).await;
        }
        errors::assert_none();
    }
}
