//! What the rig says that it does, it does: parts end, stand still and come back, and ways break one by one.

use std::time::Duration;

use roomcast_testkit::{
    Platform,
    drill::{
        crowd::{Clock, Crowd, Kind, Plan},
        history::Saw,
    },
    eventually, programs,
    proxy::Proxy,
};
use serde_json::Value;

use crate::ALONE;

const STOP_WITHIN: Duration = Duration::from_secs(20);

async fn until_degraded(platform: &Platform, name: &str, degraded: &[&str]) {
    let is = |status: u16, report: &Value| status == 200 && report["degraded"] == serde_json::json!(degraded);
    platform.part(name).until(is).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_way_that_breaks_is_missed_by_one_part_and_no_other() {
    let _alone = ALONE.lock().await;
    let platform =
        Platform::builder(programs::folder()).nodes(2).push_managers(1).controllers(1).start().await;
    platform.between("connect-node-1", "etcd").into_iter().for_each(Proxy::part);
    until_degraded(&platform, "connect-node-1", &["etcd"]).await;
    until_degraded(&platform, "connect-node-2", &[]).await;
    platform.between("connect-node-2", "controller").into_iter().for_each(Proxy::cut);
    until_degraded(&platform, "connect-node-2", &["controller"]).await;
    until_degraded(&platform, "connect-node-1", &["etcd"]).await;
    // A lane is a way of its own, dialed by the push-manager.
    let lanes = async || platform.part("push-manager-1").metric("pubsub_push_trust_lost_total").await;
    let before = lanes().await;
    platform.between("connect-node-1", "push-manager").into_iter().for_each(Proxy::part);
    eventually("the lane is not trusted", async || (lanes().await == before + 1.0).then_some(())).await;
    platform.mend();
    for name in ["connect-node-1", "connect-node-2", "push-manager-1"] {
        until_degraded(&platform, name, &[]).await;
    }
    assert_eq!(platform.complaints(&[]), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_end_stand_still_and_come_back_on_their_ports() {
    let _alone = ALONE.lock().await;
    let platform =
        Platform::builder(programs::folder()).nodes(1).push_managers(1).controllers(1).start().await;
    for part in platform.parts() {
        let (name, first) = (part.name(), part.pid());
        part.kill();
        assert_eq!((part.is_running(), part.readiness().await), (false, None), "{name}");
        part.start_again();
        part.until_ready().await;
        assert!(part.pid().is_some() && part.pid() != first, "{name}");
        part.freeze();
        assert_eq!((part.is_running(), part.readiness().await), (true, None), "{name}");
        part.thaw();
        part.until_ready().await;
        let (code, _) = part.stop(STOP_WITHIN).await;
        assert_eq!((code, part.is_running()), (0, false), "{name}");
        part.start_again();
        part.until_ready().await;
        assert!(part.resources().files > 0 && part.resources().threads > 1, "{name}");
    }
    assert_eq!(platform.complaints(&[]), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_of_the_products_own_clients_sees_what_lean_sessions_see() {
    let _alone = ALONE.lock().await;
    let platform =
        Platform::builder(programs::folder()).nodes(2).push_managers(1).controllers(1).start().await;
    let nodes: Vec<_> = platform.role("connect-node").iter().map(|node| node.http()).collect();
    for kind in [Kind::Lean, Kind::Product] {
        let (nodes, proxied) = (nodes.clone(), Vec::new());
        let plan = Plan { sessions: 20, rooms: 2, nodes, proxied, threads: 2, seed: 1, kind };
        let crowd = Crowd::start(plan, Clock::start());
        crowd.all_connected(Duration::from_secs(20)).await.unwrap();
        let api = roomcast_testkit::Api::new(platform.part("push-manager-1").grpc());
        api.push_room("room-001", "#7 seven").await;
        eventually("all of the room have it", async || (crowd.messages() == 10).then_some(())).await;
        for session in crowd.stop().await {
            let saw: Vec<_> = session.events.iter().map(|event| event.saw).collect();
            let is_right = match saw.as_slice() {
                [Saw::Joined { .. }] => session.room == 0,
                [Saw::Joined { .. }, Saw::Message { number: 7, .. }] => session.room == 1,
                _ => false,
            };
            assert!(is_right, "{kind:?}: {session:?}");
        }
    }
}
