//! The tasks of the node's operations: they run on the main runtime, whoever starts them, or where they are started, and
//! end with their owner.

use std::future::Future;

use tokio::runtime::Handle;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// See the module.
pub struct Tasks {
    runtime: Handle,
    tracker: TaskTracker,
    end: CancellationToken,
}

impl Tasks {
    /// On the runtime around this call.
    pub fn new() -> Self {
        Self { runtime: Handle::current(), tracker: TaskTracker::new(), end: CancellationToken::new() }
    }

    /// Starts an operation on the main runtime; it is dropped at its next await when the tasks end.
    pub fn spawn(&self, operation: impl Future<Output = ()> + Send + 'static) {
        let operation = self.end.clone().run_until_cancelled_owned(operation);
        self.tracker.spawn_on(async move { operation.await.unwrap_or_default() }, &self.runtime);
    }

    /// As [`Self::spawn`], on the runtime around this call.
    pub fn spawn_here(&self, operation: impl Future<Output = ()> + Send + 'static) {
        let operation = self.end.clone().run_until_cancelled_owned(operation);
        self.tracker.spawn(async move { operation.await.unwrap_or_default() });
    }

    /// Ends all of them, and those started later.
    pub fn end(&self) {
        self.end.cancel();
    }
}
