//! A whole node in front of a log that does as the test says: order, holes, catching up, inboxes.

use std::sync::{Arc, Mutex};

use futures_util::SinkExt;
use prost::Message as _;
use roomcast_proto::{
    client::{Ack, ClientFrame, Join, Push, Since, client_frame, server_frame::Frame},
    pubsub::{
        AckInboxReply, AckInboxRequest, Content, Deliver, InboxAck, LogAnswer, LogQuery, ReadLogReply,
        ReadLogRequest, UserTargets,
        deliver::Target,
        log_answer::State,
        log_query::Log,
        push_manager_service_server::{PushManagerService, PushManagerServiceServer},
    },
};
use roomcast_types::{Incarnation, MessageId};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::AbortHandle};
use tokio_stream::wrappers::TcpListenerStream;
use tokio_tungstenite::tungstenite::Message;
use tonic::{Request, Response, Status, async_trait};

use super::{
    node::{Client, World, client, frame, proto_client, proto_frame, world_with},
    until,
};

const EPOCH: u64 = 0xe1;

/// One log and one inbox, whoever asks.
#[derive(Default)]
struct Kept {
    is_away: bool,
    /// So many calls are answered without a word on the logs.
    unread: u32,
    /// Inboxes are never answered.
    inbox_hangs: bool,
    /// Messages of the room `lobby`; offsets count from 1.
    room: Vec<Deliver>,
    inbox: Vec<Deliver>,
    acks: Vec<InboxAck>,
}

#[derive(Clone, Default)]
struct FakeLogs(Arc<Mutex<Kept>>);

#[async_trait]
impl PushManagerService for FakeLogs {
    async fn read_log(&self, request: Request<ReadLogRequest>) -> Result<Response<ReadLogReply>, Status> {
        let is_of_inbox = |query: &LogQuery| matches!(query.log, Some(Log::InboxUserId(_)));
        let hangs = self.0.lock().unwrap().inbox_hangs && request.get_ref().queries.iter().any(is_of_inbox);
        if hangs {
            std::future::pending::<()>().await;
        }
        let mut kept = self.0.lock().unwrap();
        if kept.is_away {
            return Err(Status::unavailable("as the test says"));
        }
        if kept.unread > 0 {
            kept.unread -= 1;
            let unread = LogAnswer { state: State::Unavailable.into(), ..LogAnswer::default() };
            let answers = vec![unread; request.get_ref().queries.len()];
            return Ok(Response::new(ReadLogReply { answers }));
        }
        let answers = request.get_ref().queries.iter().map(|query| kept.answer(query)).collect();
        Ok(Response::new(ReadLogReply { answers }))
    }

    async fn ack_inbox(&self, request: Request<AckInboxRequest>) -> Result<Response<AckInboxReply>, Status> {
        self.0.lock().unwrap().acks.extend(request.into_inner().acks);
        Ok(Response::new(AckInboxReply {}))
    }
}

impl Kept {
    fn answer(&self, query: &LogQuery) -> LogAnswer {
        let messages = match &query.log {
            Some(Log::RoomId(_)) => &self.room,
            Some(Log::InboxUserId(_)) => {
                let is_after = |message: &&Deliver| {
                    let id = MessageId::parse(&message.message_id).unwrap().to_bytes().to_vec();
                    id > query.after_message
                };
                let waiting: Vec<_> = self.inbox.iter().filter(is_after).cloned().collect();
                let messages = waiting.iter().take(query.limit as usize).cloned().collect();
                let has_more = waiting.len() > query.limit as usize;
                return LogAnswer { messages, has_more, ..LogAnswer::default() };
            }
            _ => &Vec::new(),
        };
        let offset = messages.len() as u64;
        let mut answer = LogAnswer { epoch: EPOCH, offset, ..LogAnswer::default() };
        if query.epoch == EPOCH {
            let is_asked = |message: &&Deliver| message.offset > query.after && message.offset <= query.up_to;
            answer.messages = messages.iter().filter(is_asked).cloned().collect();
        } else if query.epoch != 0 {
            answer.set_state(State::Lost);
        }
        answer
    }
}

impl FakeLogs {
    async fn start() -> (Self, String, AbortHandle) {
        let logs = Self::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let service = PushManagerServiceServer::new(logs.clone());
        let serving = tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming(TcpListenerStream::new(listener));
        let serving = tokio::spawn(async move { serving.await.unwrap() }).abort_handle();
        (logs, address, serving)
    }

