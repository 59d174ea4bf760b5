//! A service on a runtime of its own: apart from the others as a process would be, in its threads and in its end.

use std::{future::Future, io};

use tokio::runtime::{Builder, Runtime};

/// One running service and the runtime that everything of it lives on.
pub struct Hosted<T> {
    /// `None` only while it is being stopped or killed.
    inner: Option<(Runtime, T)>,
}

impl<T: Send + 'static> Hosted<T> {
    /// Starts a service on a fresh runtime with this many workers; the threads carry `name`.
    pub async fn start<E, F>(name: &str, workers: usize, starting: F) -> Result<Self, HostError<E>>
    where
        E: Send + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
    {
        let runtime = Builder::new_multi_thread()
            .worker_threads(workers)
            .thread_name(name)
            .enable_all()
            .build()
            .map_err(HostError::Threads)?;
        let started = runtime.spawn(starting).await;
        match started {
            Ok(Ok(service)) => Ok(Self { inner: Some((runtime, service)) }),
            Ok(Err(error)) => {
                runtime.shutdown_background();
                Err(HostError::Service(error))
            }
            Err(panicked) => {
                runtime.shutdown_background();
                Err(HostError::Panicked(panicked.to_string()))
            }
        }
    }

    /// The service.
    pub fn service(&self) -> &T {
        &self.inner.as_ref().expect("held until stop or kill consumes self").1
    }

    /// The service.
    pub fn service_mut(&mut self) -> &mut T {
        &mut self.inner.as_mut().expect("held until stop or kill consumes self").1
    }

    /// The runtime's handle.
    pub fn handle(&self) -> &tokio::runtime::Handle {
        self.inner.as_ref().expect("held until stop or kill consumes self").0.handle()
    }

    /// Stops it in order: `stop` runs on the service's own runtime, which ends after it. What `stop` says; `None` when
    /// it panicked.
    pub async fn stop<R, F>(mut self, stop: impl FnOnce(T) -> F) -> Option<R>
    where
        R: Send + 'static,
        F: Future<Output = R> + Send + 'static,
    {
        let (runtime, service) = self.inner.take()?;
        let stopping = {
            let _guard = runtime.enter();
            stop(service)
        };
        let said = runtime.spawn(stopping).await;
        runtime.shutdown_background();
        said.ok()
    }

    /// Ends it as `kill -9` ends a process: no task of it runs again, its sockets close, nothing is deregistered.
    pub fn kill(self) {
        drop(self);
    }
}

impl<T> Drop for Hosted<T> {
    fn drop(&mut self) {
        if let Some((runtime, service)) = self.inner.take() {
            // The runtime first: nothing of the service may run while its parts are dropped.
            let handle = runtime.handle().clone();
            runtime.shutdown_background();
            let _guard = handle.enter();
            drop(service);
        }
    }
}

/// Why a service did not start.
#[derive(Debug, thiserror::Error)]
pub enum HostError<E> {
    /// Its own reason.
    #[error(transparent)]
    Service(E),
    /// The system gave no threads.
    #[error("cannot start threads")]
    Threads(#[source] io::Error),
    /// A bug.
    #[error("a service panicked while starting: {0}")]
    Panicked(String),
}
