//! How a controller ends: nodes and callers turn to another one first, calls under way are finished, then it goes.
//!
//! | step | nodes | new calls | until |
//! |---|---|---|---|
//! | grace | told to turn to another controller | taken | `accept_grace` is over, or there is no other controller |
//! | settling | the same | UNAVAILABLE | no node reports here and no call is under way, or `settle_wait` is over |
//! | end | their streams end | refused | two seconds |

use std::time::Duration;

use roomcast_registry::State;
use roomcast_runtime::{Causes, Phase, cli::End};
use tokio::time::{sleep, timeout};

use crate::running::Running;

/// How long an end without a drain waits for calls under way.
const STOP_SETTLE: Duration = Duration::from_secs(2);
/// How long giving the registration back, and closing the record, may take.
const LEAVE_WAIT: Duration = Duration::from_secs(2);
/// Beside the waits of the configuration: the two above, the port with what is still under way, the last traces.
const REST: Duration = Duration::from_secs(8);
/// Between two looks at what is left.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// What an end left behind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Left {
    /// Nodes that still reported here: they turn to another controller by themselves when the stream ends.
    pub nodes: usize,
    /// Calls that were not answered.
    pub calls: usize,
}

impl Running {
    /// How long its end takes at most: the sum of what it waits for.
    pub fn end_limit(&self) -> Duration {
        let pace = &self.controller.config.server.drain;
        pace.accept_grace + pace.settle_wait + REST
    }

    /// Drains it, or stops it.
    pub async fn end(self, how: End) {
        match how {
            End::Drain => self.drain().await,
            End::Stop => self.stop().await,
        };
    }

    /// Hands over to the other controllers in the time that the configuration gives (`server.drain`): nodes are told to
    /// turn to another one, calls are taken while balancers find out, and it ends when nobody is left.
    pub async fn drain(self) -> Left {
        self.begin_end().await;
        self.controller.streams.send_away();
        let pace = self.controller.config.server.drain.clone();
        // Where it is the only one its nodes wait for its successor, the sooner the better.
        let _ = timeout(pace.accept_grace, self.controllers.alone(&self.controller.id)).await;
        self.controller.calls.close();
        let gone = async {
            let is_left = || self.controller.streams.totals().0 > 0;
            while is_left() && self.controllers.has_other(&self.controller.id) {
                sleep(LOOK_EVERY).await;
            }
            self.answered().await;
        };
        let _ = timeout(pace.settle_wait, gone).await;
        self.close().await
    }

    /// Takes no more calls, finishes those under way for up to two seconds, and ends.
    pub async fn stop(self) -> Left {
        self.begin_end().await;
        self.controller.calls.close();
        let _ = timeout(STOP_SETTLE, self.answered()).await;
        self.close().await
    }

    async fn begin_end(&self) {
        self.front.set_phase(Phase::Draining).await;
        self.member.set_state(State::Draining);
    }

    async fn answered(&self) {
        while self.controller.calls.under_way() > 0 {
            sleep(LOOK_EVERY).await;
        }
    }

    async fn close(mut self) -> Left {
        let left =
            Left { nodes: self.controller.streams.totals().0, calls: self.controller.calls.under_way() };
        let _ = timeout(LEAVE_WAIT, self.member.leave()).await;
        // No listener any more: a node whose stream ends does not come back to this one.
        self.front.leave().await;
        self.controller.streams.end_all();
        self.front.close().await;
        self.workers.shutdown().await;
        if let Ok(Err(error)) = timeout(LEAVE_WAIT, self.controller.rooms.close()).await {
            tracing::warn!(error = %Causes(&error), "the record was not closed in order");
        }
        let Left { nodes, calls } = left;
        tracing::info!(controller_id = %self.controller.id, nodes, calls, "the controller stopped");
        left
    }
}
