//! Watches the stores: whether they answer, whether presence lost its content, and what the gauges show.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::controller::Controller;

/// How often presence is asked for its generation.
const EVERY: Duration = Duration::from_secs(1);
/// Sums over the record are read every so many rounds.
const SUMS_EVERY: u32 = 5;
/// How long a store may take to count as answering.
const WAIT: Duration = Duration::from_secs(2);

/// Whether a store answers; logs each change once.
struct Health {
    store: &'static str,
    is_well: bool,
}

impl Health {
    fn of(store: &'static str) -> Self {
        Self { store, is_well: true }
    }

    fn note(&mut self, is_well: bool) {
        match (self.is_well, is_well) {
            (true, false) => tracing::warn!(store = self.store, "a store does not answer"),
            (false, true) => tracing::info!(store = self.store, "a store answers again"),
            _ => {}
        }
        self.is_well = is_well;
    }
}

/// Runs for ever.
pub(crate) async fn watch_stores(controller: &Controller) {
    let (mut record, mut presence) = (Health::of("record"), Health::of("presence"));
    let mut generation = None;
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for round in 0_u32.. {
        ticks.tick().await;
        let read = timeout(WAIT, controller.presence.generation()).await;
        let read = read.ok().and_then(Result::ok);
        presence.note(read.is_some());
        if let Some(read) = read
            && generation.replace(read).is_some_and(|known| known != read)
        {
            tracing::warn!("presence lost its content; it is rebuilt from reports and the record");
            controller.audits.push_all();
        }
        let (streams, sessions) = controller.streams.totals();
        controller.metrics.streams.set(streams as f64);
        controller.metrics.sessions.set(sessions as f64);
        if round % SUMS_EVERY == 0 {
            let sums = timeout(WAIT, controller.rooms.totals()).await.ok().and_then(Result::ok);
            record.note(sums.is_some());
            if let Some(sums) = sums {
                controller.metrics.rooms.set(sums.rooms as f64);
                controller.metrics.members.set(sums.members as f64);
            }
        }
    }
}
