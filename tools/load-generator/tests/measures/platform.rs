//! A platform of a few lines.

use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use roomcast_proto::pubsub::{
    self, BroadcastRequest, PushReply, PushToRoomRequest, PushToUserRequest,
    controller_service_server::{ControllerService, ControllerServiceServer},
    push_manager_service_server::{PushManagerService, PushManagerServiceServer},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpListener,
    sync::broadcast,
};
use tokio_stream::wrappers::TcpListenerStream;
use tokio_tungstenite::tungstenite::{
    Message,
    handshake::server::{Request as Upgrade, Response as Upgraded},
    protocol::{CloseFrame, frame::coding::CloseCode},
};
use tonic::{Request, Response, Status};

#[derive(Clone, Copy)]
pub struct Platform {
    /// How often each session gets each message.
    pub copies: usize,
    /// Sessions of which every second one is closed with 4002 after the first push.
    pub closes_second: bool,
    /// How joins are answered before `joined`.
    pub refusals: &'static [&'static str],
    /// What replies name as away.
    pub degraded: &'static [&'static str],
}

pub const SOUND: Platform = Platform { copies: 1, closes_second: false, refusals: &[], degraded: &[] };

/// A push on its way: the room or the user that it is for (empty: everyone), and the frame.
type Pushed = (String, String);

pub struct Running {
    pub node: SocketAddr,
    pub grpc: SocketAddr,
    /// Pushes as JSON.
    pub json: SocketAddr,
}

impl Platform {
    pub async fn start(self) -> Running {
        let (hub, _) = broadcast::channel(1_024);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let node = listener.local_addr().unwrap();
        tokio::spawn(accept(self, listener, hub.clone()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let grpc = listener.local_addr().unwrap();
        let server = tonic::transport::Server::builder()
            .add_service(PushManagerServiceServer::new(PushManager(hub.clone(), self.degraded)))
            .add_service(ControllerServiceServer::new(Controller))
            .serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(server);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let json = listener.local_addr().unwrap();
        tokio::spawn(accept_json(listener, hub));
        Running { node, grpc, json }
    }
}

async fn accept(platform: Platform, listener: TcpListener, hub: broadcast::Sender<Pushed>) {
    for number in 0.. {
        let (stream, _) = listener.accept().await.unwrap();
        let mut pushes = hub.subscribe();
        tokio::spawn(async move {
            let mut uri = String::new();
            let note = |request: &Upgrade, response: Upgraded| {
                uri = request.uri().to_string();
                Ok(response)
            };
            let mut socket = tokio_tungstenite::accept_hdr_async(stream, note).await.unwrap();
            let parameter = |name| Some(uri.split_once(name)?.1.split('&').next()?.to_owned());
            let user = parameter("user_id=").unwrap();
            let mut room = parameter("room_id=");
            socket.send(frame(json!({"type": "welcome"}))).await.unwrap();
            if room.is_some() {
                socket.send(frame(json!({"type": "joined"}))).await.unwrap();
            }
            let mut refusals = platform.refusals.iter();
            loop {
                let (target, frame) = tokio::select! {
                    pushed = pushes.recv() => pushed.unwrap(),
                    message = socket.next() => {
                        let Some(Ok(Message::Text(text))) = message else { return };
                        let join: Value = serde_json::from_str(&text).unwrap();
                        assert_eq!(join["type"], "join");
                        let answer = match refusals.next() {
                            Some(code) => json!({"type": "error", "code": code, "retry_after_ms": 20}),
                            None => {
                                room = Some(join["room_id"].as_str().unwrap().to_owned());
                                json!({"type": "joined"})
                            }
                        };
                        socket.send(frame(answer)).await.unwrap();
                        continue;
                    }
                };
                if !target.is_empty() && target != user && Some(&target) != room.as_ref() {
                    continue;
                }
                for _ in 0..platform.copies {
                    socket.send(Message::text(frame.clone())).await.unwrap();
                }
                if platform.closes_second && number % 2 == 1 {
                    let frame = CloseFrame { code: CloseCode::from(4002), reason: "slow".into() };
                    socket.close(Some(frame)).await.unwrap();
                    while socket.next().await.is_some() {}
                    return;
                }
            }
        });
    }
}

/// Pushes over HTTP/1.1; a connection is kept for the next one.
async fn accept_json(listener: TcpListener, hub: broadcast::Sender<Pushed>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let hub = hub.clone();
        tokio::spawn(async move {
            let mut stream = BufReader::new(stream);
            loop {
                let (mut path, mut length, mut line) = (None, 0, String::new());
                while stream.read_line(&mut line).await.unwrap_or(0) > 2 {
                    path =
                        path.or_else(|| Some(line.split(' ').nth(1)?.strip_prefix("/v1/push/")?.to_owned()));
                    if let Some(value) = line.strip_prefix("Content-Length: ") {
                        length = value.trim().parse().unwrap();
                    }
                    line.clear();
                }
                let Some(path) = path else { return };
                let mut body = vec![0; length];
                stream.read_exact(&mut body).await.unwrap();
                let mut frame: Value = serde_json::from_slice(&body).unwrap();
                frame["type"] = json!("push");
                let target = path.split_once('/').map_or("", |(_, id)| id);
                hub.send((target.to_owned(), frame.to_string())).unwrap();
                let reply = json!({"receipt": {"complete": true, "targets": 1}}).to_string();
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", reply.len());
                stream.write_all((head + &reply).as_bytes()).await.unwrap();
            }
        });
    }
}

fn frame(value: Value) -> Message {
    Message::text(value.to_string())
}

struct PushManager(broadcast::Sender<Pushed>, &'static [&'static str]);

