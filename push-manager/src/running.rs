//! Builds the service from its parts and starts it in an order that leaves no push without its targets.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::Router;
use roomcast_proto::pubsub::{
    PositionConflict,
    push_manager_service_server::{PushManagerServiceServer, SERVICE_NAME},
};
use roomcast_registry::{Member, Registration, Registry, Role, Roster, State};
use roomcast_runtime::{Config, Front, Phase, Telemetry, bind, config::CallDrain};
use roomcast_store::Logs;
use roomcast_types::{Incarnation, ServiceId};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};

use crate::{
    archive::Archive,
    audit::Auditor,
    cards::Cards,
    clock::Clock,
    controllers::Controllers,
    error::Error,
    explain::Explainer,
    fleet::{Fleet, fleet},
    json::{self, Api},
    lane::{Bounds, Context},
    ledger::Ledger,
    metrics::Metrics,
    peers::Peers,
    push::{Parts, Pusher, Receipts, Traces, Watches, absences},
    routes::Routes,
    rpc::Rpc,
};

/// How long a start waits for the list of nodes.
const MEET: Duration = Duration::from_secs(10);
/// How long a start waits for lanes; a node without one is addressed blind.
const LINK: Duration = Duration::from_secs(2);
/// Conflicts of positions that wait to be settled; a further one is told again by the next message.
const CONFLICTS_WAITING_MAX: usize = 1_024;
/// What a gRPC request may hold beside its content: 2,000 ids of 128 bytes with their framing, and room to spare.
const ENVELOPE_BYTES: usize = 1 << 20;

/// What a push-manager needs from outside.
#[derive(Clone)]
pub struct Deps {
    /// Its configuration.
    pub config: Arc<Config>,
    /// Who is alive.
    pub registry: Arc<dyn Registry>,
    /// What keeps messages for those who are away. Never waited for: pushes go on while it is away.
    pub logs: Logs,
}

/// A running push-manager. Dropping it without [`Running::stop`] is like a crash.
pub struct Running {
    pub(crate) front: Front,
    pub(crate) member: Member,
    pub(crate) pusher: Arc<Pusher>,
    pub(crate) fleet: Arc<Fleet>,
    /// All push-managers.
    pub(crate) managers: Arc<Roster>,
    pub(crate) pace: CallDrain,
    /// Ends with the name of the task and why.
    pub(crate) tasks: JoinSet<String>,
}

/// Starts a push-manager on a registry; returns when it takes pushes.
pub async fn start(deps: Deps) -> Result<Running, Error> {
    Starting::bind(deps.config).await?.start(deps.registry, deps.logs).await
}

/// Starts a push-manager as its configuration says: answers `/ready` at once, waits for the registry, and returns when
/// it takes pushes.
pub async fn run(config: Arc<Config>) -> Result<Running, Error> {
    let starting = Starting::bind(config).await?;
    let registry = starting.registry().await?;
    let logs = roomcast_store::open_logs(&starting.config.database, &starting.config.redis).await?;
    starting.start(registry, logs).await
}

/// A push-manager that has its ports, and answers what is asked about its health.
struct Starting {
    config: Arc<Config>,
    id: ServiceId,
    front: Front,
}

impl Starting {
    async fn bind(config: Arc<Config>) -> Result<Self, Error> {
        let own = &config.push_manager;
        let id = ServiceId::new(&own.id)?;
        let ip = config.network.bind;
        let grpc = bind(ip, own.port, "push-manager gRPC and JSON", "push_manager.port").await?;
        let metrics = bind(ip, own.metrics_port, "push-manager metrics", "push_manager.metrics_port").await?;
        let telemetry = Telemetry::new("push-manager", &own.id, &config.telemetry);
        let front = Front::open(SERVICE_NAME, grpc, metrics, telemetry).await;
        Ok(Self { config, id, front })
    }

