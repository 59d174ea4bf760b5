//! How a push-manager ends: others take over first, what it accepted is answered and acknowledged, then it goes.
//!
//! | step | new pushes | until |
//! |---|---|---|
//! | grace | taken | `accept_grace` is over, or there is no other push-manager |
//! | settling | UNAVAILABLE | all are answered and acknowledged, or `settle_wait` is over |
//! | last answers | UNAVAILABLE | whoever still waits for a level is told what is known |

use std::time::Duration;

use roomcast_registry::State;
use roomcast_runtime::{Phase, cli::End};
use tokio::time::{sleep, timeout};

use crate::running::Running;

/// How long an end without a drain waits for acknowledgements of what was accepted.
const STOP_SETTLE: Duration = Duration::from_secs(2);
/// How long answers that wait for nothing any more may take to be written.
const LAST_ANSWERS: Duration = Duration::from_secs(1);
/// How long giving the registration back may take; past it the lease runs out instead.
const LEAVE_WAIT: Duration = Duration::from_secs(3);
/// Beside the waits of the configuration: the two above, the port with its calls under way, the last traces.
const REST: Duration = Duration::from_secs(8);
/// Between two looks at what is left.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// What an end left behind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Left {
    /// Pushes that were answered before they had reached the level they waited for, because time was over.
    pub cut_short: usize,
    /// Pushes that were not answered.
    pub unanswered: usize,
    /// Messages, one for each node and push, that the node has not acknowledged: it may not have got them.
    pub unacknowledged: usize,
}

impl Running {
    /// How long its end takes at most: the sum of what it waits for.
    pub fn end_limit(&self) -> Duration {
        self.pace.accept_grace + self.pace.settle_wait + REST
    }

    /// Drains it, or stops it.
    pub async fn end(self, how: End) {
        match how {
            End::Drain => self.drain().await,
            End::Stop => self.stop().await,
        };
    }

    /// Hands over to the other push-managers in the time that the configuration gives (`push_manager.drain`): takes
    /// pushes while balancers find out, then refuses them, and ends when what it accepted is answered and acknowledged.
    pub async fn drain(self) -> Left {
        self.begin_end().await;
        // Where it is the only one a push refused now is refused later as well.
        let _ = timeout(self.pace.accept_grace, self.managers.alone(self.member.id())).await;
        let settle_wait = self.pace.settle_wait;
        self.close(settle_wait).await
    }

    /// As [`Self::drain`], refusing pushes at once, and with two seconds for what was accepted.
    pub async fn stop(self) -> Left {
        self.begin_end().await;
        self.close(STOP_SETTLE).await
    }

    async fn begin_end(&self) {
        self.front.set_phase(Phase::Draining).await;
        self.member.set_state(State::Draining);
    }

    async fn close(mut self, settle_wait: Duration) -> Left {
        self.pusher.close();
        let settled = async {
            while self.pusher.under_way() > 0 || self.fleet.queued() > 0 {
                sleep(LOOK_EVERY).await;
            }
        };
        let _ = timeout(settle_wait, settled).await;
        let cut_short = self.pusher.under_way();
        self.pusher.answer_now();
        let answered = async {
            while self.pusher.under_way() > 0 {
                sleep(LOOK_EVERY).await;
            }
        };
        let _ = timeout(LAST_ANSWERS, answered).await;
        let unanswered = self.pusher.under_way();
        let cut_short = cut_short.saturating_sub(unanswered);
        let left = Left { cut_short, unanswered, unacknowledged: self.fleet.queued() };
        let _ = timeout(LEAVE_WAIT, self.member.leave()).await;
        let manager_id = self.member.id().clone();
        self.front.close().await;
        self.tasks.shutdown().await;
        let Left { cut_short, unanswered, unacknowledged } = left;
        tracing::info!(%manager_id, cut_short, unanswered, unacknowledged, "the push-manager stopped");
        left
    }
}
