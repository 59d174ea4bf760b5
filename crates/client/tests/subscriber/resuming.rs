//! Coming back: from where one stood, with everything that was missed, or with a word about what is missing.

use roomcast_client::{
    Event, Subscriber,
    subscriber::{Continuity, GapCause, Position},
};
use serde_json::json;

use super::node::{Node, at, next, next_push, start};

fn position(offset: u64) -> Option<Position> {
    Some(Position { epoch: "e".into(), offset })
}

#[tokio::test]
async fn what_was_missed_follows_and_nothing_comes_twice() {
    let node = Node::new("a").await;
    let mut subscriber = start(&node);
    let mut peer = node.welcome_with(at(5)).await;
    assert!(!peer.uri.contains("since"), "{}", peer.uri);
    assert_eq!(peer.grant_with(at(40)).await.get("since"), None);
    let Event::Welcome(welcome) = next(&mut subscriber).await else { panic!() };
    assert_eq!((welcome.continuity, welcome.position), (Continuity::First, position(5)));
    let Event::Joined(joined) = next(&mut subscriber).await else { panic!() };
    assert_eq!((joined.continuity, joined.position), (Continuity::First, position(40)));
    peer.push_logged([41, 42]).await;
    let own = json!({"target": "user", "room_id": null, "epoch": "e", "offset": 6});
    peer.push_with("own", own.clone()).await;
    for expected in ["m41", "m42", "own"] {
        assert_eq!(next_push(&mut subscriber).await, expected);
    }
    peer.close(1006 - 5).await;
    assert!(matches!(next(&mut subscriber).await, Event::Disconnected { .. }));

    let mut peer = node.welcome_with(json!({"epoch": "e", "offset": 6, "recovered": true})).await;
    assert!(peer.uri.contains("&since=e%3A6"), "{}", peer.uri);
    let join = peer.grant_with(json!({"epoch": "e", "offset": 42, "recovered": true})).await;
    assert_eq!(join["since"], at(42));
    peer.push_logged([42, 43, 45]).await;
    peer.push_with("own", own).await;
    peer.push_with("m46", json!({})).await;
    peer.push_logged([46, 47]).await;
    let Event::Reconnected(welcome) = next(&mut subscriber).await else { panic!() };
    assert_eq!(welcome.continuity, Continuity::Recovered);
    let Event::Joined(joined) = next(&mut subscriber).await else { panic!() };
    assert_eq!(joined.continuity, Continuity::Recovered);
    for expected in ["m43", "m45", "m46", "m47"] {
        assert_eq!(next_push(&mut subscriber).await, expected);
    }
}

#[tokio::test]
async fn what_does_not_come_back_is_told_in_its_place() {
    let node = Node::new("a").await;
    let mut subscriber = start(&node);
    let mut peer = node.welcome_with(at(5)).await;
    peer.grant_with(at(40)).await;
    peer.push_logged([41]).await;
    peer.say(json!({"type": "gap", "room_id": "r", "epoch": "e", "offset": 44})).await;
    peer.push_logged([45]).await;
    assert!(matches!(next(&mut subscriber).await, Event::Welcome(_)));
    assert!(matches!(next(&mut subscriber).await, Event::Joined(_)));
    assert_eq!(next_push(&mut subscriber).await, "m41");
    let gap = |cause, from, to| Event::Gap { room_id: Some("r".into()), cause, from, to };
    assert_eq!(next(&mut subscriber).await, gap(GapCause::Told, position(41), position(44)));
    assert_eq!(next_push(&mut subscriber).await, "m45");
    peer.close(4002).await;
    assert!(matches!(next(&mut subscriber).await, Event::Disconnected { .. }));

    let mut peer = node.welcome_with(json!({"epoch": "f", "offset": 1, "recovered": false})).await;
    peer.grant_with(json!({"epoch": "e", "offset": 90, "recovered": false})).await;
    peer.push_logged([91]).await;
    assert!(matches!(next(&mut subscriber).await, Event::Reconnected(_)));
    let to = Some(Position { epoch: "f".into(), offset: 1 });
    let own = Event::Gap { room_id: None, cause: GapCause::NotRecovered, from: position(5), to };
    assert_eq!(next(&mut subscriber).await, own);
    let Event::Joined(joined) = next(&mut subscriber).await else { panic!() };
    assert_eq!(joined.continuity, Continuity::Lost);
    assert_eq!(next(&mut subscriber).await, gap(GapCause::NotRecovered, position(45), position(90)));
    assert_eq!(next_push(&mut subscriber).await, "m91");
}

#[tokio::test]
async fn a_later_life_of_the_application_goes_on_where_the_earlier_one_stood() {
    let node = Node::new("a").await;
    let own = Position { epoch: "e".into(), offset: 7 };
    let room = Position { epoch: "e".into(), offset: 41 };
    let builder = Subscriber::builder(node.url()).user_id("u").since(own).room_since("r", room);
    let mut subscriber = builder.start().unwrap();
    let mut peer = node.welcome_with(json!({"epoch": "e", "offset": 7, "recovered": true})).await;
    assert!(peer.uri.contains("&since=e%3A7"), "{}", peer.uri);
    let join = peer.grant_with(json!({"epoch": "e", "offset": 41, "recovered": true})).await;
    assert_eq!(join["since"], at(41));
    let Event::Welcome(welcome) = next(&mut subscriber).await else { panic!() };
    assert_eq!(welcome.continuity, Continuity::Recovered);
    let Event::Joined(joined) = next(&mut subscriber).await else { panic!() };
    assert_eq!(joined.continuity, Continuity::Recovered);
    peer.push_logged([42]).await;
    assert_eq!(next_push(&mut subscriber).await, "m42");
}
