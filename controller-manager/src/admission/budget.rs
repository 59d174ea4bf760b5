//! The time of one join: answered within a second, whichever store hangs.
//!
//! | part | until, from its start | why |
//! |---|---|---|
//! | presence before the record: the index, the rejoin | 400 ms | leaves the record half of the second |
//! | the record | 850 ms | |
//! | presence after the record | 950 ms | a node gives up after a second |

use std::time::Duration;

use roomcast_store::{Error as StoreError, Result};
use tokio::time::{Instant, timeout_at};

use crate::controller::{Controller, unanswered};

const PRESENCE: Duration = Duration::from_millis(400);
pub(super) const RECORD: Duration = Duration::from_millis(850);
const END: Duration = Duration::from_millis(950);

/// See the module.
pub(crate) struct Budget {
    started: Instant,
    presence_by: Instant,
    /// Presence did not answer one call of this join: the others are not made, a report mends it.
    is_presence_away: bool,
}

impl Budget {
    /// A join begins.
    pub(crate) fn start() -> Self {
        let started = Instant::now();
        Self { started, presence_by: started + PRESENCE, is_presence_away: false }
    }

    /// A call of presence, in the time that is left for it.
    pub(crate) async fn presence<T>(
        &mut self,
        controller: &Controller,
        call: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        if self.is_presence_away {
            return Err(unanswered("presence", "it did not answer this join before".to_owned()));
        }
        let answer = timeout_at(self.presence_by, controller.promptly(call)).await;
        let answer = answer
            .unwrap_or_else(|_| Err(unanswered("presence", "no answer while this join waits".to_owned())));
        self.is_presence_away = answer.as_ref().is_err_and(StoreError::is_retryable);
        answer
    }

    /// When the record's turn is over.
    pub(super) fn record_by(&self) -> Instant {
        self.started + RECORD
    }

    /// It is the turn of presence again.
    pub(super) fn record_answered(&mut self) {
        self.presence_by = self.started + END;
    }
}
