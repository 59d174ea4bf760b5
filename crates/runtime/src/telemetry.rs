//! One service's own telemetry: a Prometheus recorder and a tracer provider, so that several services share a process.

use std::sync::Arc;

use axum::{Router, http::header, routing::get};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

use crate::{config, trace::Tracing};

/// Buckets of every histogram, in seconds: from 50 us to 10 s.
const SECONDS: [f64; 17] = [
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.125, 0.25, 0.5,
    1.0, 2.5, 10.0,
];

/// Metrics and traces of one service. Cheap to clone.
#[derive(Clone)]
pub struct Telemetry {
    recorder: Arc<PrometheusRecorder>,
    handle: PrometheusHandle,
    tracing: Tracing,
}

impl Telemetry {
    /// Builds both; `service` is the name of traces, for example `push-manager`, `instance` the process's id. Must run
    /// inside a tokio runtime when traces are on.
    pub fn new(service: &'static str, instance: &str, config: &config::Telemetry) -> Self {
        let recorder = PrometheusBuilder::new()
            .set_buckets(&SECONDS)
            .expect("the list of buckets is not empty")
            .build_recorder();
        let handle = recorder.handle();
        Self { recorder: Arc::new(recorder), handle, tracing: Tracing::new(service, instance, config) }
    }

    /// Runs `register` with this service's recorder in place: take every metric handle inside it, once.
    pub fn register<T>(&self, register: impl FnOnce() -> T) -> T {
        metrics::with_local_recorder(&*self.recorder, register)
    }

    /// Traces of this service.
    pub fn tracing(&self) -> &Tracing {
        &self.tracing
    }

    /// What `/metrics` answers.
    pub fn render(&self) -> String {
        self.handle.run_upkeep();
        self.handle.render()
    }

    /// Serves `GET /metrics`.
    pub fn router(&self) -> Router {
        let telemetry = self.clone();
        Router::new().route(
            "/metrics",
            get(move || async move {
                ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], telemetry.render())
            }),
        )
    }

    /// Sends what is left of the traces; blocks for up to a second per export, so call it from `spawn_blocking`.
    pub fn flush(&self) {
        self.tracing.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_services_in_one_process_count_apart() {
        let config = config::Config::default().telemetry;
        let (a, b) = (Telemetry::new("a", "1", &config), Telemetry::new("b", "1", &config));
        let counter = a.register(|| metrics::counter!("pubsub_tests_total"));
        counter.increment(3);
        assert!(a.render().contains("pubsub_tests_total 3"));
        assert!(!b.render().contains("pubsub_tests_total"));
    }
}
