//! The built program against a platform of a few lines, which can be told to lose or repeat messages.

#![allow(clippy::unwrap_used, clippy::result_large_err)]

use std::{net::SocketAddr, time::Duration};

use futures_util::{SinkExt, StreamExt};
use roomcast_proto::pubsub::{
    self, BroadcastRequest, PushReply, PushToRoomRequest, PushToUserRequest,
    controller_service_server::{ControllerService, ControllerServiceServer},
    push_manager_service_server::{PushManagerService, PushManagerServiceServer},
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::broadcast};
use tokio_stream::wrappers::TcpListenerStream;
use tokio_tungstenite::tungstenite::{
    Message,
    handshake::server::{Request as Upgrade, Response as Upgraded},
    protocol::{CloseFrame, frame::coding::CloseCode},
};
use tonic::{Request, Response, Status};

#[derive(Clone, Copy)]
struct Platform {
    /// How often each session gets each message.
    copies: usize,
    /// Sessions of which every second one is closed with 4002 after the first push.
    closes_second: bool,
    /// How joins are answered before `joined`.
    refusals: &'static [&'static str],
    /// What replies name as away.
    degraded: &'static [&'static str],
}

const SOUND: Platform = Platform { copies: 1, closes_second: false, refusals: &[], degraded: &[] };

/// A push on its way: the room or the user that it is for (empty: everyone), and the frame.
type Pushed = (String, String);

struct Running {
    node: SocketAddr,
    grpc: SocketAddr,
}

