//! What the platform says of itself, held against what is: who is where, who has a seat, what is left when all are gone.

use std::{
    collections::{BTreeMap, HashMap},
    future::Future,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, future::join_all, stream};
use roomcast_client::{Controller, Pusher};
use roomcast_proto::pubsub::{GetRoomInfoRequest, GetUserNodeRequest, ListSessionsRequest};
use tokio::time::sleep;

use super::{
    checker::{Defect, Kind},
    crowd::{Crowd, room_id, user_id},
};
use crate::platform::{Part, Platform, Resources};

/// After any fault the map equals the truth again within this time.
pub const MAP_WITHIN: Duration = Duration::from_secs(5);
/// How long sockets and queues may take to be given back.
const BACK_WITHIN: Duration = Duration::from_secs(20);
/// How long the last outcomes may be on their way.
const SETTLED_WITHIN: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// A list of thousands of sessions on a busy machine takes its time.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// Users that are asked for one by one.
const USERS_ASKED: usize = 200;
const ASKED_AT_ONCE: usize = 8;
/// What a process may keep for itself: connections to stores and peers come and go.
const FILES_SLACK: usize = 40;
const THREADS_SLACK: usize = 12;
/// Defects told of one kind.
const TOLD_MAX: usize = 20;

/// Tries again until a check finds nothing, or begins after the time is over; what it found last, and when that began.
pub async fn within<F: Future<Output = Vec<Defect>>>(
    limit: Duration,
    mut check: impl FnMut() -> F,
) -> (Vec<Defect>, Duration) {
    let started = Instant::now();
    loop {
        let begun = started.elapsed();
        let found = check().await;
        if found.is_empty() || begun > limit {
            return (found, begun);
        }
        sleep(LOOK_EVERY).await;
    }
}

/// Whether every controller knows every session where it is, and nothing else.
pub async fn map(platform: &Platform, crowd: &Crowd) -> Vec<Defect> {
    let places = crowd.places();
    let checks = platform.role("controller").into_iter().map(|part| known_to(part, platform, &places));
    let mut defects = join_all(checks).await.concat();
    defects.truncate(TOLD_MAX);
    defects
}

type Place = Option<(String, String)>;

/// What one controller knows.
async fn known_to(part: &Part, platform: &Platform, places: &[Place]) -> Vec<Defect> {
    let (controller, mut defects) = (client(part), Vec::new());
    let truth: HashMap<&str, &str> =
        places.iter().flatten().map(|(node, id)| (id.as_str(), node.as_str())).collect();
    let nodes = platform.role("connect-node");
    let lists = join_all(nodes.iter().map(|node| sessions(&controller, node.name()))).await;
    let mut listed = HashMap::new();
    for (node, list) in nodes.iter().zip(lists) {
        match list {
            Ok(ids) => listed.extend(ids.into_iter().map(|id| (id, node.name()))),
            Err(error) => defects.push(defect(Kind::Map, part, format!("{}: {error}", node.name()))),
        }
    }
    for (id, node) in &listed {
        if truth.get(id.as_str()) != Some(node) {
            defects.push(defect(Kind::Map, part, format!("{id} is listed on {node} and is not there")));
        }
    }
    for (id, node) in truth.iter().filter(|(id, _)| !listed.contains_key(**id)) {
        defects.push(defect(Kind::Map, part, format!("{id} is on {node} and is not listed")));
    }
    let step = (places.len() / USERS_ASKED).max(1);
    let asked = (0..places.len()).step_by(step).map(|index| user(part, &controller, index, &places[index]));
    let found: Vec<_> = stream::iter(asked).buffer_unordered(ASKED_AT_ONCE).collect().await;
    defects.extend(found.into_iter().flatten());
    defects
}

async fn user(part: &Part, controller: &Controller, index: usize, place: &Place) -> Option<Defect> {
    let request = GetUserNodeRequest { user_id: user_id(index) };
    let known = match controller.get_user_node(request).await {
        Ok(found) => found
            .online
            .then_some((found.node_id, found.sessions.first().map(|first| first.session_id.clone()))),
        Err(error) => return Some(defect(Kind::Map, part, format!("{}: {error}", user_id(index)))),
    };
    let real = place.as_ref().map(|(node, id)| (node.clone(), Some(id.clone())));
    (known != real)
        .then(|| defect(Kind::Map, part, format!("{} is at {known:?} instead of {real:?}", user_id(index))))
}

async fn sessions(controller: &Controller, node_id: &str) -> Result<Vec<String>, roomcast_client::Error> {
    let mut found = Vec::new();
    let mut request =
        ListSessionsRequest { node_id: node_id.to_owned(), page_size: 1_000, ..Default::default() };
    loop {
        let page = controller.list_sessions(request.clone()).await?;
        found.extend(page.sessions.into_iter().map(|session| session.session_id));
        if page.next_page_token.is_empty() {
            return Ok(found);
        }
        request.page_token = page.next_page_token;
    }
}

