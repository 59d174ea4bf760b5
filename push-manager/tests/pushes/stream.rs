//! Many pushes over one call: each is answered, those to one target keep their order, and none is left behind at the end.

use roomcast_proto::pubsub::{
    Outcome, PushOptions, PushReply, PushStreamReply, PushStreamRequest, PushToRoomRequest,
    PushToUserRequest, Refusal, push_options::Wait, push_stream_reply::Result as Answer,
    push_stream_request::Push,
};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use crate::{
    node::{DEADLINE, FakeNode},
    stage::{Stage, content},
};

/// A stream, and what its pushes are numbered with.
struct Stream {
    requests: mpsc::Sender<PushStreamRequest>,
    replies: Streaming<PushStreamReply>,
}

impl Stream {
    async fn open(stage: &Stage) -> Self {
        let (requests, stream) = mpsc::channel(16);
        let replies = stage.client.clone().push_stream(ReceiverStream::new(stream)).await.unwrap();
        Self { requests, replies: replies.into_inner() }
    }

    async fn ask(&self, request: u64, push: Option<Push>) {
        self.requests.send(PushStreamRequest { request, push }).await.unwrap();
    }

    async fn answer(&mut self) -> Result<Option<PushStreamReply>, Status> {
        timeout(DEADLINE, self.replies.message()).await.unwrap()
    }

    async fn accepted(&mut self) -> (u64, PushReply) {
        match self.answer().await.unwrap().unwrap() {
            PushStreamReply { request, result: Some(Answer::Reply(reply)) } => (request, reply),
            other => panic!("{other:?}"),
        }
    }

    async fn refused(&mut self) -> (u64, Refusal) {
        match self.answer().await.unwrap().unwrap() {
            PushStreamReply { request, result: Some(Answer::Error(refusal)) } => (request, refusal),
            other => panic!("{other:?}"),
        }
    }
}

fn to_room(room_id: &str, text: &str, options: Option<PushOptions>) -> Option<Push> {
    Some(Push::ToRoom(PushToRoomRequest { room_id: room_id.into(), content: content(text), options }))
}

fn to_user(user_id: &str, text: &str) -> Option<Push> {
    Some(Push::ToUser(PushToUserRequest { user_id: user_id.into(), content: content(text), options: None }))
}

#[tokio::test]
async fn each_push_has_an_answer_of_its_own_and_a_refusal_ends_nothing() {
    let node = FakeNode::start("one").await;
    let stage = Stage::with(&[&node]).await;
    node.room("blue", 2).await;
    let mut stream = Stream::open(&stage).await;
    stream.ask(7, to_room("blue", "a", None)).await;
    let (request, reply) = stream.accepted().await;
    let receipt = reply.receipt.unwrap();
    assert_eq!((request, receipt.complete, receipt.outcomes["WRITTEN"]), (7, true, 2));
    assert!(reply.logged);
    stream.ask(8, to_room("", "b", None)).await;
    let (request, refusal) = stream.refused().await;
    assert_eq!((request, refusal.code.as_str()), (8, "BAD_REQUEST"));
    assert_eq!(refusal.message, "room_id is empty; it takes 1 to 128 bytes");
    stream.ask(9, None).await;
    let (request, refusal) = stream.refused().await;
    assert_eq!(request, 9);
    assert_eq!(refusal.message, "push is missing; it takes to_room, to_user, to_users or broadcast");
    stream.ask(10, to_room("nowhere", "c", None)).await;
    assert_eq!(stream.refused().await.1.code, "NOT_FOUND");
    stream.ask(11, to_user("ann", "d")).await;
    assert_eq!(stream.accepted().await.1.receipt.unwrap().outcomes["OFFLINE"], 1);
    drop(stream.requests);
    assert!(
        timeout(DEADLINE, stream.replies.message()).await.unwrap().unwrap().is_none(),
        "it ends in order"
    );
}

#[tokio::test]
async fn a_push_that_waits_holds_up_no_other_and_the_order_of_a_room_is_kept() {
    let node = FakeNode::start("one").await;
    let stage = Stage::with(&[&node]).await;
    node.room("blue", 1).await;
    node.room("red", 1).await;
    let mut stream = Stream::open(&stage).await;
    let acked = PushOptions { wait: Wait::Acked.into(), wait_ms: Some(30_000), ..PushOptions::default() };
    stream.ask(1, to_room("red", "waits for an acknowledgement", Some(acked))).await;
    let (count, mut answered) = (300_u64, Vec::new());
    let texts: Vec<String> = (0..count).map(|number| number.to_string()).collect();
    for (request, text) in (2..).zip(&texts) {
        stream.ask(request, to_room("blue", text, None)).await;
    }
    for _ in 0..count {
        let (request, reply) = stream.accepted().await;
        answered.push((reply.offset, request));
    }
    answered.sort_unstable();
    let requests: Vec<u64> = answered.iter().map(|(_, request)| *request).collect();
    assert_eq!(requests, (2..count + 2).collect::<Vec<_>>(), "offsets follow the stream, and 1 still waits");
    let delivered = node.delivered();
    let blue: Vec<&String> = delivered.iter().filter(|text| text.parse::<u64>().is_ok()).collect();
    assert_eq!(blue, texts.iter().collect::<Vec<_>>());
}

#[tokio::test]
async fn at_the_end_of_the_push_manager_what_was_taken_is_answered() {
    let node = FakeNode::start("one").await;
    let stage = Stage::configured(&[&node], &["push_manager.drain.settle_wait=0ms"]).await;
    node.room("blue", 1).await;
    let mut stream = Stream::open(&stage).await;
    let acked = PushOptions { wait: Wait::Acked.into(), wait_ms: Some(30_000), ..PushOptions::default() };
    stream.ask(1, to_room("blue", "x", Some(acked))).await;
    node.until_delivered(&["x"]).await;
    let draining = tokio::spawn(stage.running.drain());
    let (request, reply) = stream.accepted().await;
    assert_eq!((request, reply.receipt.unwrap().complete), (1, false), "nobody acknowledged it");
    let end = stream.answer().await.unwrap_err();
    assert_eq!(end.code(), Code::Unavailable, "{end}");
    assert_eq!(timeout(DEADLINE, draining).await.unwrap().unwrap().unanswered, 0);
}

#[tokio::test]
async fn who_hangs_up_has_what_was_taken_carried_out() {
    let node = FakeNode::start("one").await;
    let stage = Stage::with(&[&node]).await;
    stage.controller.add_room("blue");
    node.room("blue", 1).await;
    let stream = Stream::open(&stage).await;
    let acked = PushOptions { wait: Wait::Acked.into(), wait_ms: Some(30_000), ..PushOptions::default() };
    stream.ask(1, to_room("blue", "x", Some(acked))).await;
    node.until_delivered(&["x"]).await;
    drop(stream);
    node.tell(&node.last().message_id, Outcome { targets: 1, acked: 1, ..Outcome::default() });
    stage.until_metric("pubsub_push_requests_total{target=\"room\",code=\"OK\"}", |count| count == 1.0).await;
}
