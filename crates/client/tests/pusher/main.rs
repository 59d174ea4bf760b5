//! Pushing over real connections to push-managers that answer as told.

#![allow(clippy::unwrap_used)]

mod stream;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use roomcast_client::{Content, ContentType, Error, LogOf, Page, PushOptions, PushReply, Pusher};
use roomcast_proto::pubsub::{
    BroadcastRequest, GetHistoryReply, GetHistoryRequest, HistoryMessage, PushStreamReply, PushStreamRequest,
    PushToRoomRequest, PushToUserRequest, PushToUsersRequest, RoomChangedReply, RoomChangedRequest,
    get_history_request,
    push_manager_service_server::{PushManagerService, PushManagerServiceServer},
    push_stream_reply, push_stream_request,
};
use roomcast_types::{Code, Fault};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket},
    runtime::{Builder, Runtime},
    task::JoinHandle,
};
use tokio_stream::{StreamExt, wrappers::TcpListenerStream};
use tonic::{Request, Response, Status, Streaming, codegen::BoxStream};

/// A push-manager that keeps what it was asked and gives the answer it was made with.
#[derive(Clone)]
struct Fake {
    answer: Arc<dyn Fn() -> Result<PushReply, Fault> + Send + Sync>,
    takes: Duration,
    seen: Arc<Mutex<Vec<Seen>>>,
    asked: Arc<Mutex<Vec<GetHistoryRequest>>>,
}

struct Seen {
    request: PushToRoomRequest,
    timeout: Option<String>,
    traceparent: Option<String>,
}

impl Fake {
    fn new(answer: impl Fn() -> Result<PushReply, Fault> + Send + Sync + 'static) -> Self {
        Self { answer: Arc::new(answer), takes: Duration::ZERO, seen: Arc::default(), asked: Arc::default() }
    }

    fn accepting() -> Self {
        Self::new(|| Ok(PushReply { message_id: "01".into(), ..PushReply::default() }))
    }