/// Whether counters, lists, seats and the record agree about every room.
pub async fn seats(platform: &Platform, crowd: &Crowd) -> Vec<Defect> {
    let mut defects = Vec::new();
    let sql = "SELECT r.room_id, r.members, (SELECT COUNT(*) FROM room_users u WHERE u.room_id = r.room_id AND u.left_at IS NULL) FROM rooms r";
    let record: HashMap<String, (u64, u64)> =
        platform.servers().query(sql).iter().filter_map(|line| row(line)).collect();
    for part in platform.role("controller") {
        let controller = client(part);
        for room in 0..crowd.rooms() {
            let room_id = room_id(room);
            let users = (room..crowd.sessions()).step_by(crowd.rooms()).count() as u64;
            let request =
                GetRoomInfoRequest { room_id: room_id.clone(), card_only: true, ..Default::default() };
            let known = match controller.get_room_info(request).await {
                Ok(info) => (info.member_count, info.online_count),
                Err(error) => {
                    defects.push(defect(Kind::Seats, part, format!("{room_id}: {error}")));
                    continue;
                }
            };
            let recorded = record.get(&room_id).copied().unwrap_or_default();
            if known != (users, users) || recorded != (users, users) {
                let what =
                    format!("{room_id} has {users} users; (members, online) {known:?}, record {recorded:?}");
                defects.push(defect(Kind::Seats, part, what));
            }
        }
    }
    for node in platform.role("connect-node") {
        let places = crowd.places();
        let real = places.iter().flatten().filter(|(name, _)| name == node.name()).count();
        let counted = node.metric("pubsub_node_sessions").await as usize;
        if counted != real {
            defects.push(defect(
                Kind::Seats,
                node,
                format!("pubsub_node_sessions says {counted} instead of {real}"),
            ));
        }
    }
    defects.truncate(TOLD_MAX);
    defects
}

/// A room with the count that it carries and the seats that there are.
fn row(line: &str) -> Option<(String, (u64, u64))> {
    let mut fields = line.split('\t');
    Some((fields.next()?.to_owned(), (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?)))
}

/// Whether every target of every push is accounted for.
pub async fn ledger(platform: &Platform, since: Duration) -> Vec<Defect> {
    let mut defects = Vec::new();
    for part in platform.parts() {
        let unaccounted = part.metric("pubsub_push_unaccounted").await;
        if unaccounted != 0.0 {
            defects.push(defect(Kind::Ledger, part, format!("pubsub_push_unaccounted is {unaccounted}")));
        }
    }
    for part in platform.role("push-manager") {
        let pusher = Pusher::new([part.grpc_direct().to_string()]).expect("host:port");
        let reply = match pusher.audit(since.max(Duration::from_secs(60))).await {
            Ok(reply) => reply,
            Err(error) => {
                defects.push(defect(Kind::Ledger, part, format!("no audit: {error}")));
                continue;
            }
        };
        for found in &reply.imbalances {
            let what = format!(
                "{} and {}: {} targets: {}",
                found.node_id, found.manager_id, found.targets, found.reason
            );
            defects.push(defect(Kind::Ledger, part, what));
        }
        for silent in &reply.unanswered {
            defects.push(defect(
                Kind::Ledger,
                part,
                format!("{} does not answer: {}", silent.id, silent.reason),
            ));
        }
        if reply.pending > 0 || reply.unsettled > 0 {
            let what = format!("{} targets pending, {} entries unsettled", reply.pending, reply.unsettled);
            defects.push(defect(Kind::Ledger, part, what));
        }
    }
    defects.truncate(TOLD_MAX);
    defects
}

/// As [`ledger`], with the time that the last outcomes need.
pub async fn ledger_at_last(platform: &Platform, since: Duration) -> Vec<Defect> {
    within(SETTLED_WITHIN, || ledger(platform, since)).await.0
}

/// What every part holds, by name.
pub fn resources(platform: &Platform) -> BTreeMap<String, Resources> {
    platform.parts().iter().map(|part| (part.name().to_owned(), part.resources())).collect()
}

/// Whether everything that the crowd took is given back.
pub async fn baseline(platform: &Platform, before: &BTreeMap<String, Resources>) -> Vec<Defect> {
    within(BACK_WITHIN, || leaks(platform, before)).await.0
}

async fn leaks(platform: &Platform, before: &BTreeMap<String, Resources>) -> Vec<Defect> {
    let mut defects = Vec::new();
    for part in platform.parts() {
        let (old, now) = (before.get(part.name()).copied().unwrap_or_default(), part.resources());
        if now.files > old.files + FILES_SLACK || now.threads > old.threads + THREADS_SLACK {
            defects.push(defect(Kind::Leak, part, format!("{now:?} instead of {old:?}")));
        }
        let gauges: &[&str] = match part.role() {
            "connect-node" => &["pubsub_node_sessions", "pubsub_node_queued_bytes", "pubsub_node_users"],
            "push-manager" => &["pubsub_push_lane_queue_messages", "pubsub_push_lane_queue_bytes"],
            _ => &["pubsub_controller_sessions", "pubsub_controller_joins_waiting"],
        };
        for gauge in gauges {
            let value = part.metric(gauge).await;
            if value != 0.0 {
                defects.push(defect(Kind::Leak, part, format!("{gauge} is {value}")));
            }
        }
    }
    defects
}

fn client(part: &Part) -> Controller {
    Controller::new([part.grpc_direct().to_string()]).expect("host:port").deadline(ANSWER_WITHIN)
}

fn defect(kind: Kind, part: &Part, what: String) -> Defect {
    Defect::new(kind, format!("{}: {what}", part.name()))
}