    /// The configured registry, as soon as it answers.
    async fn registry(&self) -> Result<Arc<dyn Registry>, Error> {
        let etcd = &self.config.etcd;
        let registry = roomcast_registry::open(etcd)?;
        let look = || registry.get(Role::PushManager, &self.id);
        self.front.readiness.wait_for(etcd.shown(), roomcast_registry::Error::is_retryable, look).await?;
        Ok(registry)
    }

    async fn start(self, registry: Arc<dyn Registry>, logs: Logs) -> Result<Running, Error> {
        let Self { config, id, front } = self;
        let own = &config.push_manager;
        let incarnation = Incarnation::random();
        let grpc_address = format!("{}:{}", config.network.advertised(), front.grpc_address().port());
        let (conflicts, conflicting) = mpsc::channel(CONFLICTS_WAITING_MAX);
        let context =
            Arc::new(context(&config, incarnation, grpc_address.clone(), conflicts, &front.telemetry));
        let archive = Arc::new(Archive::new(logs, &config, context.metrics.archive.clone()));
        let (fleet, keeper) = fleet(context.clone(), Roster::start(registry.clone(), Role::ConnectNode));
        let fleet = Arc::new(fleet);
        let controllers = Roster::start(registry.clone(), Role::ControllerManager);
        let controllers = Arc::new(Controllers::new(own.controller_address.clone(), controllers));
        let room = &config.room;
        let cards =
            Arc::new(Cards::new(controllers.clone(), context.clone(), room.cache_ttl, room.deleted_ttl));
        let traces = Traces::new(front.telemetry.tracing().clone(), config.telemetry.slow_push);
        let receipts = context.metrics.receipts.clone();
        let receipts = Arc::new(Receipts::new(own.receipt_ttl, own.receipt_bytes.as_usize(), receipts));
        let managers = Arc::new(Roster::start(registry.clone(), Role::PushManager));
        let peers = Arc::new(Peers::new(incarnation, managers.clone()));
        let explainer = Arc::new(Explainer {
            context: context.clone(),
            fleet: fleet.clone(),
            controllers: controllers.clone(),
            receipts: receipts.clone(),
            peers: peers.clone(),
        });
        let (absences, asker) = absences(cards.clone());
        let auditor = Arc::new(Auditor::new(context.clone(), fleet.clone(), managers.clone()));
        let watches = Arc::new(Watches::new(receipts.clone(), peers));
        let sweeping = receipts.clone();
        let pusher = Arc::new(Pusher::new(Parts {
            context: context.clone(),
            fleet: fleet.clone(),
            cards,
            traces,
            receipts,
            absences,
            archive: archive.clone(),
            wait: own.wait,
        }));
        front.serve(router(&config, &pusher, watches, auditor, explainer, &controllers));
        let mut tasks = JoinSet::new();
        tasks.spawn(keeper.run());
        tasks.spawn(asker.run());
        tasks.spawn(archive.clone().keep(conflicting));
        tasks.spawn(async move { sweeping.sweep().await });
        tasks.spawn(async move {
            context.clock.watch().await;
            "the watch over the clock ended".to_owned()
        });
        let registration = Registration {
            role: Role::PushManager,
            id,
            grpc_address,
            url: String::new(),
            incarnation,
            state: State::Starting,
        };
        let member = join(&config, &front, &registry, &registration, &fleet).await?;
        pusher.open();
        show_degraded(&front, archive, fleet.clone());
        front.set_phase(Phase::Ready).await;
        member.set_state(State::Ready);
        let (grpc, metrics) = (front.grpc_address(), front.metrics_address());
        tracing::info!(manager_id = own.id, %grpc, %metrics, "ready");
        let pace = own.drain.clone();
        Ok(Running { front, member, pusher, fleet, managers, pace, tasks })
    }
}

/// Registers, then meets the nodes.
async fn join(
    config: &Config,
    front: &Front,
    registry: &Arc<dyn Registry>,
    registration: &Registration,
    fleet: &Fleet,
) -> Result<Member, Error> {
    let join = || Member::join(registry.clone(), registration.clone(), config.etcd.lease_ttl);
    let member =
        front.readiness.wait_for(config.etcd.shown(), roomcast_registry::Error::is_retryable, join).await?;
    // Write, then read: a node that registers after this list finds us in its own.
    if !fleet.meet(MEET).await {
        return Err(Error::Unlisted);
    }
    fleet.linked(LINK).await;
    Ok(member)
}