    /// Appends a message to the room's log, as it goes on the lane.
    fn append(&self, data: &str) -> Deliver {
        let mut kept = self.0.lock().unwrap();
        let offset = kept.room.len() as u64 + 1;
        let message = message(offset, Target::RoomId("lobby".into()), data);
        kept.room.push(message.clone());
        message
    }
}

fn message(offset: u64, target: Target, data: &str) -> Deliver {
    Deliver {
        // As the fake push-manager numbers its messages.
        message_id: MessageId::new(offset, Incarnation::from_u64(1).unwrap(), 0).to_string(),
        target: Some(target),
        content: Some(Content { data: data.to_owned().into(), ..Content::default() }),
        epoch: EPOCH,
        offset,
        ..Deliver::default()
    }
}

async fn joined(client: &mut Client) -> Value {
    assert_eq!(frame(client).await["type"], "welcome");
    let joined = frame(client).await;
    assert_eq!(joined["type"], "joined", "{joined}");
    joined
}

async fn said(client: &mut Client) -> (Value, Value) {
    let mut frame = frame(client).await;
    (frame["content"]["data"].take(), frame["offset"].take())
}

async fn send(client: &mut Client, frame: Value) {
    client.send(Message::Text(frame.to_string().into())).await.unwrap();
}

/// Puts messages on the lane, in this order, each with the id of its offset.
async fn deliver(world: &World, first: u64, messages: &[Deliver]) {
    for (number, message) in (first..).zip(messages) {
        world.manager.deliver_as_it_is(number, message.clone()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_never_came_is_read_and_what_comes_late_is_dropped() {
    let (logs, address, _serving) = FakeLogs::start().await;
    logs.append("before");
    let world = world_with(&address).await;
    let mut ann = client(&world.node, "user_id=ann&room_id=lobby").await;
    let joined = joined(&mut ann).await;
    assert_eq!((&joined["offset"], &joined["epoch"]), (&json!(1), &json!("00000000000000e1")));
    assert!(joined["recovered"].is_null());
    let messages = ["two", "three", "four", "five"].map(|data| logs.append(data));
    deliver(&world, 1, &[messages[1].clone(), messages[3].clone()]).await;
    for (offset, data) in (2..).zip(["two", "three", "four", "five"]) {
        assert_eq!(said(&mut ann).await, (json!(data), json!(offset)));
    }
    // Late, it is answered with what became of it, and nobody gets it twice.
    deliver(&world, 3, &messages[..1]).await;
    let counts =
        |learned: &super::manager::Learned| learned.outcomes.iter().map(|own| own.written).sum::<u64>();
    world.manager.until("outcomes", |learned| counts(learned) == 3).await;
    let six = logs.append("six");
    deliver(&world, 4, &[six]).await;
    assert_eq!(said(&mut ann).await, (json!("six"), json!(6)));
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hole_that_cannot_be_filled_is_flagged() {
    let (logs, address, _serving) = FakeLogs::start().await;
    let world = world_with(&address).await;
    let mut ann = client(&world.node, "user_id=ann&room_id=lobby").await;
    assert_eq!(joined(&mut ann).await["offset"], 0);
    let messages = ["one", "two", "three"].map(|data| logs.append(data));
    logs.0.lock().unwrap().is_away = true;
    deliver(&world, 1, &[messages[0].clone(), messages[2].clone()]).await;
    assert_eq!(said(&mut ann).await, (json!("one"), json!(1)));
    let gap = frame(&mut ann).await;
    assert_eq!((&gap["type"], &gap["room_id"], &gap["offset"]), (&json!("gap"), &json!("lobby"), &json!(2)));
    assert_eq!(said(&mut ann).await, (json!("three"), json!(3)));
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_back_gets_what_he_missed_and_not_what_was_kept_from_him() {
    let (logs, address, _serving) = FakeLogs::start().await;
    let _logged = ["one", "two", "three"].map(|data| logs.append(data));
    logs.0.lock().unwrap().room[1].exclude_user_ids = vec!["ann".into()];
    let world = world_with(&address).await;
    let mut ann = client(&world.node, "user_id=ann").await;
    assert_eq!(frame(&mut ann).await["type"], "welcome");
    let since = |epoch: &str, offset: u64| json!({"type": "join", "id": offset, "room_id": "lobby", "since": {"epoch": epoch, "offset": offset}});
    send(&mut ann, since("00000000000000e1", 0)).await;
    let answer = frame(&mut ann).await;
    assert_eq!((&answer["recovered"], &answer["offset"]), (&json!(true), &json!(0)), "from where he was");
    assert_eq!(said(&mut ann).await, (json!("one"), json!(1)));
    assert_eq!(said(&mut ann).await, (json!("three"), json!(3)));
    let mut bob = client(&world.node, "user_id=bob").await;
    assert_eq!(frame(&mut bob).await["type"], "welcome");
    send(&mut bob, since("another", 2)).await;
    let answer = frame(&mut bob).await;
    assert_eq!((&answer["recovered"], &answer["offset"]), (&json!(false), &json!(3)), "from where it is");
    // A position that came from the future of a store that went back.
    send(&mut bob, since("00000000000000e1", 9)).await;
    assert_eq!(frame(&mut bob).await["recovered"], json!(false));
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_store_could_not_read_is_asked_again() {
    let (logs, address, _serving) = FakeLogs::start().await;
    let world = world_with(&address).await;
    let mut ann = client(&world.node, "user_id=ann&room_id=lobby").await;
    assert_eq!(joined(&mut ann).await["offset"], 0);
    let messages = ["one", "two", "three"].map(|data| logs.append(data));
    logs.0.lock().unwrap().unread = 2;
    deliver(&world, 1, &[messages[0].clone(), messages[2].clone()]).await;
    for (offset, data) in (1..).zip(["one", "two", "three"]) {
        assert_eq!(said(&mut ann).await, (json!(data), json!(offset)), "and no gap");
    }
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_went_back_is_told_and_its_messages_arrive_all_the_same() {
    let (logs, address, _serving) = FakeLogs::start().await;
    let world = world_with(&address).await;
    let mut ann = client(&world.node, "user_id=ann&room_id=lobby").await;
    joined(&mut ann).await;
    let messages = ["one", "two"].map(|data| logs.append(data));
    deliver(&world, 1, &messages).await;
    assert_eq!(said(&mut ann).await.1, 1);
    assert_eq!(said(&mut ann).await.1, 2);
    let mut again = message(7, Target::RoomId("lobby".into()), "another two");
    again.offset = 2;
    deliver(&world, 3, &[again]).await;
    assert_eq!(said(&mut ann).await, (json!("another two"), Value::Null), "its place is taken");
    world.manager.until("a conflict", |learned| !learned.conflicts.is_empty()).await;
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_lane_has_the_logs_compared() {
    let (logs, address, _serving) = FakeLogs::start().await;
    let mut world = world_with(&address).await;
    let mut ann = client(&world.node, "user_id=ann&room_id=lobby").await;
    joined(&mut ann).await;
    // Appended, and its push-manager died before it went on any lane.
    logs.append("orphan");
    let mut other = super::manager::FakeManager::new("push-manager-2");
    other.log_address = address.clone();
    other.link(&world.node.grpc_address().to_string(), true).await;
    world.manager.cut();
    assert_eq!(said(&mut ann).await, (json!("orphan"), json!(1)));
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_inbox_comes_after_the_welcome_page_by_page_and_goes_when_acknowledged() {
    let (logs, address, _serving) = FakeLogs::start().await;
    let to_ann = Target::Users(UserTargets { user_ids: vec!["ann".into()] });
    let stored = (1..=70).map(|number| {
        let message = message(number, to_ann.clone(), &number.to_string());
        Deliver { epoch: 0, offset: 0, ack: true, stored: true, ..message }
    });
    logs.0.lock().unwrap().inbox = stored.collect();
    let world = world_with(&address).await;
    let mut ann = client(&world.node, "user_id=ann").await;
    assert_eq!(frame(&mut ann).await["type"], "welcome");
    let mut ids = Vec::new();
    for number in 1..=70 {
        let push = frame(&mut ann).await;
        assert_eq!((&push["content"]["data"], &push["ack"]), (&json!(number.to_string()), &json!(true)));
        ids.push(push["message_id"].clone());
        if ids.len() == 64 {
            send(&mut ann, json!({"type": "ack", "message_ids": ids})).await;
        }
    }
    send(&mut ann, json!({"type": "ack", "message_ids": ids[64..]})).await;
    let acknowledged = || logs.0.lock().unwrap().acks.iter().map(|ack| ack.message_ids.len()).sum::<usize>();
    until("all to be acknowledged", || acknowledged() == 70).await;
    assert!(logs.0.lock().unwrap().acks.iter().all(|ack| ack.user_id == "ann"));
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inboxes_that_hang_keep_nobody_from_catching_up() {
    let (logs, address, _serving) = FakeLogs::start().await;
    logs.0.lock().unwrap().inbox_hangs = true;
    logs.append("one");
    let world = world_with(&address).await;
    // Many at once, so that questions wait for each other.
    for user in 0..20 {
        let mut client = client(&world.node, &format!("user_id=u{user}")).await;
        assert_eq!(frame(&mut client).await["type"], "welcome");
        let since = json!({"epoch": "00000000000000e1", "offset": 0});
        send(&mut client, json!({"type": "join", "id": 1, "room_id": "lobby", "since": since})).await;
        assert_eq!(frame(&mut client).await["recovered"], json!(true));
        assert_eq!(said(&mut client).await.0, "one");
    }
    world.node.stop().await;
}

async fn say(client: &mut Client, frame: client_frame::Frame) {
    let frame = ClientFrame { id: Some(1), frame: Some(frame) };
    client.send(Message::Binary(frame.encode_to_vec().into())).await.unwrap();
}

async fn pushed(client: &mut Client) -> Push {
    match proto_frame(client).await {
        Frame::Push(push) => push,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_protobuf_too_what_was_missed_what_comes_and_what_may_be_missing_is_told() {
    let (logs, address, _serving) = FakeLogs::start().await;
    let _logged = ["one", "two"].map(|data| logs.append(data));
    let world = world_with(&address).await;
    let mut ann = proto_client(&world.node, "user_id=ann").await;
    assert!(matches!(proto_frame(&mut ann).await, Frame::Welcome(_)));
    let since = Some(Since { epoch: EPOCH, offset: 1 });
    say(&mut ann, client_frame::Frame::Join(Join { room_id: "lobby".into(), since })).await;
    let Frame::Joined(joined) = proto_frame(&mut ann).await else { panic!("joined comes first") };
    assert_eq!((joined.recovered, joined.epoch, joined.offset), (Some(true), EPOCH, 1));
    // Somebody else who comes back, in JSON, while both read what is passed on.
    let mut bob = client(&world.node, "user_id=bob").await;
    assert_eq!(frame(&mut bob).await["type"], "welcome");
    let position = json!({"epoch": "00000000000000e1", "offset": 1});
    send(&mut bob, json!({"type": "join", "room_id": "lobby", "since": position})).await;
    assert_eq!(frame(&mut bob).await["recovered"], json!(true));
    let messages = ["three", "four", "five"].map(|data| logs.append(data));
    deliver(&world, 1, &messages[..1]).await;
    for (offset, data) in (2..).zip(["two", "three"]) {
        let push = pushed(&mut ann).await;
        assert_eq!((push.epoch, push.offset, push.content.unwrap().data), (EPOCH, offset, Some(text(data))));
        assert_eq!(said(&mut bob).await, (json!(data), json!(offset)));
    }
    logs.0.lock().unwrap().is_away = true;
    deliver(&world, 2, &messages[2..]).await;
    let Frame::Gap(gap) = proto_frame(&mut ann).await else { panic!("a gap comes before what is behind it") };
    assert_eq!((gap.room_id.as_str(), gap.epoch, gap.offset), ("lobby", EPOCH, 4));
    assert_eq!(frame(&mut bob).await["type"], "gap");
    assert_eq!(pushed(&mut ann).await.offset, 5);
    assert_eq!(said(&mut bob).await.1, 5);
    world.node.stop().await;
}

fn text(data: &str) -> roomcast_proto::client::content::Data {
    roomcast_proto::client::content::Data::Text(data.into())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_inbox_is_read_and_acknowledged_in_protobuf() {
    let (logs, address, _serving) = FakeLogs::start().await;
    let stored = message(1, Target::Users(UserTargets { user_ids: vec!["ann".into()] }), "stored");
    logs.0.lock().unwrap().inbox = vec![Deliver { epoch: 0, offset: 0, ack: true, stored: true, ..stored }];
    let world = world_with(&address).await;
    let mut ann = proto_client(&world.node, "user_id=ann").await;
    assert!(matches!(proto_frame(&mut ann).await, Frame::Welcome(_)));
    let push = pushed(&mut ann).await;
    assert!(push.ack && push.content.unwrap().data == Some(text("stored")));
    say(&mut ann, client_frame::Frame::Ack(Ack { message_ids: vec![push.message_id.clone()] })).await;
    until("the acknowledgement", || {
        logs.0.lock().unwrap().acks.iter().any(|ack| ack.message_ids == [push.message_id.clone()])
    })
    .await;
    world.node.stop().await;
}