    fn pushes(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    fn serve(&self) -> Served {
        self.serve_on(([127, 0, 0, 1], 0).into())
    }

    fn serve_on(&self, address: SocketAddr) -> Served {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(address).unwrap();
        let listener = {
            let _guard = runtime.enter();
            socket.listen(16).unwrap()
        };
        let address = listener.local_addr().unwrap();
        let server = tonic::transport::Server::builder()
            .add_service(PushManagerServiceServer::new(self.clone()))
            .serve_with_incoming(TcpListenerStream::new(listener));
        runtime.spawn(async move { server.await.unwrap() });
        Served { address, runtime: Some(runtime) }
    }
}

/// A server with a runtime of its own: when that goes, every connection goes, as when a process dies.
struct Served {
    address: SocketAddr,
    runtime: Option<Runtime>,
}

impl Served {
    async fn stop(mut self) {
        let runtime = self.runtime.take().unwrap();
        tokio::task::spawn_blocking(move || runtime.shutdown_timeout(Duration::from_secs(5))).await.unwrap();
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

#[tonic::async_trait]
impl PushManagerService for Fake {
    async fn push_to_room(&self, request: Request<PushToRoomRequest>) -> Result<Response<PushReply>, Status> {
        let text = |key| request.metadata().get(key).map(|value| value.to_str().unwrap().to_owned());
        let (timeout, traceparent) = (text("grpc-timeout"), text("traceparent"));
        self.seen.lock().unwrap().push(Seen { timeout, traceparent, request: request.into_inner() });
        tokio::time::sleep(self.takes).await;
        (self.answer)().map(Response::new).map_err(|fault| roomcast_proto::status(&fault))
    }
    /// Answers, but for "hang", and ends behind "end".
    async fn push_stream(
        &self,
        requests: Request<Streaming<PushStreamRequest>>,
    ) -> Result<Response<BoxStream<PushStreamReply>>, Status> {
        let answer = self.answer.clone();
        let replies = requests.into_inner().filter_map(move |request| {
            let PushStreamRequest { request, push } = request.ok()?;
            let Some(push_stream_request::Push::ToRoom(push)) = push else { return None };
            match &push.content.unwrap().data[..] {
                b"hang" => None,
                b"end" => Some(Err(roomcast_proto::status(&Fault::unavailable("it stops", Duration::ZERO)))),
                _ => {
                    let result = match answer() {
                        Ok(reply) => push_stream_reply::Result::Reply(reply),
                        Err(fault) => push_stream_reply::Result::Error((&fault).into()),
                    };
                    Some(Ok(PushStreamReply { request, result: Some(result) }))
                }
            }
        });
        Ok(Response::new(Box::pin(replies)))
    }
    async fn get_history(
        &self,
        request: Request<GetHistoryRequest>,
    ) -> Result<Response<GetHistoryReply>, Status> {
        self.asked.lock().unwrap().push(request.into_inner());
        let messages = vec![HistoryMessage { offset: 8, ..HistoryMessage::default() }];
        Ok(Response::new(GetHistoryReply { messages, ..GetHistoryReply::default() }))
    }
    async fn push_to_user(&self, _: Request<PushToUserRequest>) -> Result<Response<PushReply>, Status> {
        Err(Status::internal("not part of these tests"))
    }
    async fn push_to_users(&self, _: Request<PushToUsersRequest>) -> Result<Response<PushReply>, Status> {
        Err(Status::internal("not part of these tests"))
    }
    async fn broadcast(&self, _: Request<BroadcastRequest>) -> Result<Response<PushReply>, Status> {
        Err(Status::internal("not part of these tests"))
    }
    async fn room_changed(
        &self,
        _: Request<RoomChangedRequest>,
    ) -> Result<Response<RoomChangedReply>, Status> {
        Err(Status::internal("not part of these tests"))
    }
}

fn hello() -> Content {
    Content::text(ContentType::Text, "hello")
}

/// An address that refuses connections: it was free a moment ago.
async fn refusing() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

fn pusher(addresses: &[SocketAddr]) -> Pusher {
    Pusher::new(addresses.iter().map(SocketAddr::to_string)).unwrap()
}

#[tokio::test]
async fn a_push_carries_its_options_deadline_and_trace() {
    let fake = Fake::accepting();
    let served = fake.serve();
    let options = PushOptions {
        exclude_user_ids: vec!["me".into()],
        deadline: Some(Duration::from_secs(3)),
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
        ..PushOptions::default()
    };
    let reply = pusher(&[served.address]).push_to_room("room-001", hello(), &options).await.unwrap();
    assert_eq!(reply.message_id, "01");

    let seen = fake.seen.lock().unwrap().pop().unwrap();
    assert_eq!(seen.request.room_id, "room-001");
    assert_eq!(seen.request.content.unwrap().data, "hello");
    assert_eq!(seen.request.options.unwrap().exclude_user_ids, ["me"]);
    assert_eq!(seen.traceparent, options.traceparent);
    let timeout = seen.timeout.unwrap();
    let micros: u64 = timeout.trim_end_matches('u').parse().unwrap();
    assert!((2_000_000..=3_000_000).contains(&micros), "{timeout}");
}

#[tokio::test]
async fn an_address_that_refuses_is_passed_over() {
    let fake = Fake::accepting();
    let served = fake.serve();
    let pusher = Arc::new(pusher(&[refusing().await, served.address]));
    for _ in 0..3 {
        let pusher = Arc::clone(&pusher);
        let push = async move { pusher.push_to_room("r", hello(), &PushOptions::default()).await };
        tokio::spawn(push).await.unwrap().unwrap();
    }
    assert_eq!(fake.pushes(), 3);
}

#[tokio::test]
async fn nobody_there_is_told_with_the_address_and_the_reason() {
    let address = refusing().await;
    let error = pusher(&[address]).push_to_room("r", hello(), &PushOptions::default()).await.unwrap_err();
    assert_eq!(error.to_string(), format!("{address} does not answer"));
    assert_eq!(error.cause().unwrap(), "connection refused");
    assert!(!error.is_outcome_unknown());
}

#[tokio::test]
async fn an_unavailable_push_manager_hands_over_to_the_next() {
    let away = Fake::new(|| Err(Fault::unavailable("the room's card cannot be read", Duration::ZERO)));
    let fake = Fake::accepting();
    let (first, second) = (away.serve(), fake.serve());
    let pusher = pusher(&[first.address, second.address]);
    pusher.push_to_room("r", hello(), &PushOptions::default()).await.unwrap();
    assert_eq!((away.pushes(), fake.pushes()), (1, 1));
}

#[tokio::test]
async fn a_refusal_is_given_back_at_once() {
    let refusal = Fake::new(|| Err(Fault::new(Code::NotFound, "room r does not exist")));
    let fake = Fake::accepting();
    let (first, second) = (refusal.serve(), fake.serve());
    let pusher = pusher(&[first.address, second.address]);
    let error = pusher.push_to_room("r", hello(), &PushOptions::default()).await.unwrap_err();
    assert_eq!(error.to_string(), "NOT_FOUND: room r does not exist");
    assert_eq!((refusal.pushes(), fake.pushes()), (1, 0));
}

/// A server that takes a whole request, says nothing, and breaks the connection.
async fn breaking() -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let peer = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut taken = Vec::new();
        while !taken.windows(5).any(|window| window == b"hello") {
            let mut some = [0; 1024];
            let count = socket.read(&mut some).await.unwrap();
            taken.extend_from_slice(&some[..count]);
        }
    });
    (address, peer)
}