impl Platform {
    async fn start(self) -> Running {
        let (hub, _) = broadcast::channel(1_024);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let node = listener.local_addr().unwrap();
        tokio::spawn(accept(self, listener, hub.clone()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let grpc = listener.local_addr().unwrap();
        let server = tonic::transport::Server::builder()
            .add_service(PushManagerServiceServer::new(PushManager(hub, self.degraded)))
            .add_service(ControllerServiceServer::new(Controller))
            .serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(server);
        Running { node, grpc }
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

/// Exit code, report, standard error.
async fn measure(running: &Running, scenario: &[&str]) -> (i32, Value, String) {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_load-generator"));
    command.args(["--nodes", &format!("ws://{}/ws", running.node), "--output", "json", "--sessions", "4"]);
    for tier in ["--push-manager", "--controller"] {
        command.args([tier, &running.grpc.to_string()]);
    }
    command.args(["--source-addresses", "2", "--threads", "2", "--patience", "2"]).args(scenario);
    let run = tokio::task::spawn_blocking(move || command.output().unwrap());
    let output = tokio::time::timeout(Duration::from_secs(60), run).await.unwrap().unwrap();
    let report = serde_json::from_slice(&output.stdout).unwrap_or_default();
    (output.status.code().unwrap(), report, String::from_utf8(output.stderr).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_scenario_counts_what_arrives() {
    let running = SOUND.start().await;
    let load = ["--rate", "50", "--seconds", "1"];
    let scenarios: [(&[&str], u64); 6] = [
        (&[&["room"], &load[..]].concat(), 200),
        (&[&["room", "--rooms", "2"], &load[..]].concat(), 100),
        (&["join", "--rooms", "2"], 4),
        (&[&["user"], &load[..]].concat(), 50),
        (&[&["broadcast", "--bytes", "60000"], &load[..]].concat(), 200),
        (&["connect", "--hold", "0"], 4),
    ];
    for (scenario, expected) in scenarios {
        let (code, report, err) = measure(&running, scenario).await;
        assert_eq!((code, err.as_str()), (0, ""), "{scenario:?}: {report}");
        let deliveries = &report["deliveries"];
        assert_eq!((&deliveries["expected"], &deliveries["received"]), (&json!(expected), &json!(expected)));
        let last = &report["latency_us"]["last"];
        assert!(last["max"].as_f64().unwrap() >= last["p50"].as_f64().unwrap());
        assert!(last["p50"].as_f64().unwrap() > 0.0, "{report}");
        assert!(report["processes"][0]["resident_bytes_after"].as_u64().unwrap() > 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_and_repeated_messages_fail_the_run() {
    let running = Platform { copies: 0, ..SOUND }.start().await;
    let (code, report, err) = measure(&running, &["connect", "--hold", "0"]).await;
    assert_eq!((code, &report["deliveries"]["lost"]), (1, &json!(4)));
    assert!(err.contains("4 of 4 deliveries were lost"), "{err}");
    assert_eq!((&report["troubles"][0]["second"], &report["troubles"][0]["lost"]), (&json!(0), &json!(4)));
    let running = Platform { copies: 2, ..SOUND }.start().await;
    let (code, _, err) = measure(&running, &["room", "--rate", "10", "--seconds", "1"]).await;
    assert_eq!(code, 1);
    assert!(err.contains("repeated"), "{err}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_that_end_unasked_fail_the_run() {
    let running = Platform { closes_second: true, ..SOUND }.start().await;
    let (code, report, err) = measure(&running, &["room", "--rate", "10", "--seconds", "1"]).await;
    assert_eq!((code, &report["ended_sessions"]), (1, &json!(2)), "{err}");
    assert!(err.contains("closed with 4002"), "{err}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn joins_that_are_told_to_wait_ask_again_and_every_answer_counts() {
    let running = Platform { refusals: &["RATE_LIMITED", "UNAVAILABLE"], ..SOUND }.start().await;
    let (code, report, err) = measure(&running, &["join", "--rooms", "2"]).await;
    assert_eq!((code, err.as_str()), (0, ""), "{report}");
    let joins = &report["joins"];
    assert_eq!(joins["answers"], json!({"RATE_LIMITED": 4, "UNAVAILABLE": 4, "joined": 4}));
    assert_eq!((&joins["joined"], &joins["not_joined"]), (&json!(4), &json!(0)));
    let waited = joins["latency_us"]["p50"].as_f64().unwrap();
    assert!(waited >= 40_000.0 && joins["seconds_to_last"].as_f64().unwrap() >= waited / 1e6, "{joins}");
    assert!(joins["answer_us"]["p50"].as_f64().unwrap() < waited, "answers are timed one by one: {joins}");

    let running = Platform { refusals: &["ROOM_FULL"], ..SOUND }.start().await;
    let (code, report, err) = measure(&running, &["join"]).await;
    assert_eq!((code, &report["joins"]["not_joined"]), (1, &json!(4)), "{err}");
    assert!(err.contains("4 of 4 sessions did not join (ROOM_FULL"), "{err}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_leaves_no_port_waiting() {
    const TIME_WAIT: &str = "06";
    let running = SOUND.start().await;
    let (code, report, err) = measure(&running, &["connect", "--hold", "0"]).await;
    assert_eq!((code, err.as_str()), (0, ""), "{report}");
    let sockets = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let port = format!(":{:04X}", running.node.port());
    let fields = sockets.lines().map(|line| line.split_ascii_whitespace().collect::<Vec<_>>());
    let own: Vec<_> =
        fields.filter(|socket| socket[1].ends_with(&port) || socket[2].ends_with(&port)).collect();
    assert!(!own.is_empty(), "the listener, at least");
    assert!(own.iter().all(|socket| socket[3] != TIME_WAIT), "{own:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_happened_around_the_pushes_is_reported() {
    let running = Platform { degraded: &["REGISTRY_STALE"], ..SOUND }.start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let metrics = format!("http://{}/metrics", listener.local_addr().unwrap());
    tokio::spawn(async move {
        for reading in 1.. {
            let (mut stream, _) = listener.accept().await.unwrap();
            // Closing with the request unread would reset the connection.
            let read = tokio::io::AsyncReadExt::read(&mut stream, &mut [0; 1_024]).await.unwrap();
            assert!(read > 0);
            let body = format!("# TYPE transactions_total counter\ntransactions_total {}\n", reading * 5);
            let answer = format!("HTTP/1.0 200 OK\r\n\r\n{body}");
            tokio::io::AsyncWriteExt::write_all(&mut stream, answer.as_bytes()).await.unwrap();
        }
    });
    let folder = std::env::temp_dir().join(format!("roomcast-load-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let mut process = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    std::fs::write(folder.join("node.pid"), format!("{}\n", process.id())).unwrap();
    let folder = folder.to_str().unwrap();
    let named = format!("sleeper={}", process.id());
    let around = ["--controller-metrics", &metrics, "--pid-files", folder, "--pid", &named];
    let load = ["room", "--rate", "10", "--seconds", "2", "--late", "60000"];
    let (code, report, err) = measure(&running, &[&load[..], &around[..]].concat()).await;
    process.kill().unwrap();
    process.wait().unwrap();
    std::fs::remove_dir_all(folder).unwrap();
    assert_eq!((code, err.as_str()), (0, ""), "{report}");
    assert_eq!(report["controllers"], json!({"transactions_total": 5}));
    let names: Vec<_> =
        report["processes"].as_array().unwrap().iter().map(|at| at["name"].as_str()).collect();
    assert_eq!(names[..2], [Some("sleeper"), Some("node")]);
    assert_eq!(report["pushes"]["degraded"], json!({"REGISTRY_STALE": 20}));
    let seconds: Vec<_> = report["troubles"].as_array().unwrap().iter().map(|at| &at["degraded"]).collect();
    assert_eq!(seconds, [&json!(10), &json!(10)]);
    let gap = report["longest_gap_ms"].as_f64().unwrap();
    assert!(gap >= 90.0, "pushes come every 100 ms: {gap}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_away_or_elsewhere_is_told_in_one_line() {
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let away = Running { node: address, grpc: address };
    let (code, _, err) = measure(&away, &["room"]).await;
    assert_eq!((code, err.lines().count()), (1, 1), "{err}");
    assert!(err.contains(&address.to_string()), "{err}");
    let elsewhere = Running { node: ([192, 0, 2, 1], 8080).into(), grpc: address };
    let (code, _, err) = measure(&elsewhere, &["room"]).await;
    assert_eq!(code, 1);
    assert!(err.contains("only loopback addresses"), "{err}");
}