impl PushManager {
    fn push(&self, target: String, content: Option<pubsub::Content>) -> Result<Response<PushReply>, Status> {
        let data = String::from_utf8(content.unwrap().data.to_vec()).unwrap();
        let frame = json!({"type": "push", "content": {"type": "TEXT", "data": data}});
        self.0.send((target, frame.to_string())).unwrap();
        let receipt = Some(pubsub::Receipt { complete: true, ..pubsub::Receipt::default() });
        let degraded = self.1.iter().map(ToString::to_string).collect();
        Ok(Response::new(PushReply { receipt, degraded, ..PushReply::default() }))
    }
}

#[tonic::async_trait]
impl PushManagerService for PushManager {
    async fn push_to_room(&self, request: Request<PushToRoomRequest>) -> Result<Response<PushReply>, Status> {
        let request = request.into_inner();
        self.push(request.room_id, request.content)
    }
    async fn push_to_user(&self, request: Request<PushToUserRequest>) -> Result<Response<PushReply>, Status> {
        let request = request.into_inner();
        self.push(request.user_id, request.content)
    }
    async fn broadcast(&self, request: Request<BroadcastRequest>) -> Result<Response<PushReply>, Status> {
        self.push(String::new(), request.into_inner().content)
    }
}

struct Controller;

macro_rules! controller {
    ($($name:ident($request:ident) -> $reply:ident;)*) => {
        #[tonic::async_trait]
        impl ControllerService for Controller {
            $(async fn $name(
                &self,
                _: Request<pubsub::$request>,
            ) -> Result<Response<pubsub::$reply>, Status> {
                Ok(Response::new(pubsub::$reply::default()))
            })*
        }
    };
}

controller! {
    get_room_stats(GetRoomStatsRequest) -> RoomStats;
    get_room_info(GetRoomInfoRequest) -> RoomInfo;
    list_rooms(ListRoomsRequest) -> ListRoomsReply;
    create_room(CreateRoomRequest) -> RoomCard;
    update_room(UpdateRoomRequest) -> RoomCard;
    delete_room(DeleteRoomRequest) -> DeleteRoomReply;
    join_room(JoinRoomRequest) -> JoinRoomReply;
    leave_room(LeaveRoomRequest) -> LeaveRoomReply;
    get_user_node(GetUserNodeRequest) -> UserNode;
    list_sessions(ListSessionsRequest) -> ListSessionsReply;
    list_nodes(ListNodesRequest) -> ListNodesReply;
    select_connect_node(SelectConnectNodeRequest) -> SelectConnectNodeReply;
    kick_user(KickUserRequest) -> KickUserReply;
}
