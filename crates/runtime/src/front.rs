//! The gRPC and the metrics port of a service: taken and answered before anything else is there, given up last.
//!
//! Both ports answer `/health` and `/ready`, the metrics port `/metrics`, the gRPC port `grpc.health.v1.Health`, from
//! the first moment. Everything else on the gRPC port is UNAVAILABLE until [`Front::serve`].

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, OnceLock},
};

use axum::{
    Json, Router,
    body::Body,
    extract::Request,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tonic_health::{ServingStatus, server::HealthReporter};
use tower::{ServiceExt, service_fn};

use crate::{
    Bound, Readiness, Telemetry,
    listen::{Homes, serve, serve_on},
    readiness::Phase,
};

/// When to try again what a service does not take yet.
const RETRY_AFTER_MS: u64 = 1_000;

/// The front of one service. Dropping it closes both ports and every connection at once.
pub struct Front {
    /// Metrics and traces.
    pub telemetry: Telemetry,
    /// What `/ready` says; the phase is set by [`Front::set_phase`].
    pub readiness: Readiness,
    grpc_address: SocketAddr,
    metrics_address: SocketAddr,
    /// Name of the gRPC service, with its package.
    service: &'static str,
    health: HealthReporter,
    door: Arc<OnceLock<Router>>,
    homes: Homes,
    end: CancellationToken,
    /// The gRPC port is given up.
    left: CancellationToken,
    servers: JoinSet<&'static str>,
}

impl Front {
    /// Serves both ports. `service` is the full name of the gRPC service.
    pub async fn open(service: &'static str, grpc: Bound, metrics: Bound, telemetry: Telemetry) -> Self {
        let readiness = Readiness::new();
        let (grpc_address, metrics_address) = (grpc.address, metrics.address);
        let (health, health_service) = tonic_health::server::health_reporter();
        tell(&health, service, Phase::Starting).await;
        let door = Arc::new(OnceLock::new());
        let behind = door.clone();
        let router = Router::new()
            .route_service("/grpc.health.v1.Health/{*method}", health_service)
            .merge(readiness.router())
            .fallback_service(service_fn(move |request| pass(behind.clone(), request)));
        let homes = Homes::default();
        let (end, left) = (CancellationToken::new(), CancellationToken::new());
        let mut servers = JoinSet::new();
        let serving = serve_on(grpc, router, end.clone(), left.clone(), homes.clone());
        servers.spawn(named("the gRPC port", serving));
        let router = telemetry.router().merge(readiness.router());
        servers.spawn(named("the metrics port", serve(metrics, router, end.clone())));
        Self {
            telemetry,
            readiness,
            grpc_address,
            metrics_address,
            service,
            health,
            door,
            homes,
            end,
            left,
            servers,
        }
    }

    /// Where the gRPC service is served.
    pub fn grpc_address(&self) -> SocketAddr {
        self.grpc_address
    }

    /// Where `/metrics` is served.
    pub fn metrics_address(&self) -> SocketAddr {
        self.metrics_address
    }

    /// Puts the service behind its port; the first call counts.
    pub fn serve(&self, router: Router) {
        let _ = self.door.set(router);
    }

    /// As [`Self::serve`], by these runtimes: each connection that comes from now on is one of theirs, in turn.
    pub fn serve_on(&self, router: Router, runtimes: Vec<tokio::runtime::Handle>) {
        self.homes.set(runtimes);
        self.serve(router);
    }

    /// Says where the service is now, to `/ready` and to gRPC health checks.
    pub async fn set_phase(&self, phase: Phase) {
        self.readiness.set_phase(phase);
        tell(&self.health, self.service, phase).await;
    }

    /// Resolves when a port is not served any more, which only a bug does before [`Front::close`]; says which.
    pub async fn failed(&mut self) -> String {
        match self.servers.join_next().await {
            Some(Ok(name)) => format!("{name} is not served any more"),
            Some(Err(error)) => serving_ended(&error),
            None => "no port is served any more".to_owned(),
        }
    }

    /// Gives the ports up, and has the connections that are open end with their requests under way. When it returns,
    /// whoever connects to the gRPC port is refused. What else must end before [`Front::close`] can, streams without an end
    /// for example, is up to the caller then.
    pub async fn leave(&self) {
        self.end.cancel();
        self.left.cancelled().await;
    }

    /// Takes no more requests, lets those under way finish for two seconds, and sends the last traces.
    pub async fn close(mut self) {
        self.end.cancel();
        while let Some(ended) = self.servers.join_next().await {
            if let Err(error) = ended {
                tracing::error!("{}", serving_ended(&error));
            }
        }
        // Blocks while they are sent.
        if tokio::task::spawn_blocking(move || self.telemetry.flush()).await.is_err() {
            tracing::warn!("the last traces were not sent");
        }
    }
}

/// What gRPC health checks answer, for the process and for its service.
async fn tell(health: &HealthReporter, service: &str, phase: Phase) {
    let status = if phase == Phase::Ready { ServingStatus::Serving } else { ServingStatus::NotServing };
    health.set_service_status("", status).await;
    health.set_service_status(service, status).await;
}

fn serving_ended(error: &JoinError) -> String {
    format!("serving a port ended: {error}")
}

async fn named(name: &'static str, task: impl Future<Output = ()>) -> &'static str {
    task.await;
    name
}

async fn pass(door: Arc<OnceLock<Router>>, request: Request) -> Result<Response, Infallible> {
    match door.get() {
        Some(router) => router.clone().oneshot(request).await,
        None => Ok(not_yet(&request)),
    }
}

fn not_yet(request: &Request) -> Response {
    const MESSAGE: &str = "the service is starting; /ready says what it waits for";
    let content_type = request.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    if content_type.is_some_and(|value| value.starts_with(b"application/grpc")) {
        return tonic::Status::unavailable(MESSAGE).into_http::<Body>();
    }
    let error = json!({"code": "UNAVAILABLE", "message": MESSAGE, "retry_after_ms": RETRY_AFTER_MS});
    let mut response = (StatusCode::SERVICE_UNAVAILABLE, Json(json!({"error": error}))).into_response();
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_MS / 1_000));
    response
}
