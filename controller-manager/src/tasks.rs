//! Owns the tasks that answer to nobody: they end on their own, or with the controller.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::task::JoinSet;

/// Short-lived tasks of one controller. A task that panics is logged and costs its own work only.
#[derive(Default)]
pub(crate) struct Tasks(Mutex<Running>);

#[derive(Default)]
struct Running {
    tasks: JoinSet<()>,
    is_closed: bool,
}

impl Tasks {
    /// Runs a task until it ends or [`Self::close`] is called.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut running = self.lock();
        if running.is_closed {
            return;
        }
        while let Some(ended) = running.tasks.try_join_next() {
            if let Err(error) = ended
                && error.is_panic()
            {
                tracing::error!(%error, "a task panicked");
            }
        }
        running.tasks.spawn(task);
    }

    /// Ends everything at once, without waiting; whatever comes later is dropped.
    pub(crate) fn close(&self) {
        let mut running = self.lock();
        running.is_closed = true;
        running.tasks.abort_all();
    }

    fn lock(&self) -> MutexGuard<'_, Running> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
