//! Faults on the platform as separate processes, on real stores, under a load of some 500 sessions; and the rig that
//! causes them. All scenarios, and large ones: `make drill`.

#![allow(clippy::unwrap_used, reason = "tests: their panics are verdicts")]

mod clients;
mod etcd;
mod network;
mod processes;
mod redis;
mod rig;

use roomcast_testkit::{
    drill::{Course, Setup, run, scenarios},
    programs,
};
use tokio::sync::Mutex;

/// One at a time: each has the machine's cores in use.
static ALONE: Mutex<()> = Mutex::const_new(());

/// Carries a scenario out under a small load; everything that is promised has to hold.
async fn holds(name: &str) {
    let _alone = ALONE.lock().await;
    let scenario = scenarios::named(name).expect("there is one of this name");
    let report = run(&Setup::small(programs::folder().to_owned()), Course::Scenario(scenario, 1)).await;
    assert!(report.is_good(), "{}\n{report}", scenario.promise);
    let [made, accepted, ..] = report.pushes;
    assert!(made > 0 && accepted == made && report.messages[0] > 0, "{report}");
}
