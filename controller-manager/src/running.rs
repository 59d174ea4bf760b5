//! Starts a controller and stops it: ports first, then the parts, then the registration.

use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};

use roomcast_proto::pubsub::controller_service_server::ControllerServiceServer;
use roomcast_registry::{Member, Registration, Role, State};
use roomcast_runtime::{Bound, Telemetry, bind, serve};
use roomcast_types::{Incarnation, ServiceId};
use tokio::{
    task::JoinSet,
    time::{error::Elapsed, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use crate::{
    Deps, Error, cards,
    controller::Controller,
    rpc::{MESSAGE_BYTES_MAX, Rpc},
    seats, sweep, watch,
};

const SERVICE: &str = "controller-manager";
/// How long giving the registration back may take; past it the lease runs out instead.
const LEAVE_WAIT: Duration = Duration::from_secs(2);
/// How long requests under way may take at the end.
const DRAIN_WAIT: Duration = Duration::from_secs(3);

/// A controller that serves. Dropping it is like a crash: everything ends at once and the registration stays until
/// its lease runs out.
pub struct Running {
    controller: Arc<Controller>,
    grpc_address: SocketAddr,
    metrics_address: SocketAddr,
    member: Member,
    end: CancellationToken,
    /// Serve until `end`.
    servers: JoinSet<()>,
    /// Run for ever; each returns its name when it ends all the same.
    workers: JoinSet<&'static str>,
}

/// Starts a controller: when this returns it serves and is registered as ready.
pub async fn start(deps: Deps) -> Result<Running, Error> {
    let Deps { config, registry, rooms, presence } = deps;
    let id = ServiceId::new(&config.server.id)?;
    let (network, server) = (&config.network, &config.server);
    let grpc = bind(network.bind, server.port, "controller-manager gRPC", "server.port").await?;
    let metrics =
        bind(network.bind, server.metrics_port, "controller-manager metrics", "server.metrics_port").await?;
    let (grpc_address, metrics_address) = (grpc.address, metrics.address);
    let registration = Registration {
        role: Role::ControllerManager,
        id: id.clone(),
        grpc_address: format!("{}:{}", network.advertised(), grpc_address.port()),
        url: String::new(),
        incarnation: Incarnation::random(),
        state: State::Starting,
    };
    let telemetry = Telemetry::new(SERVICE, id.as_str(), &config.telemetry);
    let lease_ttl = config.etcd.lease_ttl;
    let controller = Controller::new(id, config, &registry, (rooms, presence), telemetry);
    let controller = Arc::new(controller);
    let end = CancellationToken::new();
    let servers = serve_all(&controller, grpc, metrics, &end).await;
    let workers = spawn_workers(&controller);
    controller.nodes.refresh().await;
    controller.push_managers.refresh().await;
    let member = Member::join(registry, registration, lease_ttl).await?;
    member.set_state(State::Ready);
    tracing::info!(controller_id = %controller.id, grpc = %grpc_address, metrics = %metrics_address, "ready");
    Ok(Running { controller, grpc_address, metrics_address, member, end, servers, workers })
}

async fn serve_all(
    controller: &Arc<Controller>,
    grpc: Bound,
    metrics: Bound,
    end: &CancellationToken,
) -> JoinSet<()> {
    let service = ControllerServiceServer::new(Rpc(controller.clone()))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_serving::<ControllerServiceServer<Rpc>>().await;
    let routes = Routes::new(service).add_service(health);
    let router = roomcast_proto::add_reflection(
        routes,
        roomcast_proto::pubsub::controller_service_server::SERVICE_NAME,
    )
    .prepare()
    .into_axum_router();
    let mut servers = JoinSet::new();
    servers.spawn(serve(grpc, router, end.clone()));
    servers.spawn(serve(metrics, controller.telemetry.router(), end.clone()));
    servers
}

fn spawn_workers(controller: &Arc<Controller>) -> JoinSet<&'static str> {
    let mut workers = JoinSet::new();
    let mut spawn = |name, work: fn(Arc<Controller>) -> Work| {
        let work = work(controller.clone());
        workers.spawn(async move {
            work.await;
            name
        });
    };
    spawn("stores", |c| Box::pin(async move { watch::watch_stores(&c).await }));
    spawn("cards", |c| Box::pin(async move { cards::refresh_stale(&c).await }));
    spawn("releases", |c| Box::pin(async move { seats::release_due(&c).await }));
    spawn("empty rooms", |c| Box::pin(async move { seats::remove_empty_rooms(&c).await }));
    spawn("audits", |c| Box::pin(async move { seats::audit_asked(&c).await }));
    spawn("full audit", |c| Box::pin(async move { seats::audit_all(&c).await }));
    spawn("sweep", |c| Box::pin(async move { sweep::sweep_dead(&c).await }));
    workers
}

type Work = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

impl Running {
    /// Where ControllerService is served.
    pub fn grpc_address(&self) -> SocketAddr {
        self.grpc_address
    }

    /// Where `/metrics` is served.
    pub fn metrics_address(&self) -> SocketAddr {
        self.metrics_address
    }

    /// Metrics and traces of this controller.
    pub fn telemetry(&self) -> &Telemetry {
        &self.controller.telemetry
    }

    /// Resolves when the controller cannot go on: a part of it ended, or another process took its registration.
    pub async fn failed(&mut self) -> String {
        tokio::select! {
            error = self.member.lost() => error.to_string(),
            Some(ended) = self.servers.join_next() => match ended {
                Ok(()) => "a port is not served any more".to_owned(),
                Err(error) => format!("serving ended: {error}"),
            },
            Some(ended) = self.workers.join_next() => match ended {
                Ok(name) => format!("the task for {name} ended"),
                Err(error) => format!("a task ended: {error}"),
            },
        }
    }

    /// Gives the registration back, lets requests under way finish, and ends. Takes a few seconds at most.
    pub async fn stop(mut self) {
        let _: Result<(), Elapsed> = timeout(LEAVE_WAIT, self.member.leave()).await;
        self.controller.streams.end_all();
        self.end.cancel();
        let drained = async { while self.servers.join_next().await.is_some() {} };
        let _: Result<(), Elapsed> = timeout(DRAIN_WAIT, drained).await;
        let telemetry = self.controller.telemetry.clone();
        // Blocks while the last traces are sent.
        if tokio::task::spawn_blocking(move || telemetry.flush()).await.is_err() {
            tracing::warn!("the last traces were not sent");
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // These hold the controller, which holds them.
        self.controller.tasks.close();
    }
}
