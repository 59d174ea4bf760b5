//! Calls of ControllerService under way, and whether further ones are taken.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use roomcast_types::Fault;

use crate::error::retry_after;

/// See the module. Report streams do not count.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    is_closed: AtomicBool,
    under_way: AtomicUsize,
}

/// One call; ends the count when it is dropped.
pub(crate) struct Call<'a>(&'a Calls);

impl Calls {
    /// Counts a call in; UNAVAILABLE, and nothing done, when none is taken any more.
    pub(crate) fn begin(&self) -> Result<Call<'_>, Fault> {
        // Counted first: whoever closes and then finds nothing under way has seen every call that was taken.
        self.under_way.fetch_add(1, Ordering::SeqCst);
        let call = Call(self);
        if self.is_closed.load(Ordering::SeqCst) {
            return Err(Fault::unavailable("this controller is stopping; ask another one", retry_after()));
        }
        Ok(call)
    }

    /// Takes no further call.
    pub(crate) fn close(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
    }

    /// How many are under way.
    pub(crate) fn under_way(&self) -> usize {
        self.under_way.load(Ordering::SeqCst)
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::SeqCst);
    }
}
