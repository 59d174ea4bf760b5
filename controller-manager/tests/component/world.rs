//! The stores and the registry, and any number of controllers on them.

use std::{future::Future, sync::Arc, time::Duration};

use controller_manager::{Deps, Running};
use roomcast_proto::pubsub::controller_service_client::ControllerServiceClient;
use roomcast_registry::MemoryRegistry;
use roomcast_runtime::config::{Layers, Program};
use roomcast_store::{Logs, MemoryLog, MemoryPresence, SqliteRooms};
use tonic::transport::{Channel, Endpoint};

use super::stalling::Stalling;

/// How long a state may take to come about: generous, for a machine that is busy with other tests.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Everything that outlives a controller.
pub struct World {
    pub registry: Arc<MemoryRegistry>,
    pub rooms: Arc<SqliteRooms>,
    pub presence: Arc<MemoryPresence>,
    /// The same as the controllers see them.
    pub slow_rooms: Arc<Stalling<SqliteRooms>>,
    pub slow_presence: Arc<Stalling<MemoryPresence>>,
    pub recent_log: Arc<MemoryLog>,
    pub durable_log: Arc<MemoryLog>,
    controllers: Vec<Running>,
}

impl World {
    /// With one controller.
    pub async fn new(sets: &[&str]) -> Self {
        let rooms = Arc::new(SqliteRooms::ephemeral().await.unwrap());
        let presence = Arc::new(MemoryPresence::new());
        let mut world = Self {
            registry: Arc::new(MemoryRegistry::new()),
            slow_rooms: Stalling::over(rooms.clone()),
            slow_presence: Stalling::over(presence.clone()),
            rooms,
            presence,
            recent_log: Arc::new(MemoryLog::new()),
            durable_log: Arc::new(MemoryLog::new()),
            controllers: Vec::new(),
        };
        world.add_controller(sets).await;
        world
    }

    /// Starts one more controller; its index.
    pub async fn add_controller(&mut self, sets: &[&str]) -> usize {
        let index = self.controllers.len();
        let own =
            [format!("server.id=controller-{index}"), "server.port=0".into(), "server.metrics_port=0".into()];
        let sets = own.into_iter().chain(sets.iter().map(|set| (*set).to_owned()));
        let config = Layers::default().with_sets(sets).load(Program::Controller).unwrap();
        let deps = Deps {
            config: Arc::new(config),
            registry: self.registry.clone(),
            rooms: self.slow_rooms.clone(),
            presence: self.slow_presence.clone(),
            logs: self.logs(),
        };
        self.controllers.push(controller_manager::start(deps).await.unwrap());
        index
    }

    fn logs(&self) -> Logs {
        Logs { recent: self.recent_log.clone(), durable: self.durable_log.clone(), ..Logs::memory() }
    }

    /// host:port of a controller.
    pub fn address(&self, index: usize) -> String {
        self.controllers[index].grpc_address().to_string()
    }

    /// Takes a controller out, to stop it.
    pub fn take_controller(&mut self, index: usize) -> Running {
        self.controllers.remove(index)
    }

    /// A client of a controller.
    pub async fn client_of(&self, index: usize) -> ControllerServiceClient<Channel> {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address(index))).unwrap();
        ControllerServiceClient::new(endpoint.connect().await.unwrap())
    }

    /// A client of the first controller.
    pub async fn client(&self) -> ControllerServiceClient<Channel> {
        self.client_of(0).await
    }

    /// What the first controller's `/metrics` says.
    pub fn metrics(&self) -> String {
        self.controllers[0].telemetry().render()
    }
}

/// Waits for a state.
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut is_so: impl FnMut() -> F) {
    let waiting = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    if tokio::time::timeout(PATIENCE, waiting).await.is_err() {
        panic!("not within {PATIENCE:?}: {what}");
    }
}
