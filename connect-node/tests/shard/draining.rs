//! Sessions that are sent away: what they hear, what they still get, and how they are counted.

use std::{sync::Arc, time::Duration};

use connect_node::{
    Departures, Drained,
    ports::{CloseCode, SessionKey, ToShard},
};
use roomcast_types::Class;
use serde_json::json;
use tokio_tungstenite::tungstenite::Message as Frame;

use crate::{
    fixture::{Client, DEADLINE, Node, counts, until},
    message::{Message, Pushed},
};

const AFTER: Duration = Duration::from_millis(250);

struct Stage {
    node: Node,
    departures: Arc<Departures>,
}

impl Stage {
    /// A node that gives what waits for a reader this long.
    async fn new(flush_wait: Duration) -> Self {
        Self::with(flush_wait, 512).await
    }

    /// The same with room for so many frames in front of a reader.
    async fn with(flush_wait: Duration, queue_frames: usize) -> Self {
        let departures = Arc::new(Departures::default());
        let shared = departures.clone();
        let node = Node::with(move |setup| {
            setup.config.flush_wait = flush_wait;
            setup.config.departures = shared;
            setup.config.queue_frames = queue_frames;
        })
        .await;
        Self { node, departures }
    }

    async fn key(&self, user: &str) -> SessionKey {
        self.node.hub.session(user).await.key
    }

    async fn tell(&self, session: SessionKey) {
        self.node.send(0, ToShard::Notice { session, reconnect_after: AFTER }).await;
    }

    async fn stop(&self, flush_wait: Duration) {
        self.node.send(0, ToShard::Stop { flush_wait }).await;
    }

    /// The sums, without the time.
    fn sums(&self) -> (usize, usize, usize, usize) {
        let Drained { sessions, moved, closed, lost, .. } = self.departures.sum();
        (sessions, moved, closed, lost)
    }

    /// A member of room r that was told to go before its socket took no more, with so many messages waiting.
    async fn lagging(&self, user: &str) -> (Client, SessionKey, Vec<Pushed>) {
        let client = self.node.narrow_member(&format!("user_id={user}&room_id=r")).await;
        let key = self.key(user).await;
        self.tell(key).await;
        let mut pushed = self.node.fill("r").await;
        for number in 0..2 {
            pushed.push(self.node.push_message(Message::new(Class::Ordered, number.to_string())).await);
        }
        (client, key, pushed)
    }
}

/// Everything that was pushed came, behind the notice.
fn is_whole(frames: &[serde_json::Value], pushed: &[Pushed]) {
    assert_eq!(frames[0]["type"], "notice");
    assert_eq!(frames.len(), 1 + pushed.len());
    assert_eq!(frames[frames.len() - 1]["content"]["data"], "1");
}

#[tokio::test]
async fn a_session_that_is_told_goes_on_until_it_goes() {
    let stage = Stage::new(DEADLINE).await;
    let mut client = stage.node.member("user_id=u&room_id=r").await;
    let key = stage.key("u").await;
    stage.tell(key).await;
    let notice = json!({"type": "notice", "reason": "DRAINING", "reconnect_after_ms": 250});
    assert_eq!(client.json().await, notice);
    assert_eq!(counts(stage.node.push("r", "still").await).await.written, 1);
    assert_eq!(client.pushed().await, "still");
    assert_eq!((stage.departures.told_until_now(), stage.sums()), (1, (0, 0, 0, 0)));
    client.send_raw(Frame::Close(None)).await;
    stage.node.hub.until_closed(key).await;
    assert_eq!(stage.sums(), (1, 1, 0, 0));
}

#[tokio::test]
async fn a_session_that_goes_before_it_is_told_is_not_counted() {
    let stage = Stage::new(DEADLINE).await;
    let _client = stage.node.member("user_id=u").await;
    let key = stage.key("u").await;
    stage.node.close(key, CloseCode::Kicked).await;
    stage.tell(key).await;
    stage.node.hub.until_closed(key).await;
    assert_eq!((stage.departures.told_until_now(), stage.sums()), (0, (0, 0, 0, 0)));
}

#[tokio::test]
async fn what_waits_for_a_session_that_is_taken_over_is_written_first() {
    let stage = Stage::new(DEADLINE).await;
    let (mut client, key, pushed) = stage.lagging("u").await;
    stage.node.close(key, CloseCode::TakenOver).await;
    stage.node.hub.until_closed(key).await;
    assert_eq!(stage.sums(), (1, 1, 0, 0), "it moved");
    let (frames, code) = client.until_close().await;
    assert_eq!(code, 4500);
    is_whole(&frames, &pushed);
    assert_eq!(stage.sums(), (1, 1, 0, 0));
}

#[tokio::test]
async fn whoever_stays_is_closed_behind_what_waits_for_it() {
    let stage = Stage::new(DEADLINE).await;
    let (mut client, key, pushed) = stage.lagging("u").await;
    let mut untold = stage.node.member("user_id=untold").await;
    stage.stop(DEADLINE).await;
    stage.node.hub.until_closed(key).await;
    assert_eq!(untold.close_code().await, 4001);
    let (frames, code) = client.until_close().await;
    assert_eq!(code, 4001);
    is_whole(&frames, &pushed);
    assert_eq!(stage.sums(), (2, 0, 2, 0));
}

#[tokio::test]
async fn what_a_cut_socket_still_had_to_get_is_counted_as_lost() {
    for is_stop in [false, true] {
        let stage = Stage::new(Duration::ZERO).await;
        let (client, key, mut pushed) = stage.lagging("u").await;
        if is_stop {
            stage.stop(Duration::ZERO).await;
        } else {
            stage.node.close(key, CloseCode::TakenOver).await;
        }
        let mut closed = 0;
        for push in &mut pushed {
            closed += push.settled().await.closed;
        }
        // The fillers that were written before, and the begun one if the kernel took its rest after all.
        assert!(closed >= 2, "{closed}");
        until("the loss is counted", || stage.departures.sum().lost as u64 == closed).await;
        assert_eq!(stage.departures.sum().sessions, 1);
        drop(client);
    }
}

#[tokio::test]
async fn a_client_that_ends_the_connection_itself_loses_nothing_of_ours() {
    let stage = Stage::new(DEADLINE).await;
    let (mut client, key, mut pushed) = stage.lagging("u").await;
    client.send_raw(Frame::Close(None)).await;
    stage.node.hub.until_closed(key).await;
    for push in &mut pushed {
        push.settled().await;
    }
    assert_eq!(stage.sums(), (1, 1, 0, 0));
}

#[tokio::test]
async fn a_reader_without_room_for_the_notice_hears_the_close() {
    let stage = Stage::with(DEADLINE, 8).await;
    let mut client = stage.node.narrow_member("user_id=u&room_id=r").await;
    let key = stage.key("u").await;
    let fillers = stage.node.fill("r").await.len();
    let mut number = 0;
    loop {
        number += 1;
        let latest = Message { key: &number.to_string(), ..Message::new(Class::Latest, "full".to_owned()) };
        if stage.node.push_message(latest).await.walked().await.dropped_slow == 1 {
            break;
        }
    }
    stage.tell(key).await;
    stage.stop(DEADLINE).await;
    let (frames, code) = client.until_close().await;
    assert_eq!(code, 4001, "not slow, whether the kernel made room for the notice or not");
    let is_filler = |frame: &serde_json::Value| frame["content"]["data"].to_string().contains("fill");
    assert_eq!(frames.iter().filter(|frame| is_filler(frame)).count(), fillers);
    assert_eq!(stage.sums(), (1, 0, 1, 0));
}
