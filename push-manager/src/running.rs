//! Builds the service from its parts, starts it in the order of DESIGN 4, and ends it.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::Router;
use roomcast_proto::pubsub::push_manager_service_server::{PushManagerServiceServer, SERVICE_NAME};
use roomcast_registry::{Member, Registration, Registry, Role, Roster, State};
use roomcast_runtime::{Bound, Config, Telemetry, bind, serve};
use roomcast_types::{Incarnation, ServiceId};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic_health::{
    ServingStatus,
    pb::health_server::{Health, HealthServer},
    server::{HealthReporter, health_reporter},
};

use crate::{
    cards::Cards,
    clock::Clock,
    controllers::Controllers,
    error::Error,
    fleet::{Fleet, fleet},
    json::{self, Api},
    lane::{Bounds, Context},
    metrics::Metrics,
    push::Pusher,
    routes::Routes,
    rpc::Rpc,
};

/// How long a start waits for the list of nodes.
const MEET: Duration = Duration::from_secs(10);
/// How long a start waits for lanes; a node without one is addressed blind.
const LINK: Duration = Duration::from_secs(2);
/// How long an end waits for acknowledgements of what was accepted.
const SETTLE: Duration = Duration::from_secs(2);
/// What a gRPC request may hold beside its content: 2,000 ids of 128 bytes with their framing, and room to spare.
const ENVELOPE_BYTES: usize = 1 << 20;

/// What a push-manager needs from outside.
#[derive(Clone)]
pub struct Deps {
    /// Its configuration.
    pub config: Arc<Config>,
    /// Who is alive.
    pub registry: Arc<dyn Registry>,
}

/// A running push-manager. Dropping it without [`Running::stop`] is like a crash.
pub struct Running {
    grpc_address: SocketAddr,
    metrics_address: SocketAddr,
    telemetry: Telemetry,
    member: Member,
    pusher: Arc<Pusher>,
    fleet: Arc<Fleet>,
    health: HealthReporter,
    end_serving: CancellationToken,
    /// Ends with the name of the task and why.
    tasks: JoinSet<String>,
}

/// Starts a push-manager; returns when it takes pushes.
pub async fn start(deps: Deps) -> Result<Running, Error> {
    let Deps { config, registry } = deps;
    let own = &config.push_manager;
    let id = ServiceId::new(&own.id)?;
    let ip = config.network.bind;
    let grpc = bind(ip, own.port, "push-manager gRPC and JSON", "push_manager.port").await?;
    let metrics_port =
        bind(ip, own.metrics_port, "push-manager metrics", "push_manager.metrics_port").await?;
    let (grpc_address, metrics_address) = (grpc.address, metrics_port.address);

    let telemetry = Telemetry::new("push-manager", &own.id, &config.telemetry);
    let incarnation = Incarnation::random();
    let context = Arc::new(context(&config, incarnation, &telemetry));
    let (fleet, keeper) = fleet(context.clone(), Roster::start(registry.clone(), Role::ConnectNode));
    let fleet = Arc::new(fleet);
    let controllers = Roster::start(registry.clone(), Role::ControllerManager);
    let controllers = Arc::new(Controllers::new(own.controller_address.clone(), controllers));
    let room = &config.room;
    let cards = Cards::new(controllers.clone(), context.clone(), room.cache_ttl, room.deleted_ttl);
    let tracing = telemetry.tracing().clone();
    let pusher = Arc::new(Pusher::new(context.clone(), fleet.clone(), Arc::new(cards), tracing, own.wait));

    let end_serving = CancellationToken::new();
    let mut tasks = JoinSet::new();
    let (health, health_service) = health_reporter();
    say(&health, ServingStatus::NotServing).await;
    let router = router(&config, &pusher, &controllers, health_service);
    serving(&mut tasks, "gRPC", grpc, router, &end_serving);
    serving(&mut tasks, "metrics", metrics_port, telemetry.router(), &end_serving);
    tasks.spawn(keeper.run());
    tasks.spawn(async move {
        context.clock.watch().await;
        "the watch over the clock ended".to_owned()
    });

    let registration = Registration {
        role: Role::PushManager,
        id,
        grpc_address: format!("{}:{}", config.network.advertised(), grpc_address.port()),
        url: String::new(),
        incarnation,
        state: State::Starting,
    };
    let member = Member::join(registry, registration, config.etcd.lease_ttl).await?;
    // Write, then read: a node that registers after this list finds us in its own.
    if !fleet.meet(MEET).await {
        return Err(Error::Unlisted);
    }
    fleet.linked(LINK).await;
    pusher.open();
    say(&health, ServingStatus::Serving).await;
    member.set_state(State::Ready);
    tracing::info!(id = own.id, address = %grpc_address, "push-manager is ready");
    Ok(Running {
        grpc_address,
        metrics_address,
        telemetry,
        member,
        pusher,
        fleet,
        health,
        end_serving,
        tasks,
    })
}

