//! Lanes that lead nowhere, for tests of what needs one.

use std::{sync::Arc, time::Duration};

use metrics::Gauge;
use roomcast_types::{Incarnation, NodeId};
use tokio::sync::{mpsc, watch};

use super::{Bounds, Context, Lane};
use crate::{clock::Clock, ledger::Ledger, metrics::Metrics, routes::Routes};

/// So many, to `node-0` and on.
pub fn lanes(count: u32) -> Arc<Vec<Arc<Lane>>> {
    let second = Duration::from_secs(1);
    let context = Arc::new(Context {
        manager_id: "m".into(),
        incarnation: Incarnation::random(),
        grpc_address: String::new(),
        bounds: Bounds { messages: 1, bytes: 1 },
        deadline: second,
        trust: second,
        ping_interval: second,
        clock: Clock::new(),
        routes: Routes::new(),
        metrics: Metrics::new(),
        ledger: Ledger::new(Gauge::noop(), second),
        progress: watch::Sender::new(0),
        conflicts: mpsc::channel(1).0,
    });
    let lane = |index| {
        let node_id = NodeId::new(format!("node-{index}")).unwrap();
        Arc::new(Lane::new(index, node_id, context.clone()))
    };
    Arc::new((0..count).map(lane).collect())
}
