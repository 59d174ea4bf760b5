//! Acknowledgements: counted once, from the session that got the message, and nothing else.

use connect_node::tally::Counts;
use roomcast_types::{Class, Epoch, Incarnation, MessageId, Position, RoomId};
use serde_json::json;

use crate::{
    fixture::{Client, Node, until},
    message::{Message, Pushed},
};

fn confirmed(data: &str) -> Message<'_> {
    Message { ack: true, ..Message::new(Class::Ordered, data) }
}

async fn ack(client: &mut Client, ids: &[&str]) {
    client.send(json!({"type": "ack", "message_ids": ids})).await;
}

async fn is_unknown(node: &Node, count: f64) {
    until("the metric", || node.metric("pubsub_node_acks_total", "unknown") == count).await;
}

async fn acked(push: &mut Pushed, count: u64) -> Counts {
    push.until("the acknowledgement", |counts| counts.acked == count).await
}

#[tokio::test]
async fn each_session_confirms_once_and_only_what_it_got() {
    let node = Node::with(|setup| setup.shards = 2).await;
    let mut members = [node.member("user_id=a&room_id=r").await, node.member("user_id=b&room_id=r").await];
    let mut stranger = node.member("user_id=c").await;
    let mut first = node.push_message(confirmed("first")).await;
    let mut plain = node.push_message(Message::new(Class::Ordered, "plain")).await;
    let (id, plain_id) = (first.message_id.to_string(), plain.message_id.to_string());
    for member in &mut members {
        assert_eq!([member.pushed().await, member.pushed().await], ["first", "plain"]);
    }
    ack(&mut members[0], &[&id]).await;
    let counts = acked(&mut first, 1).await;
    assert_eq!((counts.written, counts.targets()), (1, 2));

    // Twice, in one frame and in another; never sent; not to be acknowledged; no id at all; by another session.
    let never = MessageId::new(1, Incarnation::random(), 2).to_string();
    ack(&mut members[0], &[&id, &id, &never, &plain_id, "nonsense"]).await;
    ack(&mut stranger, &[&id]).await;
    is_unknown(&node, 6.0).await;
    assert_eq!(first.walked().await, counts);
    assert_eq!((plain.walked().await.written, plain.walked().await.acked), (2, 0));

    ack(&mut members[1], &[&id]).await;
    let counts = acked(&mut first, 2).await;
    assert_eq!((counts.written, counts.targets(), counts.unaccounted), (0, 2, 0));
    assert_eq!(node.metric("pubsub_node_acks_total", "counted"), 2.0);
    for client in members.iter_mut().chain([&mut stranger]) {
        assert!(client.until_pong().await.is_empty(), "a wrong acknowledgement is no error of the session");
    }
}

#[tokio::test]
async fn a_message_that_waited_is_confirmed_after_it_was_written_and_not_before() {
    let node = Node::start().await;
    let mut client = node.narrow_member("user_id=u&room_id=r").await;
    let fill = node.fill("r").await;
    let mut push = node.push_message(confirmed("waited")).await;
    let id = push.message_id.to_string();
    assert_eq!(push.walked().await.pending, 1);
    ack(&mut client, &[&id]).await;
    is_unknown(&node, 1.0).await;
    assert_eq!((push.walked().await.pending, push.walked().await.acked), (1, 0));
    for _ in &fill {
        assert!(client.pushed().await.starts_with("fill"));
    }
    assert_eq!(client.pushed().await, "waited");
    ack(&mut client, &[&id]).await;
    let counts = acked(&mut push, 1).await;
    assert_eq!((counts.written, counts.pending, counts.targets()), (0, 0, 1));
}

#[tokio::test]
async fn what_a_session_got_stays_written_when_it_ends_without_a_word() {
    let node = Node::start().await;
    let mut client = node.member("user_id=u&room_id=r").await;
    let mut push = node.push_message(confirmed("x")).await;
    assert_eq!(client.pushed().await, "x");
    let key = node.hub.session("u").await.key;
    drop(client);
    node.hub.until_closed(key).await;
    let counts = push.settled().await;
    assert_eq!((counts.written, counts.acked, counts.targets()), (1, 0, 1));
}

#[tokio::test]
async fn the_hub_hears_how_far_a_room_was_read() {
    let node = Node::with(|_| {}).await;
    let mut member = node.member("user_id=a&room_id=r").await;
    let epoch = Epoch::random();
    let mut ids = Vec::new();
    for offset in 1..=3 {
        let place = Some(Position { epoch, offset });
        let pushed = node.push_message(Message { place, ..confirmed("x") }).await;
        ids.push(pushed.message_id.to_string());
        member.pushed().await;
    }
    let unlogged = node.push_message(confirmed("x")).await.message_id.to_string();
    member.pushed().await;
    let told = async |count| {
        let found =
            node.hub.until("what was read", |told| (told.read.len() == count).then(|| told.read.clone()));
        found.await.into_iter().map(|(_, room, position)| (room, position)).collect::<Vec<_>>()
    };
    let (room, at) = (RoomId::new("r").unwrap(), |offset| Position { epoch, offset });
    ack(&mut member, &[&unlogged, &ids[1], &ids[0]]).await;
    assert_eq!(told(1).await, [(room.clone(), at(2))], "the furthest of one frame");
    ack(&mut member, &[&ids[2]]).await;
    assert_eq!(told(2).await, [(room.clone(), at(2)), (room, at(3))]);
}
