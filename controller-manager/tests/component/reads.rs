//! How far members of DURABLE rooms have read: reported by nodes, kept by the record, told to who joins.

use roomcast_proto::pubsub::{
    CreateRoomRequest, GetRoomInfoRequest, ReadMark,
    room_card::{Log, Membership},
};
use roomcast_types::{Epoch, Position};

use super::{
    node::FakeNode,
    world::{World, eventually},
};

async fn create(world: &World, room: &str, membership: Membership, log: Log) {
    let request = CreateRoomRequest {
        room_id: room.into(),
        membership: membership.into(),
        log: Some(log.into()),
        ..Default::default()
    };
    world.client().await.create_room(request).await.unwrap();
}

/// What GetRoomInfo shows of the first member.
async fn shown(world: &World, room: &str) -> (String, u64) {
    let request = GetRoomInfoRequest { room_id: room.into(), ..Default::default() };
    let info = world.client().await.get_room_info(request).await.unwrap().into_inner();
    let member = info.members.into_iter().next().unwrap();
    (member.read_epoch, member.read_offset)
}

fn mark(room: &str, position: Position) -> ReadMark {
    ReadMark {
        room_id: room.into(),
        user_id: "ann".into(),
        epoch: position.epoch.as_u64(),
        offset: position.offset,
    }
}

#[tokio::test]
async fn what_a_member_has_read_is_shown_and_told_when_it_comes_back_by_another_controller() {
    let mut world = World::new(&[]).await;
    let second = world.add_controller(&[]).await;
    create(&world, "r", Membership::Durable, Log::DurableLog).await;
    let node = FakeNode::start(&world, 0, "node").await;
    let (ann, _) = node.open("ann", "c", 1).await;
    let joined = node.join(ann, "r").await.unwrap();
    assert_eq!((joined.read_epoch, joined.read_offset), (0, 0));
    let position = Position { epoch: Epoch::random(), offset: 7 };
    node.read(vec![mark("r", position)]).await;
    eventually("it is shown", || async { shown(&world, "r").await == (position.epoch.to_string(), 7) }).await;
    node.read(vec![
        mark("r", Position { offset: 9, ..position }),
        mark("r", Position { offset: 8, ..position }),
    ])
    .await;
    eventually("it moved up", || async { shown(&world, "r").await.1 == 9 }).await;

    let other = FakeNode::start(&world, second, "other").await;
    let (again, _) = other.open("ann", "c", 2).await;
    let joined = other.join(again, "r").await.unwrap();
    assert_eq!((joined.read_epoch, joined.read_offset), (position.epoch.as_u64(), 9));
}

#[tokio::test]
async fn a_join_elsewhere_asks_the_record_for_nothing() {
    let world = World::new(&[]).await;
    let position = Position { epoch: Epoch::random(), offset: 7 };
    let node = FakeNode::start(&world, 0, "node").await;
    for (room, membership, log) in
        [("follow", Membership::Follow, Log::DurableLog), ("no log", Membership::Durable, Log::None)]
    {
        create(&world, room, membership, log).await;
        let (ann, _) = node.open("ann", room.split(' ').next().unwrap(), 1).await;
        node.join(ann, room).await.unwrap();
        node.read(vec![mark(room, position)]).await;
        eventually("it is kept", || async { shown(&world, room).await.1 == 7 }).await;
        let joined = node.join(ann, room).await.unwrap();
        assert_eq!((joined.read_epoch, joined.read_offset), (0, 0));
    }
}
