//! Starts a node, step by step: serve the lanes, register, meet the push-managers, then take sessions.

use std::{net::SocketAddr, sync::Arc};

use roomcast_proto::pubsub::connect_node_service_server::SERVICE_NAME;
use roomcast_registry::{Member, Registration, Registry, Role, Roster, State};
use roomcast_runtime::{Config, Front, Phase, Telemetry, bind};
use roomcast_types::{Incarnation, NodeId, ServiceId};
use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    acceptor::Acceptor,
    error::Error,
    hub::{Core, Handle, Identity, Settings},
    load::Load,
    log::{compare, reader},
    metrics::Metrics,
    pages::{self, Peers, Site, loads::Loads},
    ports::Shards,
    report::{self, controllers::Controllers},
    rpc,
    running::{EndOperations, Running},
    shard::{self, ShardHandle, ShardMetrics},
};

/// What a node needs from outside.
#[derive(Clone)]
pub struct Deps {
    /// The whole configuration; `connect_node` has the node's own keys.
    pub config: Arc<Config>,
    /// Where it registers, and finds the other tiers.
    pub registry: Arc<dyn Registry>,
}

/// Starts a node on a registry; returns when it takes sessions. Nothing of it is left when it fails.
pub async fn start(deps: Deps) -> Result<Running, Error> {
    Starting::bind(deps.config).await?.start(deps.registry).await
}

/// Starts a node as its configuration says: serves its pages and answers `/ready` at once, waits for the registry, and
/// returns when it takes sessions.
pub async fn run(config: Arc<Config>) -> Result<Running, Error> {
    let starting = Starting::bind(config).await?;
    let registry = starting.registry().await?;
    starting.start(registry).await
}

/// A node that serves its ports and takes no sessions yet.
struct Starting {
    config: Arc<Config>,
    identity: Identity,
    front: Front,
    http_address: SocketAddr,
    hub: Arc<Core>,
    load: Arc<Load>,
    site: Arc<Site>,
    shards: Vec<ShardHandle>,
    accepting: JoinSet<&'static str>,
    end: CancellationToken,
    operations: EndOperations,
}

impl Starting {
    async fn bind(config: Arc<Config>) -> Result<Self, Error> {
        let (ip, node) = (config.network.bind, &config.connect_node);
        let grpc = bind(ip, node.grpc_port, "connect-node gRPC", "connect_node.grpc_port").await?;
        let http = bind(ip, node.http_port, "WebSocket and pages", "connect_node.http_port").await?;
        let metrics_port =
            bind(ip, node.metrics_port, "connect-node metrics", "connect_node.metrics_port").await?;
        let http_address = http.address;
        let identity = identity(&config, grpc.address, http_address)?;
        let telemetry = Telemetry::new("connect-node", identity.node_id.as_str(), &config.telemetry);
        let (metrics, shard_metrics) = telemetry.register(|| (Metrics::new(), ShardMetrics::new()));
        let hub = Core::new(identity.clone(), Settings::new(&config), metrics, telemetry.tracing().clone());
        let operations = EndOperations(hub.clone());
        let front = Front::open(SERVICE_NAME, grpc, metrics_port, telemetry).await;
        let site = Arc::new(Site::new(hub.clone(), front.readiness.clone()));
        let shard_count = shard_count(&config);
        let load = Load::new(shard_count);
        let (failpoints, departures) = (hub.failpoints.clone(), hub.departures.clone());
        let shard_config = Arc::new(shard::Config { failpoints, departures, ..shard::Config::new(&config)? });
        let pages = pages::router(site.clone());
        let shards = spawn_shards(shard_count, &shard_config, &hub, pages, &shard_metrics, &load)?;
        let mailboxes = Shards::new(shards.iter().map(ShardHandle::mailbox).collect());
        hub.set_shards(mailboxes.clone());
        front.serve_on(rpc::router(hub.clone()), shards.iter().map(ShardHandle::runtime).collect());
        let (end, mut accepting) = (CancellationToken::new(), JoinSet::new());
        let acceptor = Acceptor::run(http, mailboxes, load.clone(), shard_config, shard_metrics, end.clone());
        accepting.spawn(named("the client port", acceptor));
        Ok(Self {
            config,
            identity,
            front,
            http_address,
            hub,
            load,
            site,
            shards,
            accepting,
            end,
            operations,
        })
    }

    /// The configured registry, as soon as it answers.
    async fn registry(&self) -> Result<Arc<dyn Registry>, Error> {
        let etcd = &self.config.etcd;
        let registry = roomcast_registry::open(etcd)?;
        let id = ServiceId::new(self.identity.node_id.as_str())?;
        let look = || registry.get(Role::ConnectNode, &id);
        self.front.readiness.wait_for(etcd.shown(), roomcast_registry::Error::is_retryable, look).await?;
        Ok(registry)
    }

