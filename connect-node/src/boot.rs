//! Starts a node, step by step: serve the lanes, register, meet the push-managers, then take sessions.

use std::sync::Arc;

use roomcast_registry::{Member, Registration, Registry, Role, Roster, State};
use roomcast_runtime::{Bound, Config, Telemetry, bind, serve};
use roomcast_types::{Incarnation, NodeId, ServiceId};
use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    acceptor::Acceptor,
    error::Error,
    hub::{Core, Handle, Identity, Settings},
    load::Load,
    metrics::Metrics,
    pages::{self, Site, loads::Loads},
    ports::Shards,
    report::{self, controllers::Controllers},
    rpc,
    running::{Addresses, EndOperations, Running},
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

struct Ports {
    grpc: Bound,
    http: Bound,
    metrics: Bound,
}

/// Starts a node; returns when it takes sessions. Nothing of it is left when it fails.
pub async fn start(deps: Deps) -> Result<Running, Error> {
    let Deps { config, registry } = deps;
    let ports = bind_all(&config).await?;
    let addresses =
        Addresses { grpc: ports.grpc.address, http: ports.http.address, metrics: ports.metrics.address };
    let identity = identity(&config, &addresses)?;
    let telemetry = Telemetry::new("connect-node", identity.node_id.as_str(), &config.telemetry);
    let (metrics, shard_metrics) = telemetry.register(|| (Metrics::new(), ShardMetrics::new()));
    let hub = Core::new(identity.clone(), Settings::new(&config), metrics, telemetry.tracing().clone());
    let operations = EndOperations(hub.clone());
    let controllers = Arc::new(Controllers::new(&config.connect_node.controller_address, registry.clone()));
    let managers = Arc::new(Roster::start(registry.clone(), Role::PushManager));
    let loads = Arc::new(Loads::default());
    let site = Site {
        hub: hub.clone(),
        nodes: Roster::start(registry.clone(), Role::ConnectNode),
        managers: managers.clone(),
        loads: loads.clone(),
    };
    let shard_count = shard_count(&config);
    let load = Load::new(shard_count);
    let shard_config = Arc::new(shard::Config::new(&config)?);
    let shards =
        spawn_shards(shard_count, &shard_config, &hub, pages::router(Arc::new(site)), &shard_metrics, &load)?;
    let mailboxes = Shards::new(shards.iter().map(ShardHandle::mailbox).collect());
    hub.set_shards(mailboxes.clone());

    let (end, mut tasks) = (CancellationToken::new(), JoinSet::new());
    let mut serving = JoinSet::new();
    tasks.spawn(named("the timekeeper", hub.clone().keep_time()));
    tasks.spawn(named("the reports", report::run(hub.clone(), controllers.clone())));
    tasks.spawn(named("the node list", loads.keep(controllers)));
    serving.spawn(named("gRPC", serve(ports.grpc, rpc::router(hub.clone()).await, end.clone())));
    serving.spawn(named("metrics", serve(ports.metrics, telemetry.router(), end.clone())));
    let acceptor =
        Acceptor::run(ports.http, mailboxes, load.clone(), shard_config, shard_metrics, end.clone());
    serving.spawn(named("the client port", acceptor));

    let member = Member::join(registry, registration(&identity)?, config.etcd.lease_ttl).await?;
    meet(&hub, &managers, Instant::now() + config.connect_node.lane_wait).await;
    hub.set_life(State::Ready);
    member.set_state(State::Ready);
    load.set_open(true);
    tracing::info!(node_id = %identity.node_id, url = identity.url, "the node takes sessions");
    Ok(Running { addresses, telemetry, hub, load, member, shards, tasks, serving, end, operations })
}

/// A task whose end has a name.
async fn named(name: &'static str, task: impl Future<Output = ()>) -> &'static str {
    task.await;
    name
}

async fn bind_all(config: &Config) -> Result<Ports, Error> {
    let (ip, node) = (config.network.bind, &config.connect_node);
    Ok(Ports {
        grpc: bind(ip, node.grpc_port, "connect-node gRPC", "connect_node.grpc_port").await?,
        http: bind(ip, node.http_port, "WebSocket and pages", "connect_node.http_port").await?,
        metrics: bind(ip, node.metrics_port, "connect-node metrics", "connect_node.metrics_port").await?,
    })
}

fn identity(config: &Config, addresses: &Addresses) -> Result<Identity, Error> {
    let host = config.network.advertised();
    let named = &config.connect_node.public_ws_url;
    let url =
        if named.is_empty() { format!("ws://{host}:{}/ws", addresses.http.port()) } else { named.clone() };
    Ok(Identity {
        node_id: NodeId::new(&config.connect_node.id)?,
        incarnation: Incarnation::random(),
        grpc_address: format!("{host}:{}", addresses.grpc.port()),
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
