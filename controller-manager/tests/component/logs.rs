//! Logs go with their room and with their policy, also when their store was away.

use std::time::Duration;

use roomcast_proto::pubsub::{
    CreateRoomRequest, DeleteRoomRequest, GetRoomInfoRequest, RoomCard, UpdateRoomRequest,
    room_card::{Log as LogPolicy, OnLogFailure},
};
use roomcast_store::{
    Log, MemoryLog,
    log::{ANY_AGE, Append, Appended, LogKey, Page, Part, Read, Retention},
};
use roomcast_types::{Incarnation, MessageId, Position, RoomId};

use super::world::{World, eventually};

fn key() -> LogKey {
    LogKey::Room(RoomId::new("r").unwrap())
}

async fn append(log: &MemoryLog) -> Position {
    let message_id = MessageId::new(1, Incarnation::random(), 1);
    let append = Append { key: key(), message_id, payload: Some(Vec::new().into()), idempotency: None };
    let age = Duration::from_secs(600);
    let retention = Retention { messages: 10, bytes: 1_000, age, idempotency: age };
    match log.append(&append, &retention).await.unwrap() {
        Appended::New(Some(position)) => position,
        other => panic!("{other:?}"),
    }
}

async fn read(log: &MemoryLog) -> Page {
    let part = Part::After { offset: 0, up_to: u64::MAX };
    log.read(&[Read { key: key(), part, limit: 10, bytes_max: 1_000, age: ANY_AGE }]).await.unwrap().remove(0)
}

async fn is_gone(log: &MemoryLog) -> bool {
    read(log).await.position.is_none()
}

async fn create(world: &World, log: LogPolicy) -> RoomCard {
    let request = CreateRoomRequest { room_id: "r".into(), log: Some(log.into()), ..Default::default() };
    world.client().await.create_room(request).await.unwrap().into_inner()
}

async fn update(world: &World, log: LogPolicy) -> RoomCard {
    let request = UpdateRoomRequest { room_id: "r".into(), log: Some(log.into()), ..Default::default() };
    world.client().await.update_room(request).await.unwrap().into_inner()
}

async fn delete(world: &World) {
    let request = DeleteRoomRequest { room_id: "r".into() };
    world.client().await.delete_room(request).await.unwrap();
}

#[tokio::test]
async fn a_room_has_the_policy_it_was_given_and_changes_it() {
    let world = World::new(&[]).await;
    let mut client = world.client().await;
    let request = CreateRoomRequest {
        room_id: "r".into(),
        log: Some(LogPolicy::DurableLog.into()),
        on_log_failure: OnLogFailure::Refuse.into(),
        ..Default::default()
    };
    let card = client.create_room(request).await.unwrap().into_inner();
    assert_eq!((card.log(), card.on_log_failure()), (LogPolicy::DurableLog, OnLogFailure::Refuse));
    let info = GetRoomInfoRequest { room_id: "r".into(), ..Default::default() };
    let shown = client.get_room_info(info).await.unwrap().into_inner().card.unwrap();
    assert_eq!(shown, card);
    let changed = update(&world, LogPolicy::None).await;
    assert_eq!((changed.log(), changed.on_log_failure()), (LogPolicy::None, OnLogFailure::Refuse));
    assert_eq!(changed.version, card.version + 1);
    let other = CreateRoomRequest { room_id: "by default".into(), ..Default::default() };
    let card = client.create_room(other).await.unwrap().into_inner();
    assert_eq!((card.log(), card.on_log_failure()), (LogPolicy::Recent, OnLogFailure::Degrade));
}

#[tokio::test]
async fn a_deleted_room_takes_its_log_with_it() {
    let world = World::new(&[]).await;
    for (policy, log) in [(LogPolicy::Recent, &world.recent_log), (LogPolicy::DurableLog, &world.durable_log)]
    {
        create(&world, policy).await;
        let before = append(log).await;
        delete(&world).await;
        assert!(is_gone(log).await);
        create(&world, policy).await;
        assert_ne!(append(log).await.epoch, before.epoch);
        delete(&world).await;
    }
}

#[tokio::test]
async fn a_changed_policy_removes_the_old_log_and_no_other() {
    let world = World::new(&[]).await;
    create(&world, LogPolicy::Recent).await;
    let kept = append(&world.recent_log).await;
    update(&world, LogPolicy::Recent).await;
    assert_eq!(read(&world.recent_log).await.position, Some(kept));
    update(&world, LogPolicy::DurableLog).await;
    assert!(is_gone(&world.recent_log).await);
    append(&world.durable_log).await;
    update(&world, LogPolicy::None).await;
    assert!(is_gone(&world.durable_log).await);
}

#[tokio::test]
async fn a_room_that_stayed_empty_takes_its_log_with_it() {
    let world = World::new(&["room.empty_ttl=1s"]).await;
    append(&world.recent_log).await;
    let request = roomcast_proto::pubsub::JoinRoomRequest {
        room_id: "r".into(),
        user_id: "ann".into(),
        ..Default::default()
    };
    let mut client = world.client().await;
    client.join_room(request).await.unwrap();
    let request = roomcast_proto::pubsub::LeaveRoomRequest { room_id: "r".into(), user_id: "ann".into() };
    client.leave_room(request).await.unwrap();
    eventually("the log is gone", || is_gone(&world.recent_log)).await;
}

#[tokio::test]
async fn a_log_whose_store_is_away_goes_when_it_is_back() {
    let world = World::new(&[]).await;
    create(&world, LogPolicy::DurableLog).await;
    append(&world.durable_log).await;
    world.durable_log.set_available(false);
    delete(&world).await;
    world.durable_log.set_available(true);
    eventually("the log is gone", || is_gone(&world.durable_log)).await;
}