fn context(config: &Config, incarnation: Incarnation, telemetry: &Telemetry) -> Context {
    let own = &config.push_manager;
    Context {
        manager_id: own.id.clone(),
        incarnation,
        bounds: Bounds { messages: own.lane_queue_messages, bytes: own.lane_queue_bytes.as_usize() },
        deadline: own.lane_deadline,
        trust: own.lane_trust,
        ping_interval: own.lane_ping_interval,
        clock: Clock::new(),
        routes: Routes::new(),
        metrics: telemetry.register(Metrics::new),
        progress: watch::Sender::new(0),
    }
}

/// What health checks answer, for the service and for the whole process.
async fn say(health: &HealthReporter, status: ServingStatus) {
    health.set_service_status("", status).await;
    health.set_service_status(SERVICE_NAME, status).await;
}

fn router(
    config: &Config,
    pusher: &Arc<Pusher>,
    controllers: &Arc<Controllers>,
    health: HealthServer<impl Health>,
) -> Router {
    let push_bytes_max = config.limits.push_bytes_max.as_usize();
    let rpc = Rpc::new(pusher.clone(), push_bytes_max);
    // More than the largest push, so that one too large is answered TOO_LARGE with the limit.
    let service = PushManagerServiceServer::new(rpc)
        .max_decoding_message_size((push_bytes_max + ENVELOPE_BYTES).max(4 << 20));
    let routes = tonic::service::Routes::new(service).add_service(health);
    let grpc = roomcast_proto::add_reflection(routes, SERVICE_NAME).into_axum_router();
    let body_bytes_max = config.limits.body_bytes_max.as_usize();
    json::add(grpc, Api::new(pusher.clone(), controllers.clone(), push_bytes_max, body_bytes_max))
}

fn serving(
    tasks: &mut JoinSet<String>,
    name: &'static str,
    bound: Bound,
    router: Router,
    end: &CancellationToken,
) {
    let end = end.clone();
    tasks.spawn(async move {
        serve(bound, router, end).await;
        format!("serving {name} ended")
    });
}

impl Running {
    /// Where gRPC and JSON are served.
    pub fn grpc_address(&self) -> SocketAddr {
        self.grpc_address
    }

    /// Where gRPC and JSON are served.
    pub fn http_address(&self) -> SocketAddr {
        self.grpc_address
    }

    /// Where `/metrics` is served.
    pub fn metrics_address(&self) -> SocketAddr {
        self.metrics_address
    }

    /// Its metrics and traces.
    pub fn telemetry(&self) -> &Telemetry {
        &self.telemetry
    }

    /// Which life this is; the middle of every message id names its low half.
    pub fn incarnation(&self) -> Incarnation {
        self.pusher.incarnation()
    }

    /// Resolves when something that must live died, or another process took the registration over; says why.
    pub async fn failed(&mut self) -> String {
        tokio::select! {
            error = self.member.lost() => error.to_string(),
            Some(ended) = self.tasks.join_next() => match ended {
                Ok(why) => why,
                Err(error) => format!("a task ended: {error}"),
            },
        }
    }

    /// Deregisters, takes no further pushes, lets what was accepted be acknowledged and answered for up to two
    /// seconds, then ends.
    pub async fn stop(mut self) {
        self.member.leave().await;
        self.pusher.close();
        say(&self.health, ServingStatus::NotServing).await;
        let settled = async {
            while self.pusher.under_way() > 0 || self.fleet.queued() > 0 {
                sleep(Duration::from_millis(5)).await;
            }
        };
        if timeout(SETTLE, settled).await.is_err() {
            tracing::warn!(messages = self.fleet.queued(), "stopped with messages that no node acknowledged");
        }
        self.end_serving.cancel();
        let served = async {
            let mut left = 2;
            while left > 0
                && let Some(ended) = self.tasks.join_next().await
            {
                left -= u32::from(ended.is_ok());
            }
        };
        let _ = timeout(SETTLE + Duration::from_secs(1), served).await;
        self.tasks.shutdown().await;
        let telemetry = self.telemetry.clone();
        // The only blocking part; a panic in it would be one of the exporter.
        let _ = tokio::task::spawn_blocking(move || telemetry.flush()).await;
    }
}
