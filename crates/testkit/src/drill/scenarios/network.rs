//! A way between two parts breaks, or brings things late.

use std::time::Duration;

use crate::{
    drill::stage::Scenario,
    proxy::{BOTH, Direction, Proxy},
};

pub const ALL: &[Scenario] = &[
    Scenario::new("part-node-etcd", "a node that only etcd does not see serves on", |stage| {
        Box::pin(async {
            stage.between("no way", stage.any("connect-node").name(), "etcd", Proxy::part).await
        })
    }),
    Scenario::new(
        "part-node-push-managers",
        "a node that no push-manager reaches loses no logged message",
        |stage| {
            Box::pin(async {
                stage.between("no way", stage.any("connect-node").name(), "push-manager", Proxy::part).await;
            })
        },
    ),
    Scenario::new("part-node-controllers", "a node that no controller reaches serves on", |stage| {
        Box::pin(async {
            stage.between("no way", stage.any("connect-node").name(), "controller", Proxy::part).await
        })
    }),
    Scenario::new("late-reports", "a leave that a controller hears of late takes nobody's seat", |stage| {
        Box::pin(async {
            let node = stage.any("connect-node").name();
            let hold = |way: &Proxy| way.hold(Direction::Onward);
            let reports = stage.between("no report", node, "controller", hold);
            tokio::join!(reports, async { super::clients::reconnect_some(stage) });
        })
    }),
    Scenario::new("cut-lanes", "lanes that end and cannot be dialed lose no logged message", |stage| {
        Box::pin(async {
            stage.between("a cut", stage.any("connect-node").name(), "push-manager", Proxy::cut).await;
        })
    }),
    Scenario::new("reset-lanes", "lanes that are reset lose and repeat nothing", |stage| {
        Box::pin(async {
            stage.between("a reset", "connect-node", "push-manager", Proxy::reset).await;
        })
    }),
    Scenario::new(
        "reset-lanes-in-mid-message",
        "lanes that break in mid-message lose and repeat nothing",
        |stage| {
            Box::pin(async {
                let bytes = 1_000 + stage.dice().below(20_000) as u64;
                let what = format!("a reset after each {bytes} bytes");
                let act = |way: &Proxy| BOTH.iter().for_each(|direction| way.reset_after(*direction, bytes));
                stage.between(&what, stage.any("connect-node").name(), "push-manager", act).await;
            })
        },
    ),
    Scenario::new("half-close-lanes", "lanes that are closed in one direction lose nothing", |stage| {
        Box::pin(async {
            let direction = *stage.dice().pick(&BOTH);
            let what = format!("the end in one direction ({direction:?})");
            let act = |way: &Proxy| way.half_close(direction);
            stage.between(&what, stage.any("connect-node").name(), "push-manager", act).await;
        })
    }),
    Scenario::new("slow-lanes", "lanes that bring everything late and unevenly lose nothing", |stage| {
        Box::pin(async {
            let (delay, jitter, seed) =
                (Duration::from_millis(150), Duration::from_millis(300), stage.dice().word());
            let act =
                |way: &Proxy| BOTH.iter().for_each(|direction| way.delay(*direction, delay, jitter, seed));
            stage.between("150 to 450 ms", stage.any("connect-node").name(), "push-manager", act).await;
        })
    }),
    Scenario::new("throttle-lanes", "lanes that carry little lose nothing", |stage| {
        Box::pin(async {
            let act = |way: &Proxy| way.throttle(Direction::Onward, 4_000);
            stage
                .between("4,000 bytes a second", stage.any("connect-node").name(), "push-manager", act)
                .await;
        })
    }),
    Scenario::new(
        "reset-publishers",
        "publishers whose connections break lose and repeat nothing",
        |stage| Box::pin(async { stage.between("a reset", "outside", "push-manager", Proxy::reset).await }),
    ),
    Scenario::new("part-push-manager-redis", "a push-manager without its log says so", |stage| {
        Box::pin(async {
            stage.between("no way", stage.any("push-manager").name(), "redis", Proxy::part).await
        })
    })
    .keys_may_be_lost(),
    Scenario::new("part-controllers-redis", "controllers without shared memory serve on", |stage| {
        Box::pin(async { stage.between("no way", "controller", "redis", Proxy::part).await })
    }),
    Scenario::new(
        "part-controllers-mariadb",
        "controllers without the record serve who has a seat",
        |stage| Box::pin(async { stage.between("no way", "controller", "mariadb", Proxy::part).await }),
    ),
];