#[tokio::test]
async fn a_push_with_a_key_is_repeated_when_its_answer_was_lost() {
    let (breaking, peer) = breaking().await;
    let fake = Fake::accepting();
    let served = fake.serve();
    let options =
        PushOptions { idempotency_key: "order-7".into(), log: Some(true), ..PushOptions::default() };
    let pusher = pusher(&[breaking, served.address]);
    pusher.push_to_room("r", hello(), &options).await.unwrap();
    peer.await.unwrap();
    let seen = fake.seen.lock().unwrap().pop().unwrap();
    let options = seen.request.options.unwrap();
    assert_eq!((options.idempotency_key.as_str(), options.log), ("order-7", Some(true)));
}

#[tokio::test]
async fn history_is_asked_for_by_page_and_of_the_next_server_when_one_is_gone() {
    let fake = Fake::accepting();
    let served = fake.serve();
    let pusher = pusher(&[refusing().await, served.address]);
    let of = |after, before| GetHistoryRequest {
        log: Some(get_history_request::Log::RoomId("r".into())),
        after,
        before,
        limit: 2,
    };
    for (page, expected) in [
        (Page::Newest, of(None, None)),
        (Page::After(0), of(Some(0), None)),
        (Page::Before(9), of(None, Some(9))),
    ] {
        let reply = pusher.history(LogOf::Room("r".into()), page, 2).await.unwrap();
        assert_eq!(reply.messages[0].offset, 8);
        assert_eq!(fake.asked.lock().unwrap().pop(), Some(expected));
    }
    let error = pusher.history(LogOf::User(String::new()), Page::Newest, 1).await.unwrap_err();
    assert_eq!(error.to_string(), "BAD_REQUEST: user_id is empty; it takes 1 to 128 bytes");
}

#[tokio::test]
async fn a_push_that_may_have_been_accepted_is_never_repeated() {
    let (breaking, peer) = breaking().await;
    let fake = Fake::accepting();
    let served = fake.serve();
    let pusher = pusher(&[breaking, served.address]);
    let error = pusher.push_to_room("r", hello(), &PushOptions::default()).await.unwrap_err();
    assert!(matches!(error, Error::Interrupted { .. }), "{error:?}");
    assert!(error.is_outcome_unknown());
    assert_eq!(fake.pushes(), 0);
    peer.await.unwrap();
}