/// The sections of the configuration whose servers do not answer.
fn show_degraded(front: &Front, archive: Arc<Archive>, fleet: Arc<Fleet>) {
    front.readiness.set_degraded(move || {
        let mut away = archive.degraded();
        away.extend(fleet.is_stale().then_some("etcd"));
        away
    });
}

fn context(
    config: &Config,
    incarnation: Incarnation,
    grpc_address: String,
    conflicts: mpsc::Sender<PositionConflict>,
    telemetry: &Telemetry,
) -> Context {
    let own = &config.push_manager;
    let metrics = telemetry.register(Metrics::new);
    Context {
        manager_id: own.id.clone(),
        incarnation,
        grpc_address,
        bounds: Bounds { messages: own.lane_queue_messages, bytes: own.lane_queue_bytes.as_usize() },
        deadline: own.lane_deadline,
        trust: own.lane_trust,
        ping_interval: own.lane_ping_interval,
        clock: Clock::new(),
        routes: Routes::new(),
        ledger: Ledger::new(metrics.unaccounted.clone(), own.receipt_ttl),
        metrics,
        progress: watch::Sender::new(0),
        conflicts,
    }
}

fn router(
    config: &Config,
    pusher: &Arc<Pusher>,
    watches: Arc<Watches>,
    auditor: Arc<Auditor>,
    explainer: Arc<Explainer>,
    controllers: &Arc<Controllers>,
) -> Router {
    let push_bytes_max = config.limits.push_bytes_max.as_usize();
    let rpc = Rpc::new(pusher.clone(), watches.clone(), auditor, explainer, push_bytes_max);
    // More than the largest push, so that one too large is answered TOO_LARGE with the limit.
    let service = PushManagerServiceServer::new(rpc)
        .max_decoding_message_size((push_bytes_max + ENVELOPE_BYTES).max(4 << 20));
    let grpc = roomcast_proto::add_reflection(tonic::service::Routes::new(service), SERVICE_NAME);
    let body_bytes_max = config.limits.body_bytes_max.as_usize();
    json::add(
        grpc.into_axum_router(),
        Api::new(pusher.clone(), watches, controllers.clone(), push_bytes_max, body_bytes_max),
    )
}

impl Running {
    /// Where gRPC and JSON are served.
    pub fn grpc_address(&self) -> SocketAddr {
        self.front.grpc_address()
    }

    /// Where gRPC and JSON are served.
    pub fn http_address(&self) -> SocketAddr {
        self.front.grpc_address()
    }

    /// Where `/metrics` is served.
    pub fn metrics_address(&self) -> SocketAddr {
        self.front.metrics_address()
    }

    /// Its metrics and traces.
    pub fn telemetry(&self) -> &Telemetry {
        &self.front.telemetry
    }

    /// Which life this is; the middle of every message id names its low half.
    pub fn incarnation(&self) -> Incarnation {
        self.pusher.incarnation()
    }

    /// What breaks on purpose, in tests.
    #[cfg(feature = "failpoints")]
    pub fn failpoints(&self) -> &crate::failpoint::Failpoints {
        self.pusher.failpoints()
    }

    /// Sessions in a room, as the nodes last announced them.
    pub fn announced(&self, room_id: &str) -> u64 {
        self.pusher.announced(room_id)
    }

    /// Resolves when something that must live died, or another process took the registration over; says why.
    pub async fn failed(&mut self) -> String {
        tokio::select! {
            error = self.member.lost() => error.to_string(),
            why = self.front.failed() => why,
            Some(ended) = self.tasks.join_next() => match ended {
                Ok(why) => why,
                Err(error) => format!("a task ended: {error}"),
            },
        }
    }
}
