//! Servers that answer as told.

use std::{
    net::TcpListener as StdListener,
    sync::{Arc, Mutex},
};

use futures_util::{SinkExt, StreamExt};
use roomcast_proto::pubsub::{
    self, BroadcastRequest, GetHistoryReply, GetHistoryRequest, GetRoomInfoRequest, HistoryMessage,
    PushReply, PushToRoomRequest, PushToUserRequest, PushToUsersRequest, Receipt, RoomCard, RoomInfo,
    UpdateRoomRequest, WatchPushReply, WatchPushRequest,
    controller_service_server::{ControllerService, ControllerServiceServer},
    push_manager_service_server::{PushManagerService, PushManagerServiceServer},
    push_options::Wait,
};
use roomcast_types::Fault;
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_stream::wrappers::TcpListenerStream;
use tokio_tungstenite::tungstenite::Message;
use tonic::{Request, Response, Status, codegen::BoxStream, transport::server::Router};

/// An address that refuses connections: it was free a moment ago.
pub fn refusing_address() -> String {
    StdListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

pub async fn serve(router: Router) -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let serving = router.serve_with_incoming(TcpListenerStream::new(listener));
    (address, tokio::spawn(async move { serving.await.unwrap() }))
}

/// What a push-manager was asked.
pub struct Pushed {
    /// `room R`, `user U`, `users U1 U2` or `all`.
    pub target: String,
    pub content: pubsub::Content,
    pub exclude: Vec<String>,
    pub options: pubsub::PushOptions,
}

/// A push-manager that gives one answer to everything.
pub struct PushManagers {
    pub address: String,
    seen: Arc<Mutex<Vec<Pushed>>>,
    task: JoinHandle<()>,
}

struct PushManager {
    answer: Result<PushReply, Fault>,
    seen: Arc<Mutex<Vec<Pushed>>>,
}

impl PushManagers {
    pub async fn start(answer: Result<PushReply, Fault>) -> Self {
        let seen = Arc::default();
        let service = PushManager { answer, seen: Arc::clone(&seen) };
        let router = tonic::transport::Server::builder().add_service(PushManagerServiceServer::new(service));
        let (address, task) = serve(router).await;
        Self { address, seen, task }
    }

    /// The push; panics unless there was exactly one.
    pub fn only_push(&self) -> Pushed {
        let mut seen = self.seen.lock().unwrap();
        assert_eq!(seen.len(), 1);
        seen.pop().unwrap()
    }
}

impl Drop for PushManagers {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl PushManager {
    fn answer(
        &self,
        target: String,
        content: Option<pubsub::Content>,
        options: Option<pubsub::PushOptions>,
    ) -> Result<Response<PushReply>, Status> {
        let options = options.unwrap_or_default();
        let exclude = options.exclude_user_ids.clone();
        self.seen.lock().unwrap().push(Pushed { target, content: content.unwrap(), exclude, options });
        self.answer.clone().map(Response::new).map_err(|fault| roomcast_proto::status(&fault))
    }
}

#[tonic::async_trait]
impl PushManagerService for PushManager {
    async fn push_to_room(&self, request: Request<PushToRoomRequest>) -> Result<Response<PushReply>, Status> {
        let request = request.into_inner();
        self.answer(format!("room {}", request.room_id), request.content, request.options)
    }
    async fn push_to_user(&self, request: Request<PushToUserRequest>) -> Result<Response<PushReply>, Status> {
        let request = request.into_inner();
        self.answer(format!("user {}", request.user_id), request.content, request.options)
    }
    async fn push_to_users(
        &self,
        request: Request<PushToUsersRequest>,
    ) -> Result<Response<PushReply>, Status> {
        let request = request.into_inner();
        self.answer(format!("users {}", request.user_ids.join(" ")), request.content, request.options)
    }
    async fn broadcast(&self, request: Request<BroadcastRequest>) -> Result<Response<PushReply>, Status> {
        let request = request.into_inner();
        self.answer("all".into(), request.content, request.options)
    }
    /// Two messages, the last one at the end of the log or before `before`.
    async fn get_history(
        &self,
        request: Request<GetHistoryRequest>,
    ) -> Result<Response<GetHistoryReply>, Status> {
        let request = request.into_inner();
        let end = request.before.unwrap_or(43);
        let message = |offset, data: &'static [u8]| HistoryMessage {
            message_id: format!("{:?}", request.log),
            offset,
            content: Some(pubsub::Content { data: data.into(), ..pubsub::Content::default() }),
            ..HistoryMessage::default()
        };
        let messages = vec![message(end - 2, b"first"), message(end - 1, b"\xff\xff")];
        let reply = GetHistoryReply { epoch: "00e".into(), offset: 42, first: 3, messages, has_more: true };
        Ok(Response::new(reply))
    }
    /// The receipt as it is answered to pushes, after one with everything pending.
    async fn watch_push(
        &self,
        request: Request<WatchPushRequest>,
    ) -> Result<Response<BoxStream<WatchPushReply>>, Status> {
        let WatchPushRequest { message_id, until, .. } = request.into_inner();
        let reply = self.answer.clone().map_err(|fault| roomcast_proto::status(&fault))?;
        let mut last = reply.receipt.unwrap();
        last.level = Wait::try_from(until.unwrap()).unwrap().as_str_name().to_owned();
        let first = Receipt { pending: last.targets, complete: false, outcomes: [].into(), ..last.clone() };
        let reply = |(receipt, age_ms)| {
            let receipt = Some(receipt);
            Ok(WatchPushReply { message_id: message_id.clone(), receipt, age_ms, degraded: Vec::new() })
        };
        let replies: Vec<_> = [(first, 7), (last, 90)].map(reply).into();
        Ok(Response::new(Box::pin(tokio_stream::iter(replies))))
    }
}

