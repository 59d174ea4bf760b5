//! A process dies, stands still, or is started anew.

use std::time::Duration;

use tokio::time::sleep;

use crate::{
    drill::stage::{Scenario, Stage},
    proxy::Direction,
};

/// Longer than leases and lane deadlines.
const FROZEN: Duration = Duration::from_secs(10);
/// Longer than any program takes to stop in order.
const STOP_WITHIN: Duration = Duration::from_secs(30);
/// Long enough for some appends, and shorter than what a call to Redis may take.
const APPENDING: Duration = Duration::from_millis(300);

pub const ALL: &[Scenario] = &[
    Scenario::new("kill-node", "a node that dies under load costs nobody a message", |stage| {
        Box::pin(async { stage.kill(stage.any("connect-node")).await })
    }),
    Scenario::new(
        "kill-push-manager",
        "a push-manager that dies under load loses nothing that it accepted",
        |stage| Box::pin(async { stage.kill(stage.any("push-manager")).await }),
    ),
    Scenario::new(
        "kill-controller",
        "a controller that dies under load costs nobody a message or a seat",
        |stage| Box::pin(async { stage.kill(stage.any("controller")).await }),
    ),
    Scenario::new(
        "restart-node",
        "a node that starts again on the same ports at once is found at once",
        |stage| Box::pin(restart(stage)),
    ),
    Scenario::new(
        "freeze-node",
        "a node that stands still for ten seconds costs nobody a message",
        |stage| Box::pin(async { stage.freeze(stage.any("connect-node"), FROZEN).await }),
    ),
    Scenario::new(
        "freeze-push-manager",
        "a push-manager that stands still for ten seconds loses nothing",
        |stage| Box::pin(async { stage.freeze(stage.any("push-manager"), FROZEN).await }),
    ),
    Scenario::new(
        "freeze-controller",
        "a controller that stands still for ten seconds costs no seat",
        |stage| Box::pin(async { stage.freeze(stage.any("controller"), FROZEN).await }),
    ),
    Scenario::new(
        "kill-between-append-and-fan-out",
        "what a push-manager appended and did not fan out before it died reaches everybody",
        |stage| Box::pin(between(stage)),
    ),
    Scenario::new("stop-node", "a node that is told to stop moves its sessions without a loss", |stage| {
        Box::pin(async { stop(stage, stage.any("connect-node").name()).await })
    }),
    Scenario::new(
        "rolling-restart",
        "all processes are restarted in turn without a loss or an error",
        |stage| Box::pin(rolling(stage)),
    )
    .not_drawn(),
];

async fn restart(stage: &Stage) {
    let node = stage.any("connect-node");
    stage.fault_at(node, format!("kill -9 and start {} at once", node.name()));
    node.kill();
    node.start_again();
    node.until_ready().await;
}

/// The append arrives and its answer does not: the push-manager dies with what it has not sent on.
async fn between(stage: &Stage) {
    let manager = stage.any("push-manager");
    stage.fault(format!("kill -9 {} before it learns what it appended", manager.name()));
    let ways = stage.platform.between(manager.name(), "redis");
    ways.iter().for_each(|way| way.hold(Direction::Back));
    sleep(APPENDING).await;
    manager.kill();
    ways.iter().for_each(|way| way.mend());
    stage.hold().await;
    manager.start_again();
    manager.until_ready().await;
}

async fn stop(stage: &Stage, name: &str) {
    let part = stage.platform.part(name);
    stage.fault_at(part, format!("stop {name} in order and start it again"));
    let (code, _) = part.stop(STOP_WITHIN).await;
    assert_eq!(code, 0, "{name} ends in order:\n{}", part.said());
    part.start_again();
    part.until_ready().await;
}

async fn rolling(stage: &Stage) {
    for part in stage.platform.parts() {
        stop(stage, part.name()).await;
        part.until_whole().await;
    }
}