    async fn start(self, registry: Arc<dyn Registry>) -> Result<Running, Error> {
        let Self {
            config,
            identity,
            front,
            http_address,
            hub,
            load,
            site,
            shards,
            accepting,
            end,
            operations,
        } = self;
        let managers = Arc::new(Roster::start(registry.clone(), Role::PushManager));
        let nodes = Arc::new(Roster::start(registry.clone(), Role::ConnectNode));
        let addresses = &config.connect_node.controller_address;
        let controllers =
            Controllers::new(addresses, registry.clone(), identity.node_id.clone(), nodes.clone());
        let controllers = Arc::new(controllers);
        let loads = Arc::new(Loads::default());
        site.set_peers(Peers { nodes: nodes.clone(), loads: loads.clone() });
        let mut tasks = JoinSet::new();
        tasks.spawn(named("the timekeeper", hub.clone().keep_time()));
        tasks.spawn(named("the log reader", reader::run(hub.clone())));
        tasks.spawn(named("the comparison of logs", compare::run(hub.clone())));
        tasks.spawn(named("the reports", report::run(hub.clone(), controllers.clone())));
        tasks.spawn(named("the node list", loads.keep(controllers)));

        let registration = registration(&identity)?;
        let join = || Member::join(registry.clone(), registration.clone(), config.etcd.lease_ttl);
        let member = front
            .readiness
            .wait_for(config.etcd.shown(), roomcast_registry::Error::is_retryable, join)
            .await?;
        meet(&hub, &managers, Instant::now() + config.connect_node.lane_wait).await;
        hub.set_life(State::Ready);
        member.set_state(State::Ready);
        load.set_open(true);
        let watched = hub.clone();
        front.readiness.set_degraded(move || pages::degraded(&watched, &managers));
        front.set_phase(Phase::Ready).await;
        let (grpc, metrics) = (front.grpc_address(), front.metrics_address());
        tracing::info!(node_id = %identity.node_id, url = identity.url, http = %http_address, %grpc, %metrics, "ready");
        let pace = config.connect_node.drain.clone();
        let running = Running {
            front,
            http_address,
            hub,
            load,
            pace,
            nodes,
            member,
            shards,
            tasks,
            accepting,
            end,
            operations,
        };
        Ok(running)
    }
}

/// A task whose end has a name.
async fn named(name: &'static str, task: impl Future<Output = ()>) -> &'static str {
    task.await;
    name
}

fn identity(config: &Config, grpc: SocketAddr, http: SocketAddr) -> Result<Identity, Error> {
    let host = config.network.advertised();
    let named = &config.connect_node.public_ws_url;
    let url = if named.is_empty() { format!("ws://{host}:{}/ws", http.port()) } else { named.clone() };
    Ok(Identity {
        node_id: NodeId::new(&config.connect_node.id)?,
        incarnation: Incarnation::random(),
        grpc_address: format!("{host}:{}", grpc.port()),
        url,
        started_at: Instant::now(),
    })
}

fn registration(identity: &Identity) -> Result<Registration, Error> {
    Ok(Registration {
        role: Role::ConnectNode,
        id: ServiceId::new(identity.node_id.as_str())?,
        grpc_address: identity.grpc_address.clone(),
        url: identity.url.clone(),
        incarnation: identity.incarnation,
        state: State::Starting,
    })
}

fn shard_count(config: &Config) -> usize {
    match config.connect_node.shards {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        shards => shards,
    }
}

fn spawn_shards(
    count: usize,
    config: &Arc<shard::Config>,
    hub: &Arc<Core>,
    pages: axum::Router,
    metrics: &ShardMetrics,
    load: &Arc<Load>,
) -> Result<Vec<ShardHandle>, Error> {
    let hub = Arc::new(Handle(hub.clone()));
    (0..count)
        .map(|index| {
            shard::spawn(
                index as u16,
                config.clone(),
                hub.clone(),
                pages.clone(),
                metrics.clone(),
                load.clone(),
            )
            .map_err(|source| Error::Shard { shard: index, source })
        })
        .collect()
}

/// Waits until every listed push-manager has a lane in sync, or left the list: from then on none of them takes a
/// session of this node for absent.
async fn meet(hub: &Core, managers: &Roster, until: Instant) {
    // Registered before listed: a push-manager that is not in this list finds this node in its own.
    managers.refresh().await;
    let (mut listing, mut lanes) = (managers.subscribe(), hub.watch_lanes());
    loop {
        let listed = managers.current();
        let missing: Vec<_> = listed
            .registrations
            .iter()
            .filter(|listed| !hub.is_linked(&listed.id, listed.incarnation))
            .map(|listed| listed.id.to_string())
            .collect();
        if missing.is_empty() && listed.listed_at.is_some() {
            return;
        }
        tokio::select! {
            _ = lanes.changed() => {}
            _ = listing.changed() => {}
            () = tokio::time::sleep_until(until) => {
                tracing::warn!(push_managers = missing.join(", "), "no lane in time; the node starts without");
                return;
            }
        }
    }
}
