//! How full the nodes are: as they report here, or as other controllers wrote it to presence.

use std::{collections::HashMap, time::Duration};

use futures_util::FutureExt;
use roomcast_store::{
    Error as StoreError,
    presence::{Load, NodeRef},
};
use tokio::{sync::Mutex, time::Instant};

use crate::{concurrent, controller::Controller, metrics::Missing};

/// A node whose load is older is not reporting: nodes tell it every 2 s.
pub(crate) const REPORTING: Duration = Duration::from_secs(10);
/// A node that missed a report may have died: clients are sent to others while there are any.
const YOUNG: Duration = Duration::from_secs(3);
/// What was read from presence is shown again for so long: however often clients are sent to nodes, each load is read
/// twice a second.
const FRESH: Duration = Duration::from_millis(500);
/// Loads read at once.
const AT_ONCE: usize = 64;

/// What presence last said of nodes that report elsewhere. One reading is made at a time; those who ask meanwhile
/// share it.
#[derive(Default)]
pub(crate) struct Loads(Mutex<Option<Reading>>);

struct Reading {
    at: Instant,
    /// Of each node that was asked for.
    loads: HashMap<NodeRef, Option<Reported>>,
    /// False: nothing is known of any of them.
    is_answered: bool,
}

impl Reading {
    fn serves(&self, nodes: &[&NodeRef]) -> bool {
        self.at.elapsed() < FRESH && nodes.iter().all(|node| self.loads.contains_key(node))
    }
}

/// What a node last said of itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reported {
    pub(crate) load: Load,
    /// It missed no report.
    pub(crate) is_young: bool,
}

impl Reported {
    fn new(load: Load, age: Duration) -> Self {
        Self { load, is_young: age <= YOUNG }
    }
}

/// The loads of those among some nodes that report.
#[derive(Debug, Default)]
pub(crate) struct Known {
    pub(crate) loads: HashMap<NodeRef, Reported>,
    /// Presence, when some of the others may report to another controller.
    pub(crate) missing: Option<Missing>,
}

impl Loads {
    /// What is known of these lives of nodes. Takes as long as presence may take where somebody waits.
    pub(crate) async fn of(&self, controller: &Controller, nodes: &[NodeRef]) -> Known {
        let mut known = Known::default();
        let mut elsewhere = Vec::new();
        for node in nodes {
            match controller.streams.load(node) {
                Some((load, age)) if age <= REPORTING => {
                    known.loads.insert(node.clone(), Reported::new(load, age));
                }
                _ => elsewhere.push(node),
            }
        }
        if elsewhere.is_empty() {
            return known;
        }
        let mut last = self.0.lock().await;
        let reading = match last.take() {
            Some(reading) if reading.serves(&elsewhere) => reading,
            _ => read(controller, &elsewhere).await,
        };
        let found = elsewhere.iter().filter_map(|node| Some(((*node).clone(), (*reading.loads.get(node)?)?)));
        known.loads.extend(found);
        known.missing = (!reading.is_answered).then_some(Missing::Presence);
        *last = Some(reading);
        known
    }
}

async fn read(controller: &Controller, nodes: &[&NodeRef]) -> Reading {
    let reads = nodes.iter().map(|node| {
        async move {
            let found = controller.presence.load(node).await?;
            let reported = found.map(|(load, left)| Reported::new(load, REPORTING.saturating_sub(left)));
            Ok::<_, StoreError>(((*node).clone(), reported))
        }
        .boxed()
    });
    let answer = controller.promptly(concurrent::all(reads.collect(), AT_ONCE)).await;
    if let Err(error) = &answer {
        tracing::debug!(%error, "the loads of nodes that report elsewhere were not read");
    }
    let is_answered = answer.is_ok();
    let nobody = || nodes.iter().map(|node| ((*node).clone(), None)).collect();
    let loads = answer.map_or_else(|_| nobody(), |found| found.into_iter().collect());
    Reading { at: Instant::now(), loads, is_answered }
}
