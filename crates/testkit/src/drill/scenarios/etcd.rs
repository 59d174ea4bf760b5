//! etcd is away, or has forgotten.

use crate::{
    drill::stage::{Scenario, Stage},
    proxy::Direction,
};

pub const ALL: &[Scenario] = &[
    Scenario::new("kill-etcd", "without etcd everything that is there goes on", |stage| {
        Box::pin(kill(stage))
    }),
    Scenario::new("freeze-etcd", "with an etcd that does not answer everything goes on", |stage| {
        Box::pin(freeze(stage))
    }),
    Scenario::new("revoke-leases", "all leases gone at once end nobody", |stage| Box::pin(revoke(stage))),
    Scenario::new("wipe-etcd", "an etcd that forgot everything is told again", |stage| Box::pin(wipe(stage))),
    Scenario::new("lose-watch", "what a watch did not tell is found all the same", |stage| {
        Box::pin(lose(stage))
    }),
    Scenario::new(
        "kill-etcd-and-node",
        "a node that dies while etcd is away is noticed all the same",
        |stage| Box::pin(kill_with_node(stage)),
    ),
];

/// What etcd tells does not arrive, and then its connections break.
async fn lose(stage: &Stage) {
    let node = stage.any("connect-node");
    stage.fault(format!("no word from etcd to anybody, and kill -9 {}", node.name()));
    let ways: Vec<_> = ["connect-node", "push-manager", "controller"]
        .iter()
        .flat_map(|role| stage.platform.between(role, "etcd"))
        .collect();
    ways.iter().for_each(|way| way.hold(Direction::Back));
    node.kill();
    stage.hold().await;
    ways.iter().for_each(|way| {
        way.reset();
        way.mend();
    });
    node.start_again();
    node.until_ready().await;
}

async fn kill(stage: &Stage) {
    let etcd = &stage.platform.servers().etcd;
    stage.fault("kill -9 etcd");
    etcd.kill();
    stage.hold().await;
    etcd.start_again();
}

async fn freeze(stage: &Stage) {
    let etcd = &stage.platform.servers().etcd;
    stage.fault("freeze etcd");
    etcd.freeze();
    stage.hold().await;
    etcd.thaw();
}

async fn revoke(stage: &Stage) {
    stage.fault("revoke all leases of etcd");
    stage.platform.servers().etcd.revoke_leases();
    stage.hold().await;
}

async fn wipe(stage: &Stage) {
    let etcd = &stage.platform.servers().etcd;
    stage.fault("kill -9 etcd and start it empty");
    etcd.kill_and_forget();
    etcd.start_again();
    stage.hold().await;
}

async fn kill_with_node(stage: &Stage) {
    let etcd = &stage.platform.servers().etcd;
    stage.fault("kill -9 etcd");
    etcd.kill();
    let node = stage.any("connect-node");
    stage.fault(format!("kill -9 {}", node.name()));
    node.kill();
    node.start_again();
    stage.hold().await;
    etcd.start_again();
    node.until_ready().await;
}
