//! Starts a controller: ports first, then the parts, then the registration.

use std::{future::Future, net::SocketAddr, sync::Arc};

use roomcast_proto::pubsub::controller_service_server::{ControllerServiceServer, SERVICE_NAME};
use roomcast_registry::{Member, Registration, Registry, Role, Roster, State};
use roomcast_runtime::{Config, Front, Phase, Telemetry, bind};
use roomcast_store::{Error as StoreError, Logs, Presence, Rooms};
use roomcast_types::{Incarnation, ServiceId};
use tokio::task::JoinSet;
use tonic::service::Routes;

use crate::{
    Deps, Error, cards,
    controller::Controller,
    logs, reads,
    rpc::{MESSAGE_BYTES_MAX, Rpc},
    seats, sweep, watch,
};

/// A controller that serves. Dropping it is like a crash: everything ends at once and the registration stays until
/// its lease runs out.
pub struct Running {
    pub(crate) controller: Arc<Controller>,
    pub(crate) front: Front,
    pub(crate) member: Member,
    /// All controllers.
    pub(crate) controllers: Roster,
    /// Run for ever; each returns its name when it ends all the same.
    pub(crate) workers: JoinSet<&'static str>,
    _end_tasks: EndTasks,
}

/// Starts a controller on stores and a registry: when this returns it serves and is registered as ready.
pub async fn start(deps: Deps) -> Result<Running, Error> {
    let Deps { config, registry, rooms, presence, logs } = deps;
    Starting::bind(config).await?.start(registry, rooms, presence, logs).await
}

/// Starts a controller as its configuration says: answers `/ready` at once, waits for the stores and the registry, and
/// returns when it serves.
pub async fn run(config: Arc<Config>) -> Result<Running, Error> {
    let starting = Starting::bind(config).await?;
    let (registry, rooms, presence) =
        tokio::try_join!(starting.registry(), starting.rooms(), starting.presence())?;
    let logs = starting.logs().await?;
    starting.start(registry, rooms, presence, logs).await
}

/// A controller that has its ports, and answers what is asked about its health.
pub struct Starting {
    config: Arc<Config>,
    id: ServiceId,
    front: Front,
}

impl Starting {
    /// Takes the ports.
    pub async fn bind(config: Arc<Config>) -> Result<Self, Error> {
        let (network, server) = (&config.network, &config.server);
        let id = ServiceId::new(&server.id)?;
        let grpc = bind(network.bind, server.port, "controller-manager gRPC", "server.port").await?;
        let metrics =
            bind(network.bind, server.metrics_port, "controller-manager metrics", "server.metrics_port")
                .await?;
        let telemetry = Telemetry::new("controller-manager", id.as_str(), &config.telemetry);
        let front = Front::open(SERVICE_NAME, grpc, metrics, telemetry).await;
        Ok(Self { config, id, front })
    }

    /// The configured registry, as soon as it answers.
    pub async fn registry(&self) -> Result<Arc<dyn Registry>, Error> {
        let etcd = &self.config.etcd;
        let registry = roomcast_registry::open(etcd)?;
        let look = || registry.get(Role::ControllerManager, &self.id);
        self.front.readiness.wait_for(etcd.shown(), roomcast_registry::Error::is_retryable, look).await?;
        Ok(registry)
    }

    /// The configured record, as soon as it answers and has its tables.
    pub async fn rooms(&self) -> Result<Arc<dyn Rooms>, Error> {
        let database = &self.config.database;
        let what = database.shown();
        let failed = |source| Error::Store { what: what.clone(), source };
        let rooms = roomcast_store::open_rooms(database).await.map_err(failed)?;
        let ping = || rooms.ping();
        let answered = self.front.readiness.wait_for(&what, StoreError::is_retryable, ping);
        answered.await.map_err(failed)?;
        Ok(rooms)
    }

