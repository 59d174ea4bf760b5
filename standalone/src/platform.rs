//! Starts, watches and stops the services of one process, in the order in which they need each other.

use std::sync::Arc;

use connect_node::Drained;
use roomcast_registry::{Registry, Role};
use roomcast_runtime::{Causes, Config, Readiness, cli::Over};
use roomcast_store::{Logs, SqliteRooms};
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
    /// Rooms in memory, whatever `database` says.
    pub is_ephemeral: bool,
}

/// The running platform.
pub struct Platform {
    controller: Hosted<controller_manager::Running>,
    push_manager: Hosted<push_manager::Running>,
    nodes: Vec<Hosted<connect_node::Running>>,
    /// Nodes that were asked to drain.
    draining: JoinSet<Option<Drained>>,
}

/// Why the platform did not start; one line.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The registry cannot be opened.
    #[error("{0}")]
    Registry(String),
    /// The stores of logs cannot be opened.
    #[error("{}", Causes(.0))]
    Logs(#[source] roomcast_store::Error),
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

impl Platform {
    /// Starts controller-manager, push-manager and nodes, and returns when every node takes sessions. What was
    /// started before an error is gone when it returns.
    pub async fn start(options: Options) -> Result<Self, StartError> {
        let Options { config, nodes, is_ephemeral } = options;
        let registry = open_registry(&config).await?;
        let config = Arc::new(config);
        let logs = if is_ephemeral {
            Logs::memory()
        } else {
            let opened = roomcast_store::open_logs(&config.database, &config.redis).await;
            opened.map_err(StartError::Logs)?
        };
        let controller = start_controller(config.clone(), registry.clone(), logs.clone(), is_ephemeral);
        let controller = Hosted::start("controller", 2, controller).await.map_err(StartError::Controller)?;
        let push_manager = push_manager::start(push_manager::Deps {
            config: config.clone(),
            registry: registry.clone(),
            logs,
        });
        let push_manager =
            Hosted::start("push-manager", 2, push_manager).await.map_err(StartError::PushManager)?;
        let nodes = start_nodes(&config, nodes, &registry).await?;
        Ok(Self { controller, push_manager, nodes, draining: JoinSet::new() })
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

    /// Resolves when a service cannot go on, naming it and why. A node that somebody asks to drain is drained meanwhile;
    /// the others go on.
    pub async fn failed(&mut self) -> String {
        loop {
            let nodes = self.nodes.iter_mut().map(|node| Box::pin(node.service_mut().over()));
            let over = async {
                match nodes.len() {
                    0 => std::future::pending().await,
                    _ => futures_util::future::select_all(nodes).await,
                }
            };
            let (over, index) = tokio::select! {
                why = self.controller.service_mut().failed() => return format!("controller-manager: {why}"),
                why = self.push_manager.service_mut().failed() => return format!("push-manager: {why}"),
                (over, index, _) = over => (over, index),
                Some(_) = self.draining.join_next() => continue,
            };
            let node = self.nodes.remove(index);
            match over {
                Over::Asked => _ = self.draining.spawn(node.stop(connect_node::Running::drain)),
                Over::Failed(why) => {
                    let failed = format!("connect-node {}: {why}", node.service().node_id());
                    self.nodes.insert(index, node);
                    return failed;
                }
            }
        }
    }

    /// Stops everything in order: sessions first, then pushes, then rooms.
    pub async fn stop(self) {
        let mut stopping = JoinSet::new();
        for node in self.nodes {
            stopping.spawn(node.stop(connect_node::Running::stop));
        }
        stopping.join_all().await;
        // Nodes that were asked to drain have nowhere to send anybody now.
        self.draining.join_all().await;
        self.push_manager.stop(push_manager::Running::stop).await;
        self.controller.stop(controller_manager::Running::stop).await;
    }
}

/// The registry that all services of this process share, as soon as it answers.
async fn open_registry(config: &Config) -> Result<Arc<dyn Registry>, StartError> {
    let etcd = &config.etcd;
    let registry =
        roomcast_registry::open(etcd).map_err(|error| StartError::Registry(Causes(&error).to_string()))?;
    let look = || registry.list(Role::ConnectNode);
    let answered =
        Readiness::new().wait_for(etcd.shown(), roomcast_registry::Error::is_retryable, look).await;
    answered.map_err(|error| StartError::Registry(format!("{}: {}", etcd.shown(), Causes(&error))))?;
    Ok(registry)
}

/// On the stores of the configuration, opened where they are used: on the controller's own runtime.
async fn start_controller(
    config: Arc<Config>,
    registry: Arc<dyn Registry>,
    logs: Logs,
    is_ephemeral: bool,
) -> Result<controller_manager::Running, controller_manager::Error> {
    let starting = controller_manager::Starting::bind(config).await?;
    let presence = starting.presence().await?;
    let rooms = if is_ephemeral {
        let opened = SqliteRooms::ephemeral().await;
        let failed = |source| controller_manager::Error::Store { what: "rooms in memory".to_owned(), source };
        Arc::new(opened.map_err(failed)?)
    } else {
        starting.rooms().await?
    };
    starting.start(registry, rooms, presence, logs).await
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
