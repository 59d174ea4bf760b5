//! Clients come back all at once, vanish, flap, or stop reading.

use std::time::Duration;

use tokio::time::sleep;

use crate::drill::{
    crowd::Act,
    stage::{Scenario, Stage},
};

/// One in so many.
const SOME: usize = 10;
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

async fn slow(stage: &Stage) {
    stage.fault("one in ten does not read");
    stage.crowd.order(Act::Stall(stage.hold), SOME, stage.dice().below(SOME));
    stage.hold().await;
}
