//! Lanes over gRPC: resending after a break, snapshots, order, kicks.

use roomcast_proto::pubsub::{
    AllTarget, Content, Deliver, KickRequest, LaneDown, RoomCard,
    connect_node_service_client::ConnectNodeServiceClient, deliver::Target, down_item::Item,
    kick_request::Reason, room_card,
};
use tokio_util::sync::CancellationToken;

use super::{
    bench::{Bench, room},
    controller::willing,
    manager::{FakeManager, number},
};
use crate::{
    ports::{CloseCode, LeftReason, ToShard},
    report::controllers,
    rpc,
    tally::{Counts, Hops, TargetOutcome},
    wire::Encoding,
};

/// Serves the hub's gRPC; the address.
async fn serve(bench: &mut Bench) -> String {
    let bound = roomcast_runtime::bind([127, 0, 0, 1].into(), 0, "test", "test").await.unwrap();
    let address = bound.address.to_string();
    let router = rpc::router(bench.hub.clone());
    bench.spawn(roomcast_runtime::serve(bound, router, CancellationToken::new()));
    address
}

fn push(target: Target) -> Deliver {
    let content = Some(Content { data: "Hello".into(), ..Content::default() });
    Deliver { message_id: "m".into(), target: Some(target), content, ..Deliver::default() }
}

fn all() -> Deliver {
    push(Target::All(AllTarget {}))
}

fn written(count: usize) -> Counts {
    let mut counts = Counts::default();
    (0..count).for_each(|_| counts.add(TargetOutcome::Written));
    counts
}

async fn delivery(bench: &mut Bench, shard: u16) -> crate::ports::Delivery {
    match bench.next(shard).await {
        ToShard::Deliver(delivery) => delivery,
        other => panic!("a delivery expected, not {other:?}"),
    }
}

#[tokio::test]
async fn outcomes_of_all_shards_are_summed_and_acknowledged() {
    let mut bench = Bench::new(2);
    let address = serve(&mut bench).await;
    let mut manager = FakeManager::new("m");
    assert!(manager.link(&address, true).await.fresh);
    manager.deliver(1, all()).await;
    for (shard, count) in [(0, 2), (1, 3)] {
        let delivery = delivery(&mut bench, shard).await;
        assert!(String::from_utf8_lossy(&delivery.frame.bytes(Encoding::Json)).contains("Hello"));
        delivery.tally.report(written(count), Hops::default());
    }
    manager.until("the outcome", |learned| learned.outcomes.len() == 1).await;
    let outcome = manager.learned.lock().unwrap().outcomes[0].clone();
    assert_eq!((number(&outcome), outcome.targets, outcome.written), (1, 5, 5));
    manager.until("the acknowledgement", |learned| learned.down_ack == 1).await;
    manager.deliver(2, push(Target::RoomId("nowhere".into()))).await;
    manager.until("an outcome without targets", |learned| learned.outcomes.len() == 2).await;
}

#[tokio::test]
async fn after_a_break_what_was_unseen_comes_again_and_nothing_twice() {
    let mut bench = Bench::new(1);
    let address = serve(&mut bench).await;
    let mut manager = FakeManager::new("m");
    manager.link(&address, true).await;
    manager.deliver(1, all()).await;
    manager.deliver(2, all()).await;
    let (first, second) = (delivery(&mut bench, 0).await, delivery(&mut bench, 0).await);
    manager.until("both taken", |learned| learned.down_ack == 2).await;
    first.tally.report(written(1), Hops::default());
    manager.until("the first outcome", |learned| learned.outcomes.len() == 1).await;
    manager.cut();
    second.tally.report(written(2), Hops::default());
    let reply = manager.link(&address, true).await;
    assert_eq!((reply.fresh, reply.down_seen), (false, 2));
    // Sent again by a peer that did not learn that they were taken.
    manager.deliver(2, all()).await;
    manager.deliver(3, all()).await;
    delivery(&mut bench, 0).await.tally.report(written(3), Hops::default());
    manager.until("all outcomes", |learned| learned.outcomes.len() == 3).await;
    let numbers: Vec<_> = manager.learned.lock().unwrap().outcomes.iter().map(number).collect();
    assert_eq!(numbers, [1, 2, 3]);
    assert!(bench.is_quiet(0), "the repeat was not handed on");
}

