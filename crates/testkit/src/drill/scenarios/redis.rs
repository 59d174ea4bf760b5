//! Redis loses what it holds, goes back in time, is full, or does not answer.

use crate::drill::stage::{Scenario, Stage};

pub const ALL: &[Scenario] = &[
    Scenario::new("flush-redis", "what Redis lost is rebuilt, and what is missing is flagged", |stage| {
        Box::pin(flush(stage))
    })
    .takes_logs(),
    Scenario::new("kill-redis", "a Redis that comes back empty is filled again", |stage| {
        Box::pin(kill(stage))
    })
    .takes_logs(),
    Scenario::new("freeze-redis", "a Redis that does not answer holds nobody up", |stage| {
        Box::pin(freeze(stage))
    }),
    Scenario::new("old-redis", "a Redis that went back in time is noticed", |stage| Box::pin(old(stage)))
        .takes_logs(),
    Scenario::new("full-redis", "a Redis that takes nothing more costs nobody a message", |stage| {
        Box::pin(full(stage))
    })
    .keys_may_be_lost(),
];

async fn flush(stage: &Stage) {
    stage.fault("FLUSHALL");
    stage.platform.servers().redis.run(&["FLUSHALL"]);
    stage.hold().await;
}

async fn kill(stage: &Stage) {
    let redis = &stage.platform.servers().redis;
    stage.fault("kill -9 redis, to come back empty");
    redis.kill();
    stage.hold().await;
    redis.start_again();
}

async fn freeze(stage: &Stage) {
    let redis = &stage.platform.servers().redis;
    stage.fault("freeze redis");
    redis.freeze();
    stage.hold().await;
    redis.thaw();
}

async fn old(stage: &Stage) {
    let redis = &stage.platform.servers().redis;
    redis.save();
    stage.hold().await;
    stage.fault("kill -9 redis and start it from a dump of some seconds ago");
    redis.restore();
    stage.hold().await;
}

async fn full(stage: &Stage) {
    let redis = &stage.platform.servers().redis;
    stage.fault("redis is full");
    redis.fill();
    stage.hold().await;
    redis.make_room();
}
