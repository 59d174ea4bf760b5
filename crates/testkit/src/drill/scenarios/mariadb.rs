//! The record does not answer, answers late, or loses its connections at the worst moment.

use std::time::Duration;

use super::clients::reconnect_some;
use crate::{
    drill::stage::{Scenario, Stage},
    proxy::{BOTH, Before, Proxy},
};

pub const ALL: &[Scenario] = &[
    Scenario::new(
        "freeze-mariadb",
        "a record that does not answer holds up nobody who has a seat",
        |stage| Box::pin(freeze(stage)),
    ),
    Scenario::new("kill-mariadb", "a record that dies keeps every seat", |stage| Box::pin(kill(stage))),
    Scenario::new("slow-mariadb", "a slow record makes joins late and loses nothing", |stage| {
        Box::pin(async {
            reconnect_some(stage);
            let (delay, jitter, seed) =
                (Duration::from_millis(50), Duration::from_millis(250), stage.dice().word());
            let act =
                |way: &Proxy| BOTH.iter().for_each(|direction| way.delay(*direction, delay, jitter, seed));
            stage.between("50 to 300 ms", "controller", "mariadb", act).await;
        })
    }),
    Scenario::new(
        "cut-commit",
        "a COMMIT that does not arrive, or is not answered, gives nobody a second seat",
        |stage| {
            Box::pin(async {
                reconnect_some(stage);
                let before = *stage.dice().pick(&[Before::Arrival, Before::Answer]);
                let what = format!("a cut at COMMIT, before its {before:?},");
                stage.between(&what, "controller", "mariadb", |way| way.cut_at(b"COMMIT", before)).await;
            })
        },
    ),
];

async fn freeze(stage: &Stage) {
    let mariadb = &stage.platform.servers().mariadb;
    reconnect_some(stage);
    stage.fault("freeze mariadb");
    mariadb.freeze();
    stage.hold().await;
    mariadb.thaw();
}

async fn kill(stage: &Stage) {
    let mariadb = &stage.platform.servers().mariadb;
    stage.fault("kill -9 mariadb");
    mariadb.kill();
    stage.hold().await;
    mariadb.start_again();
}