#[tokio::test]
async fn a_reconnect_brings_a_snapshot_of_what_is_here_now() {
    let mut bench = Bench::new(1);
    bench.control(willing);
    let address = serve(&mut bench).await;
    let mut manager = FakeManager::new("m");
    manager.link(&address, true).await;
    let (ann, _) = bench.welcomed(0, "ann").await;
    bench.joined(ann, &room("lobby")).await;
    manager.cut();
    // Until the trust of the cut lane ran out, the session waits.
    let (bob, _) = bench.welcomed(0, "bob").await;
    bench.joined(bob, &room("attic")).await;
    use crate::ports::Hub;
    bench.shards().closed(ann);
    manager.link(&address, true).await;
    manager.catch_up().await;
    let learned = manager.learned.lock().unwrap();
    assert_eq!(learned.users.keys().collect::<Vec<_>>(), ["bob"]);
    assert_eq!(learned.rooms.keys().collect::<Vec<_>>(), ["attic", "lobby"], "the lobby lingers");
}

#[tokio::test]
async fn the_welcome_comes_after_the_push_manager_knows_the_user() {
    let mut bench = Bench::new(1);
    bench.control(willing);
    let address = serve(&mut bench).await;
    let mut manager = FakeManager::new("m");
    manager.link(&address, true).await;
    for index in 0..50 {
        let name = format!("user-{index}");
        bench.welcomed(0, &name).await;
        assert!(manager.learned.lock().unwrap().users.contains_key(&name), "{name}");
    }
}

#[tokio::test]
async fn a_newer_stream_of_a_push_manager_replaces_the_older() {
    let mut bench = Bench::new(1);
    let address = serve(&mut bench).await;
    let mut older = FakeManager::new("m");
    older.link(&address, true).await;
    let mut newer = FakeManager::new("m");
    newer.incarnation = older.incarnation;
    newer.link(&address, true).await;
    assert_eq!(bench.hub.state().lanes.len(), 1);
    newer.catch_up().await;
    super::until("the end of the older stream", || older.is_ended()).await;
}

#[tokio::test]
async fn a_deleted_room_and_a_kick_come_to_the_shards() {
    let mut bench = Bench::new(1);
    bench.control(willing);
    let address = serve(&mut bench).await;
    let mut manager = FakeManager::new("m");
    manager.link(&address, true).await;
    let (ann, ann_id) = bench.welcomed(0, "ann").await;
    bench.joined(ann, &room("lobby")).await;
    bench.joined(ann, &room("attic")).await;
    let mut client = ConnectNodeServiceClient::new(controllers::connect(&address).await.unwrap());
    let mut kick = KickRequest { user_id: "ann".into(), room_id: "attic".into(), ..KickRequest::default() };
    kick.set_reason(Reason::Evicted);
    assert_eq!(client.kick(kick).await.unwrap().into_inner().sessions, 1);
    assert!(matches!(bench.next(0).await, ToShard::Left { reason: LeftReason::Evicted, .. }));

    let mut card = RoomCard { room_id: "lobby".into(), version: 9, ..RoomCard::default() };
    card.set_state(room_card::State::Deleted);
    let items = vec![roomcast_proto::pubsub::DownItem { item: Some(Item::RoomChanged(card)) }];
    manager.send(LaneDown { first_number: 1, items, ..LaneDown::default() }).await;
    assert!(matches!(bench.next(0).await, ToShard::RoomDeleted(_)));
    manager.until("the end of the interest", |learned| !learned.rooms.contains_key("lobby")).await;

    let session_ids = vec![ann_id.as_bytes().to_vec(), vec![0; 16]];
    let mut kick = KickRequest { session_ids, ..KickRequest::default() };
    kick.set_reason(Reason::TakenOver);
    assert_eq!(client.kick(kick).await.unwrap().into_inner().sessions, 1, "unknown ones are skipped");
    assert!(matches!(bench.next(0).await, ToShard::Close { code: CloseCode::TakenOver, .. }));
    let refused = client.kick(KickRequest::default()).await.unwrap_err();
    assert!(refused.message().starts_with("BAD_REQUEST: user_id is empty"), "{}", refused.message());
}

#[tokio::test]
async fn a_stream_without_a_hello_or_with_a_gap_is_ended() {
    let mut bench = Bench::new(1);
    let address = serve(&mut bench).await;
    let mut client = ConnectNodeServiceClient::new(controllers::connect(&address).await.unwrap());
    let stream = tokio_stream::iter([LaneDown::default()]);
    let refused = client.lane(stream).await.unwrap_err();
    assert!(refused.message().contains("hello is missing"), "{}", refused.message());
    let mut manager = FakeManager::new("m");
    manager.link(&address, true).await;
    manager.deliver(5, all()).await;
    super::until("the end of the lane", || !bench.hub.state().lanes[0].is_in_sync()).await;
    assert!(bench.is_quiet(0));
}
