//! Pushes at a fixed rate into all rooms in turn, through several push-managers, and writes down what it was told.
//!
//! Each push has an idempotency key and is tried again, at the next push-manager, until it is answered for good: as a
//! business server does that must not lose a message.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use roomcast_proto::pubsub::{
    Content, PushOptions, PushReply, PushToRoomRequest, push_manager_service_client::PushManagerServiceClient,
};
use tokio::{
    sync::Semaphore,
    task::{JoinHandle, JoinSet},
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};

use super::{
    crowd::{Clock, frame::data, room_id},
    history::{Accepted, Answer, At, Push, digest},
};

/// How long one attempt may take: a push-manager answers within a second, on a machine that is not too busy.
const ATTEMPT: Duration = Duration::from_secs(3);
/// How long a push is tried: keys are remembered for longer.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(100);
/// Pushes under way at once; a further one waits.
const UNDER_WAY_MAX: usize = 5_000;

/// What is pushed.
#[derive(Debug, Clone)]
pub struct Plan {
    /// gRPC addresses.
    pub push_managers: Vec<SocketAddr>,
    /// Rooms, by number.
    pub rooms: usize,
    /// Pushes a second, all rooms together.
    pub rate: u32,
    /// Size of a message.
    pub bytes: usize,
}

/// A publisher at work.
pub struct Publisher {
    end: CancellationToken,
    task: JoinHandle<Vec<Push>>,
}

impl Publisher {
    /// Begins.
    pub fn start(plan: Plan, clock: Clock) -> Self {
        let end = CancellationToken::new();
        let task = tokio::spawn(publish(plan, clock, end.clone()));
        Self { end, task }
    }

    /// Begins no more pushes, waits for those under way; all of them, by number.
    pub async fn stop(self) -> Vec<Push> {
        self.end.cancel();
        let mut pushes = self.task.await.expect("no panic");
        pushes.sort_by_key(|push| push.number);
        pushes
    }
}

async fn publish(plan: Plan, clock: Clock, end: CancellationToken) -> Vec<Push> {
    let channels: Vec<Channel> = plan.push_managers.iter().map(|address| channel(*address)).collect();
    let (channels, places) = (Arc::new(channels), Arc::new(Semaphore::new(UNDER_WAY_MAX)));
    let run = digest(&format!("{:?}", std::time::SystemTime::now()));
    let every = Duration::from_secs(1) / plan.rate;
    let (mut under_way, mut pushes, mut due) = (JoinSet::new(), Vec::new(), Instant::now());
    for number in 0.. {
        tokio::select! {
            () = end.cancelled() => break,
            () = sleep_until(due) => {}
        }
        due += every;
        let place = places.clone().acquire_owned().await.expect("is not closed");
        let (channels, room) = (channels.clone(), number as usize % plan.rooms);
        let request = PushToRoomRequest {
            room_id: room_id(room),
            content: Some(Content { data: data(number, plan.bytes).into(), ..Content::default() }),
            options: Some(PushOptions {
                idempotency_key: format!("{run:x}-{number}"),
                ..PushOptions::default()
            }),
        };
        // Each room is pushed to through each push-manager in turn.
        let first = (number as usize + number as usize / plan.rooms) % channels.len();
        under_way.spawn(async move {
            let push = push(number, room as u32, request, &channels, first, clock).await;
            drop(place);
            push
        });
        while let Some(done) = under_way.try_join_next() {
            pushes.push(done.expect("no panic"));
        }
    }
    pushes.extend(under_way.join_all().await);
    pushes
}

fn channel(address: SocketAddr) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address has no name");
    endpoint.connect_timeout(Duration::from_secs(1)).tcp_nodelay(true).connect_lazy()
}

async fn push(
    number: u32,
    room: u32,
    request: PushToRoomRequest,
    channels: &[Channel],
    first: usize,
    clock: Clock,
) -> Push {
    let (sent_ms, begun) = (clock.now(), Instant::now());
    let mut attempts = 0;
    let answer = loop {
        let manager = (first + attempts as usize) % channels.len();
        attempts += 1;
        let mut client = PushManagerServiceClient::new(channels[manager].clone());
        let replied = timeout(ATTEMPT, client.push_to_room(request.clone())).await;
        let why = match replied {
            Ok(Ok(reply)) => break Answer::Accepted(accepted(reply.into_inner(), manager as u32)),
            Ok(Err(status)) if !is_passing(&status) => break Answer::Refused(status.to_string()),
            Ok(Err(status)) => status.to_string(),
            Err(_) => format!("no answer within {ATTEMPT:?}"),
        };
        if begun.elapsed() > PATIENCE {
            break Answer::Unknown(why);
        }
        sleep(PAUSE).await;
    };
    Push { number, room, sent_ms, answered_ms: clock.now(), attempts, answer }
}

/// Whether another attempt may be better: nobody took it, or nobody answered.
fn is_passing(status: &Status) -> bool {
    let codes = [Code::Unavailable, Code::Cancelled, Code::DeadlineExceeded, Code::Unknown, Code::Internal];
    // What the connection came to is no answer, whatever its code.
    codes.contains(&status.code()) || std::error::Error::source(status).is_some()
}

fn accepted(reply: PushReply, manager: u32) -> Accepted {
    let receipt = reply.receipt.unwrap_or_default();
    let nodes = receipt.nodes.unwrap_or_default();
    let sum: u64 = receipt.outcomes.values().sum();
    let reached = ["WRITTEN", "ACKED"].map(|name| receipt.outcomes.get(name).copied().unwrap_or(0));
    let written = reached.iter().sum();
    let epoch = u64::from_str_radix(&reply.epoch, 16).ok();
    let position = epoch.filter(|_| reply.logged).map(|epoch| At { epoch, offset: reply.offset });
    Accepted {
        id: digest(&reply.message_id),
        manager,
        position,
        targets: receipt.targets,
        pending: receipt.pending,
        written,
        lost: sum - written,
        is_doubtful: nodes.unreachable > 0 || nodes.blind > 0,
        is_complete: receipt.complete,
    }
}