    /// The configured shared memory, as soon as it answers.
    pub async fn presence(&self) -> Result<Arc<dyn Presence>, Error> {
        let redis = &self.config.redis;
        let what = redis.shown();
        let failed = |source| Error::Store { what: what.clone(), source };
        let presence = roomcast_store::open_presence(redis).map_err(failed)?;
        let look = || presence.generation();
        let answered = self.front.readiness.wait_for(&what, StoreError::is_retryable, look);
        answered.await.map_err(failed)?;
        Ok(presence)
    }

    /// The configured logs and inboxes; nothing is waited for.
    pub async fn logs(&self) -> Result<Logs, Error> {
        let (database, redis) = (&self.config.database, &self.config.redis);
        let opened = roomcast_store::open_logs(database, redis).await;
        opened.map_err(|source| Error::Store { what: database.shown(), source })
    }

    /// Serves and registers.
    pub async fn start(
        self,
        registry: Arc<dyn Registry>,
        rooms: Arc<dyn Rooms>,
        presence: Arc<dyn Presence>,
        logs: Logs,
    ) -> Result<Running, Error> {
        let Self { config, id, front } = self;
        let (grpc, metrics) = (front.grpc_address(), front.metrics_address());
        let registration = Registration {
            role: Role::ControllerManager,
            id: id.clone(),
            grpc_address: format!("{}:{}", config.network.advertised(), grpc.port()),
            url: String::new(),
            incarnation: Incarnation::random(),
            state: State::Starting,
        };
        let telemetry = front.telemetry.clone();
        let controller = Controller::new(id, config.clone(), &registry, (rooms, presence, logs), telemetry);
        let controller = Arc::new(controller);
        front.serve(router(&controller));
        let workers = spawn_workers(&controller);
        let controllers = Roster::start(registry.clone(), Role::ControllerManager);
        controller.nodes.refresh().await;
        controller.push_managers.refresh().await;
        let join = || Member::join(registry.clone(), registration.clone(), config.etcd.lease_ttl);
        let member = front
            .readiness
            .wait_for(config.etcd.shown(), roomcast_registry::Error::is_retryable, join)
            .await?;
        let watched = controller.clone();
        front.readiness.set_degraded(move || watched.degraded());
        front.set_phase(Phase::Ready).await;
        member.set_state(State::Ready);
        tracing::info!(controller_id = %controller.id, %grpc, %metrics, "ready");
        let _end_tasks = EndTasks(controller.clone());
        Ok(Running { controller, front, member, controllers, workers, _end_tasks })
    }
}

fn router(controller: &Arc<Controller>) -> axum::Router {
    let service = ControllerServiceServer::new(Rpc(controller.clone()))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    roomcast_proto::add_reflection(Routes::new(service), SERVICE_NAME).prepare().into_axum_router()
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
    spawn("reads", |c| Box::pin(async move { reads::write(&c).await }));
    spawn("logs", |c| Box::pin(async move { logs::keep(&c).await }));
    spawn("sweep", |c| Box::pin(async move { sweep::sweep_dead(&c).await }));
    workers
}

type Work = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

impl Running {
    /// Where ControllerService is served.
    pub fn grpc_address(&self) -> SocketAddr {
        self.front.grpc_address()
    }

    /// Where `/metrics` is served.
    pub fn metrics_address(&self) -> SocketAddr {
        self.front.metrics_address()
    }

    /// Metrics and traces of this controller.
    pub fn telemetry(&self) -> &Telemetry {
        &self.front.telemetry
    }

    /// Resolves when the controller cannot go on: a part of it ended, or another process took its registration.
    pub async fn failed(&mut self) -> String {
        tokio::select! {
            error = self.member.lost() => error.to_string(),
            why = self.front.failed() => why,
            Some(ended) = self.workers.join_next() => match ended {
                Ok(name) => format!("the task for {name} ended"),
                Err(error) => format!("a task ended: {error}"),
            },
        }
    }
}

/// Ends the tasks that answer to nobody when it is dropped: they hold the controller, which holds them.
struct EndTasks(Arc<Controller>);

impl Drop for EndTasks {
    fn drop(&mut self) {
        self.0.tasks.close();
    }
}
