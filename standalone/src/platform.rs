//! Starts, watches and stops the services of one process, in the order in which they need each other.

use std::sync::Arc;

use roomcast_registry::{MemoryRegistry, Registry};
use roomcast_runtime::Config;
use roomcast_store::{MemoryPresence, SqliteRooms, open::DATABASE_FILE};
use tokio::task::JoinSet;

use crate::{
    host::{HostError, Hosted},
    ports::node_config,
};

/// What to start.
#[derive(Debug, Clone)]
pub struct Options {
    /// Configuration of all tiers; the ports of further nodes follow from the first one's.
    pub config: Config,
    /// connect-nodes, 1 to [`crate::ports::NODES_MAX`].
    pub nodes: u16,
    /// Rooms in memory instead of in the folder `database.path`.
    pub is_ephemeral: bool,
}

/// The running platform.
pub struct Platform {
    controller: Hosted<controller_manager::Running>,
    push_manager: Hosted<push_manager::Running>,
    nodes: Vec<Hosted<connect_node::Running>>,
}

/// Why the platform did not start; one line.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The record of rooms cannot be opened.
    #[error("cannot open the rooms in {path}: {}", chain(source))]
    Rooms {
        /// The folder.
        path: String,
        /// Why.
        #[source]
        source: roomcast_store::Error,
    },
    /// The controller-manager.
    #[error("controller-manager: {0}")]
    Controller(#[source] HostError<controller_manager::Error>),
    /// The push-manager.
    #[error("push-manager: {0}")]
    PushManager(#[source] HostError<push_manager::Error>),
    /// A connect-node.
    #[error("{node}: {source}")]
    Node {
        /// Which.
        node: String,
        /// Why.
        #[source]
        source: HostError<connect_node::Error>,
    },
}

/// An error with its causes, on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let text = inner.to_string();
        if !line.contains(&text) {
            line = format!("{line}: {text}");
        }
        cause = inner.source();
    }
    line
}

impl Platform {
    /// Starts controller-manager, push-manager and nodes, and returns when every node takes sessions. What was
    /// started before an error is gone when it returns.
    pub async fn start(options: Options) -> Result<Self, StartError> {
        let Options { config, nodes, is_ephemeral } = options;
        let rooms = open_rooms(&config, is_ephemeral).await?;
        let registry: Arc<dyn Registry> = Arc::new(MemoryRegistry::new());
        let config = Arc::new(config);
        let controller = controller_manager::start(controller_manager::Deps {
            config: config.clone(),
            registry: registry.clone(),
            rooms: Arc::new(rooms),
            presence: Arc::new(MemoryPresence::new()),
        });
        let controller = Hosted::start("controller", 2, controller).await.map_err(StartError::Controller)?;
        let push_manager =
            push_manager::start(push_manager::Deps { config: config.clone(), registry: registry.clone() });
        let push_manager =
            Hosted::start("push-manager", 2, push_manager).await.map_err(StartError::PushManager)?;
        let nodes = start_nodes(&config, nodes, &registry).await?;
        Ok(Self { controller, push_manager, nodes })
    }

    /// The controller-manager.
    pub fn controller(&self) -> &controller_manager::Running {
        self.controller.service()
    }

    /// The push-manager.
    pub fn push_manager(&self) -> &push_manager::Running {
        self.push_manager.service()
    }

    /// The connect-nodes, in order.
    pub fn nodes(&self) -> impl Iterator<Item = &connect_node::Running> {
        self.nodes.iter().map(Hosted::service)
    }

    /// Resolves when a service cannot go on, naming it and why.
    pub async fn failed(&mut self) -> String {
        let nodes = self.nodes.iter_mut().map(|node| Box::pin(node.service_mut().failed()));
        tokio::select! {
            why = self.controller.service_mut().failed() => format!("controller-manager: {why}"),
            why = self.push_manager.service_mut().failed() => format!("push-manager: {why}"),
            (why, index, _) = futures_util::future::select_all(nodes) => format!("connect-node {}: {why}", index + 1),
        }
    }

    /// Stops everything in order: sessions first, then pushes, then rooms.
    pub async fn stop(self) {
        let mut stopping = JoinSet::new();
        for node in self.nodes {
            stopping.spawn(node.stop(connect_node::Running::stop));
        }
        stopping.join_all().await;
        self.push_manager.stop(push_manager::Running::stop).await;
        self.controller.stop(controller_manager::Running::stop).await;
    }
}

async fn open_rooms(config: &Config, is_ephemeral: bool) -> Result<SqliteRooms, StartError> {
    let file = config.database.path.join(DATABASE_FILE);
    let opened = if is_ephemeral { SqliteRooms::ephemeral().await } else { SqliteRooms::open(&file).await };
    opened.map_err(|source| StartError::Rooms { path: config.database.path.display().to_string(), source })
}

async fn start_nodes(
    config: &Arc<Config>,
    count: u16,
    registry: &Arc<dyn Registry>,
) -> Result<Vec<Hosted<connect_node::Running>>, StartError> {
    let mut starting = JoinSet::new();
    for index in 0..count {
        let config = node_config(config, index, count);
        let name = config.connect_node.id.clone();
        let deps = connect_node::Deps { config: Arc::new(config), registry: registry.clone() };
        starting.spawn(async move {
            let hosted = Hosted::start(&name, 1, connect_node::start(deps)).await;
            (index, hosted.map_err(|source| StartError::Node { node: name, source }))
        });
    }
    let mut nodes = starting.join_all().await;
    nodes.sort_by_key(|(index, _)| *index);
    nodes.into_iter().map(|(_, node)| node).collect()
}
