//! Freezes a service as SIGSTOP does: none of its tasks runs, on whatever runtime, its sockets stay open, its clock goes on.

use std::sync::{Arc, Condvar, Mutex};

use tokio::runtime::Handle;

/// Keeps every worker of a service from running anything until dropped.
pub struct Frozen {
    gate: Arc<Gate>,
}

#[derive(Default)]
struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    held: usize,
    is_open: bool,
}

impl Frozen {
    /// Blocks all workers of these runtimes, so many of each, and returns when they stand still.
    pub fn new<'a>(runtimes: impl IntoIterator<Item = (&'a Handle, usize)>) -> Self {
        let gate = Arc::new(Gate::default());
        let mut workers = 0;
        for (runtime, count) in runtimes {
            workers += count;
            for _ in 0..count {
                let gate = gate.clone();
                runtime.spawn(async move { gate.hold() });
            }
        }
        let mut state = gate.state.lock().unwrap();
        while state.held < workers {
            state = gate.changed.wait(state).unwrap();
        }
        drop(state);
        Self { gate }
    }
}

impl Gate {
    /// Blocks the thread on purpose: it is the point that nothing else runs on it.
    fn hold(&self) {
        let mut state = self.state.lock().unwrap();
        state.held += 1;
        self.changed.notify_all();
        while !state.is_open {
            state = self.changed.wait(state).unwrap();
        }
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        self.gate.state.lock().unwrap().is_open = true;
        self.gate.changed.notify_all();
    }
}
