//! The way of a call to Redis: a place, a turn, the gate, and the connection.

use std::time::Duration;

use redis::RedisResult;
use roomcast_runtime::{Gate, GateSettings, Refused};
use tokio::sync::Semaphore;

use super::{BACKEND, dial::Dialer, fault, link::Wire};
use crate::{
    counters::Counters,
    error::{Error, Result},
};

/// Calls that wait or are under way: ten thousand clients that join at the same moment wait, a store that stands still
/// does not gather more.
const CALLS_MAX: usize = 20_000;

/// Calls that Redis has before it at once: enough to keep it busy, and so few that each is answered in milliseconds. The
/// others wait here, in order, where waiting does not look like a server that is late.
const AT_ONCE: usize = 256;

/// Makes calls, and refuses them while nobody answers.
pub(super) struct Access {
    pub(super) wire: Wire,
    gate: Gate,
    /// See [`CALLS_MAX`].
    places: Semaphore,
    /// See [`AT_ONCE`].
    turns: Semaphore,
}

impl Access {
    /// `name` for the log.
    pub(super) fn new(name: &'static str, dialer: Dialer, timeout: Duration) -> Self {
        let gate = Gate::new(GateSettings {
            name,
            calls_max: AT_ONCE,
            deadline: timeout,
            failures: 5,
            pause_min: Duration::from_millis(100),
            pause_max: Duration::from_secs(1),
        })
        .quiet_until_answered();
        let (places, turns) = (Semaphore::new(CALLS_MAX), Semaphore::new(AT_ONCE));
        Self { wire: Wire::new(dialer), gate, places, turns }
    }

    /// Makes a call through the gate. `what` completes "redis is not available: cannot …".
    pub(super) async fn call<T>(
        &self,
        what: &str,
        call: impl Future<Output = RedisResult<T>> + Send,
    ) -> Result<T> {
        let Ok(_place) = self.places.try_acquire() else {
            let (context, refused) = (format!("cannot {what}"), Refused::Busy { calls: CALLS_MAX });
            return Err(Error::Unavailable { backend: BACKEND, context, source: Some(refused.into()) });
        };
        // Closed by nobody: an error would only mean to go on without a place in the order.
        let _turn = self.turns.acquire().await;
        let number = self.wire.number();
        let answer = match self.gate.pass(call, fault::is_outage).await {
            Ok(answer) => answer,
            Err(refused) => {
                // Its host may be gone without a word: a server that only stood still will take a new connection.
                // One late call says little, and hanging up fails all the others.
                if matches!(refused, Refused::Late { .. }) && self.gate.is_open() {
                    self.wire.hang_up(number);
                }
                let (context, source) = (format!("cannot {what}"), Some(refused.into()));
                return Err(Error::Unavailable { backend: BACKEND, context, source });
            }
        };
        answer.map_err(|error| fault::error(&format!("cannot {what}"), error))
    }
    pub(super) fn counters(&self) -> Counters {
        Counters {
            transactions: 0,
            calls_refused: self.gate.refused_total(),
            is_refusing: self.gate.is_open(),
        }
    }
}
