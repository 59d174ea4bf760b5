//! Clients come back all at once, vanish, flap, or stop reading.

use std::time::Duration;

use tokio::time::sleep;

use crate::{
    drill::{
        crowd::{Act, PROXIED_EVERY},
        stage::{Scenario, Stage},
    },
    proxy::{BOTH, Proxy},
};

/// One in so many.
const SOME: usize = 10;
/// One way, and up to twice as much.
const FAR: Duration = Duration::from_millis(150);
/// Between two losses of the same connection.
const FLAP_EVERY: Duration = Duration::from_millis(700);

pub const ALL: &[Scenario] = &[
    Scenario::new("calm", "without a fault nothing is lost, late or wrong", |stage| Box::pin(stage.hold()))
        .not_drawn(),
    Scenario::new("herd", "all sessions come back at once and miss nothing", |stage| Box::pin(herd(stage))),
    Scenario::new("flap", "sessions that come and go miss nothing", |stage| Box::pin(flap(stage))),
    Scenario::new(
        "vanish",
        "sessions that are elsewhere before their old node noticed miss nothing",
        |stage| Box::pin(vanish(stage)),
    ),
    Scenario::new("reset-clients", "sessions whose sockets are reset in mid-message miss nothing", |stage| {
        Box::pin(async {
            let bytes = 500 + stage.dice().below(2_000) as u64;
            let what = format!("a reset after each {bytes} bytes");
            sockets(stage, &what, |way| BOTH.iter().for_each(|direction| way.reset_after(*direction, bytes)))
                .await;
        })
    }),
    Scenario::new("hold-clients", "sessions whose network stands still for a while miss nothing", |stage| {
        Box::pin(sockets(stage, "no word", |way| BOTH.iter().for_each(|direction| way.hold(*direction))))
    }),
    Scenario::new("slow-clients", "sessions far away get everything, late", |stage| {
        Box::pin(async {
            let seed = stage.dice().below(1 << 30) as u64;
            let far = |way: &Proxy| {
                for direction in BOTH {
                    way.delay(direction, FAR, FAR, seed);
                }
            };
            sockets(stage, "a long way", far).await;
        })
    }),
    Scenario::new("slow-readers", "one in ten that stops reading disturbs nobody else", |stage| {
        Box::pin(slow(stage))
    }),
];

/// One in ten sessions, by the dice, connects anew.
pub fn reconnect_some(stage: &Stage) {
    stage.crowd.order(Act::Reconnect, SOME, stage.dice().below(SOME));
}

async fn herd(stage: &Stage) {
    stage.fault("all sessions connect anew");
    stage.crowd.order(Act::Reconnect, 1, 0);
    stage.hold().await;
}

async fn flap(stage: &Stage) {
    let offset = stage.dice().below(SOME);
    for _ in 0..5 {
        stage.fault("one in ten connects anew");
        stage.crowd.order(Act::Reconnect, SOME, offset);
        sleep(FLAP_EVERY).await;
    }
}

async fn vanish(stage: &Stage) {
    stage.fault("one in ten is gone without a word and connects elsewhere");
    stage.crowd.order(Act::Abandon, SOME, stage.dice().below(SOME));
    stage.hold().await;
}

/// Does something to the sockets of all sessions that have a proxy before their nodes.
async fn sockets(stage: &Stage, what: &str, act: impl Fn(&Proxy)) {
    stage.fault(format!("{what} between one in {PROXIED_EVERY} clients and their nodes"));
    let nodes = stage.platform.role("connect-node");
    let ways: Vec<_> = nodes.iter().map(|node| stage.platform.clients(node.name())).collect();
    ways.iter().for_each(|way| act(way));
    stage.hold().await;
    ways.iter().for_each(|way| way.mend());
}

async fn slow(stage: &Stage) {
    stage.fault("one in ten does not read");
    stage.crowd.order(Act::Stall(stage.hold), SOME, stage.dice().below(SOME));
    stage.hold().await;
}
