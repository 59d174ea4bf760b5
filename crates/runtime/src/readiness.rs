//! Whether a service serves: the answers of `/health` and `/ready`, and the wait for what it cannot start without.
//!
//! | state | `/ready` | `missing` | then |
//! |---|---|---|---|
//! | starting | 503 | the stores and the registry that it waits for | all are there, and the service has met its peers: ready |
//! | ready | 200 | nothing | its end begins: draining |
//! | draining | 503 | nothing | the process ends |
//!
//! A balancer sends work to what answers 200. So a service that is ready stays ready while a store or the registry is
//! away: it does most of its work without them, the others would be no better off, and taking all of them out at once
//! would turn a part of an outage into a whole one. What it does without is listed under `degraded`, by the section of
//! the configuration that it belongs to. `/health` answers 200 as long as the process answers at all.

use std::{
    collections::BTreeSet,
    fmt,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use axum::{
    Json, Router,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use serde::Serialize;
use tokio::time::{sleep, timeout};

use crate::{Backoff, causes::Causes};

/// Pauses between attempts: a store that is there a moment later costs a moment.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// An attempt that takes longer is given up and made again: a frozen server may never answer it.
const ATTEMPT_MAX: Duration = Duration::from_secs(10);

/// Where a service is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Does not serve yet.
    Starting,
    /// Serves.
    Ready,
    /// Serves what is under way, and nothing else.
    Draining,
}

/// What `/ready` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whether to send it work.
    pub ready: bool,
    /// Where it is in its life.
    pub state: Phase,
    /// What it waits for before it serves, for example `etcd 127.0.0.1:2379`.
    pub missing: BTreeSet<String>,
    /// What it serves without, for example `etcd`.
    pub degraded: Vec<&'static str>,
}

/// The readiness of one service; clones share it.
#[derive(Clone)]
pub struct Readiness(Arc<Inner>);

struct Inner {
    state: Mutex<(Phase, BTreeSet<String>)>,
    degraded: OnceLock<Box<dyn Fn() -> Vec<&'static str> + Send + Sync>>,
}

impl Readiness {
    /// Of a service that is starting.
    pub fn new() -> Self {
        Self(Arc::new(Inner {
            state: Mutex::new((Phase::Starting, BTreeSet::new())),
            degraded: OnceLock::new(),
        }))
    }

    /// Says where the service is now.
    pub fn set_phase(&self, phase: Phase) {
        self.state().0 = phase;
    }

    /// Says how to find out, now and at any later time, what the service does without. The first call counts.
    pub fn set_degraded(&self, look: impl Fn() -> Vec<&'static str> + Send + Sync + 'static) {
        let _ = self.0.degraded.set(Box::new(look));
    }

    /// What `/ready` says now.
    pub fn report(&self) -> Report {
        let (state, missing) = self.state().clone();
        let degraded = match state {
            Phase::Starting => Vec::new(),
            Phase::Ready | Phase::Draining => self.0.degraded.get().map(|look| look()).unwrap_or_default(),
        };
        Report { ready: state == Phase::Ready, state, missing, degraded }
    }

    /// The answer of `/ready`.
    pub fn answer(&self) -> Response {
        let report = self.report();
        let status = if report.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        (status, Json(report)).into_response()
    }

    /// Serves `/health` and `/ready`.
    pub fn router(&self) -> Router {
        let readiness = self.clone();
        Router::new()
            .route("/health", get(async || Json(serde_json::json!({"status": "ok"}))))
            .route("/ready", get(move || async move { readiness.answer() }))
    }

    /// Makes attempts, with pauses in between, until one succeeds or fails in a way that a further one would not mend.
    /// Meanwhile `/ready` names what is waited for; the log says once that it is missing, and once that it is there.
    pub async fn wait_for<T, E, F>(
        &self,
        what: impl fmt::Display,
        is_retryable: impl Fn(&E) -> bool,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T, E>
    where
        E: std::error::Error,
        F: Future<Output = Result<T, E>>,
    {
        let missing = Missing::new(self, what.to_string());
        let mut pauses = Backoff::new(PAUSE_MIN, PAUSE_MAX);
        let mut is_told = false;
        loop {
            let error = match timeout(ATTEMPT_MAX, attempt()).await {
                Ok(Ok(found)) => {
                    if is_told {
                        tracing::info!("{} is there", missing.what);
                    }
                    return Ok(found);
                }
                Ok(Err(error)) if !is_retryable(&error) => return Err(error),
                Ok(Err(error)) => Causes(&error).to_string(),
                Err(_) => format!("no answer within {} s", ATTEMPT_MAX.as_secs()),
            };
            if !std::mem::replace(&mut is_told, true) {
                tracing::warn!(error, "{} is missing; trying again", missing.what);
            }
            sleep(pauses.next_wait()).await;
        }
    }

    fn state(&self) -> MutexGuard<'_, (Phase, BTreeSet<String>)> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Readiness {
    fn default() -> Self {
        Self::new()
    }
}

/// Listed as missing until it is dropped.
struct Missing<'a> {
    readiness: &'a Readiness,
    what: String,
}

impl<'a> Missing<'a> {
    fn new(readiness: &'a Readiness, what: String) -> Self {
        readiness.state().1.insert(what.clone());
        Self { readiness, what }
    }
}

impl Drop for Missing<'_> {
    fn drop(&mut self) {
        self.readiness.state().1.remove(&self.what);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("it failed")]
    struct Failure {
        is_lasting: bool,
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_waited_for_is_named_until_it_is_there() {
        let readiness = Readiness::new();
        let (attempts, seen) = (Cell::new(0), Cell::new(0));
        let found = readiness.wait_for(
            "etcd here:2379",
            |error: &Failure| !error.is_lasting,
            || {
                attempts.set(attempts.get() + 1);
                seen.set(seen.get() + readiness.report().missing.len());
                let answer = if attempts.get() < 5 { Err(Failure { is_lasting: false }) } else { Ok(7) };
                async move { answer }
            },
        );
        assert_eq!(found.await.unwrap(), 7);
        assert_eq!((attempts.get(), seen.get()), (5, 5));
        assert!(readiness.report().missing.is_empty() && !readiness.report().ready);
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_retry_does_not_mend_ends_the_wait_and_a_hanging_attempt_does_not() {
        let readiness = Readiness::new();
        let attempts = Cell::new(0);
        let found = readiness.wait_for(
            "a store",
            |error: &Failure| !error.is_lasting,
            || {
                attempts.set(attempts.get() + 1);
                let hangs = attempts.get() == 1;
                async move {
                    if hangs {
                        std::future::pending::<()>().await;
                    }
                    Err::<(), _>(Failure { is_lasting: true })
                }
            },
        );
        assert!(found.await.unwrap_err().is_lasting);
        assert_eq!(attempts.get(), 2);
    }

    #[test]
    fn what_a_ready_service_does_without_leaves_it_ready() {
        let readiness = Readiness::new();
        readiness.set_degraded(|| vec!["etcd"]);
        assert_eq!(readiness.answer().status(), StatusCode::SERVICE_UNAVAILABLE);
        readiness.set_phase(Phase::Ready);
        assert_eq!(readiness.answer().status(), StatusCode::OK);
        let shown = serde_json::to_string(&readiness.report()).unwrap();
        assert_eq!(shown, r#"{"ready":true,"state":"ready","missing":[],"degraded":["etcd"]}"#);
        readiness.set_phase(Phase::Draining);
        assert_eq!(readiness.answer().status(), StatusCode::SERVICE_UNAVAILABLE);
    }
}