type InfoAnswer = dyn Fn(&GetRoomInfoRequest) -> Result<RoomInfo, Fault> + Send + Sync;

/// A controller-manager that knows about rooms only.
pub struct Controllers {
    pub address: String,
    task: JoinHandle<()>,
}

/// Answers questions as told; a room that is changed is as the change says.
struct Controller(Box<InfoAnswer>);

impl Controllers {
    pub async fn start(
        answer: impl Fn(&GetRoomInfoRequest) -> Result<RoomInfo, Fault> + Send + Sync + 'static,
    ) -> Self {
        let service = ControllerServiceServer::new(Controller(Box::new(answer)));
        let (address, task) = serve(tonic::transport::Server::builder().add_service(service)).await;
        Self { address, task }
    }
}

impl Drop for Controllers {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[tonic::async_trait]
impl ControllerService for Controller {
    async fn get_room_info(
        &self,
        request: Request<GetRoomInfoRequest>,
    ) -> Result<Response<RoomInfo>, Status> {
        (self.0)(request.get_ref()).map(Response::new).map_err(|fault| roomcast_proto::status(&fault))
    }
    async fn update_room(&self, request: Request<UpdateRoomRequest>) -> Result<Response<RoomCard>, Status> {
        let UpdateRoomRequest { room_id, log, on_log_failure, .. } = request.into_inner();
        let (log, on_log_failure) = (log.unwrap_or_default(), on_log_failure.unwrap_or_default());
        Ok(Response::new(RoomCard { room_id, log, on_log_failure, ..RoomCard::default() }))
    }
}

/// A node that welcomes one client and says these frames; gives its address.
pub async fn node_that_says(frames: Vec<Value>) -> String {
    node_that_listens(frames).await.0
}

/// As [`node_that_says`]; also gives what the client said, once it is gone.
pub async fn node_that_listens(frames: Vec<Value>) -> (String, JoinHandle<Vec<Value>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/ws", listener.local_addr().unwrap());
    let listening = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
        let welcome = json!({"type": "welcome", "node_id": "node-1", "user_id": "user-001"});
        for frame in [welcome].into_iter().chain(frames) {
            socket.send(Message::text(frame.to_string())).await.unwrap();
        }
        let mut heard = Vec::new();
        while let Some(Ok(message)) = socket.next().await {
            if let Message::Text(text) = message {
                heard.push(serde_json::from_str(&text).unwrap());
            }
        }
        heard
    });
    (url, listening)
}