/// Takes one whole request, then ends the connection with a GOAWAY that names the last stream it acted on. RFC 9113, 6.8.
async fn leaving(last_stream: u32, reason: u32, why: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        // From here on it refuses connections.
        drop(listener);
        let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
        socket.write_all(&settings).await.unwrap();
        let mut taken = Vec::new();
        while !taken.windows(5).any(|window| window == b"hello") {
            let mut some = [0; 1024];
            let count = socket.read(&mut some).await.unwrap();
            taken.extend_from_slice(&some[..count]);
        }
        let goaway = [0, 0, 8 + why.len() as u8, 7, 0, 0, 0, 0, 0];
        let said = [&last_stream.to_be_bytes(), &reason.to_be_bytes(), why.as_bytes()].concat();
        let goaway = [goaway.as_slice(), &said].concat();
        socket.write_all(&goaway).await.unwrap();
        let _ = socket.shutdown().await;
        // To the end: unread bytes would turn the close into a reset, which may overtake the GOAWAY.
        while socket.read(&mut [0; 1024]).await.is_ok_and(|count| count > 0) {}
    });
    address
}

#[tokio::test]
async fn a_push_is_repeated_when_a_server_that_leaves_says_that_it_has_not_looked_at_it() {
    // NO_ERROR; ENHANCE_YOUR_CALM, as a server says that has reset too many streams of this connection.
    let reasons = [(0, ""), (11, "too_many_resets")];
    let cases = reasons.into_iter().flat_map(|reason| [(0, reason, true), (1, reason, false)]);
    for (last_stream, (reason, why), is_repeated) in cases {
        let fake = Fake::accepting();
        let served = fake.serve();
        let pusher = pusher(&[leaving(last_stream, reason, why).await, served.address]);
        let pushed = pusher.push_to_room("r", hello(), &PushOptions::default()).await;
        match pushed {
            Ok(_) => assert!(is_repeated),
            Err(error) => {
                assert!(!is_repeated && error.is_outcome_unknown(), "{last_stream} {why}: {error:?}")
            }
        }
        assert_eq!(fake.pushes(), usize::from(is_repeated));
    }
}

#[tokio::test]
async fn a_push_manager_that_hangs_ends_in_the_deadline() {
    let slow = Fake { takes: Duration::from_secs(60), ..Fake::accepting() };
    let served = slow.serve();
    let options = PushOptions { deadline: Some(Duration::from_millis(100)), ..PushOptions::default() };
    let error = pusher(&[served.address]).push_to_room("r", hello(), &options).await.unwrap_err();
    assert!(matches!(error, Error::Deadline { .. }), "{error:?}");
    assert!(error.is_outcome_unknown());
    assert_eq!(slow.pushes(), 1);
}

#[tokio::test]
async fn a_push_manager_that_restarted_is_found_again() {
    let fake = Fake::accepting();
    let served = fake.serve();
    let pusher = pusher(&[served.address]);
    pusher.push_to_room("r", hello(), &PushOptions::default()).await.unwrap();
    let address = served.address;
    served.stop().await;
    let _served = fake.serve_on(address);
    // The end of the old connection may be noticed only by the first push on it, which then is not repeated.
    while let Err(error) = pusher.push_to_room("r", hello(), &PushOptions::default()).await {
        assert!(error.is_outcome_unknown(), "{error:?}");
    }
    assert_eq!(fake.pushes(), 2);
}

#[tokio::test]
async fn ids_are_checked_before_anything_is_sent() {
    let error = pusher(&[refusing().await])
        .push_to_users(["user-001", ""], hello(), &PushOptions::default())
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "BAD_REQUEST: user_id is empty; it takes 1 to 128 bytes");
}
