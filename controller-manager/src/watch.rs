//! Watches the stores: whether they answer, whether presence lost its content, and what the gauges show.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use crate::controller::Controller;

/// How often presence is asked for its generation: a loss is noticed so soon.
const EVERY: Duration = Duration::from_millis(500);
/// How often sums over the record are read.
const SUMS_EVERY: Duration = Duration::from_secs(5);
/// How long a store may take to count as answering.
const WAIT: Duration = Duration::from_secs(2);

/// A list of the registry that is older says that the registry is away.
const LIST_AGE_MAX: Duration = Duration::from_secs(10);

/// Whether the stores answer, as of the last look.
pub(crate) struct StoresHealth {
    record: Health,
    presence: Health,
}

/// Whether a store answers; logs each change once.
struct Health {
    store: &'static str,
    is_well: AtomicBool,
}

impl Default for StoresHealth {
    fn default() -> Self {
        let well = |store| Health { store, is_well: AtomicBool::new(true) };
        Self { record: well("record"), presence: well("presence") }
    }
}

impl Health {
    fn is_well(&self) -> bool {
        self.is_well.load(Ordering::Relaxed)
    }

    fn note(&self, is_well: bool) {
        match (self.is_well.swap(is_well, Ordering::Relaxed), is_well) {
            (true, false) => tracing::warn!(store = self.store, "a store does not answer"),
            (false, true) => tracing::info!(store = self.store, "a store answers again"),
            _ => {}
        }
    }
}

impl Controller {
    /// The sections of the configuration whose servers do not answer now: what the controller serves without.
    pub(crate) fn degraded(&self) -> Vec<&'static str> {
        let is_listed = self.nodes.current().listed_at.is_some_and(|at| at.elapsed() <= LIST_AGE_MAX);
        let all = [
            ("database", self.stores_health.record.is_well()),
            ("redis", self.stores_health.presence.is_well()),
            ("etcd", is_listed),
        ];
        all.into_iter().filter(|(_, is_well)| !is_well).map(|(section, _)| section).collect()
    }
}

/// Runs for ever. Apart from each other: a record that hangs must not hide that presence was lost.
pub(crate) async fn watch_stores(controller: &Controller) {
    tokio::join!(watch_presence(controller), watch_record(controller));
}

async fn watch_presence(controller: &Controller) {
    let mut generation = None;
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let (streams, sessions) = controller.streams.totals();
        controller.metrics.streams.set(streams as f64);
        controller.metrics.sessions.set(sessions as f64);
        controller.metrics.joins_waiting.set(controller.batches.waiting() as f64);
        show_stores(controller);
        let read = timeout(WAIT, controller.presence.generation()).await;
        let read = read.ok().and_then(Result::ok);
        controller.stores_health.presence.note(read.is_some());
        if let Some(read) = read
            && generation.replace(read).is_some_and(|known| known != read)
        {
            tracing::warn!("presence lost its content; it is rebuilt from reports and the record");
            controller.streams.presence_lost(read);
            controller.audits.push_all();
        }
    }
}

/// One that is away is looked for more often than its sums are worth: `/ready` names it until it was found.
async fn watch_record(controller: &Controller) {
    loop {
        let sums = timeout(WAIT, controller.rooms.totals()).await.ok().and_then(Result::ok);
        controller.stores_health.record.note(sums.is_some());
        if let Some(sums) = sums {
            controller.metrics.rooms.set(sums.rooms as f64);
            controller.metrics.members.set(sums.members as f64);
        }
        sleep(if sums.is_some() { SUMS_EVERY } else { EVERY }).await;
    }
}

/// What the stores count, and the gates before them.
fn show_stores(controller: &Controller) {
    let record = controller.rooms.counters();
    controller.metrics.sql_transactions.absolute(record.transactions);
    controller.metrics.record.show(&record, &controller.batches.record);
    controller.metrics.presence.show(&controller.presence.counters(), &controller.prompt_presence);
}
