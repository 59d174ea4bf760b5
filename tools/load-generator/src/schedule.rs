//! Sends pushes when they are due, whatever became of the earlier ones (an open loop), or so many at once (a closed one).

use std::{
    collections::BTreeMap,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use futures_util::{StreamExt, stream::FuturesUnordered};
use hdrhistogram::Histogram;
use roomcast_client::{Content, ContentType, PushOptions, PushReply, PushStream, Pusher, Receipt, Wait};
use tokio::{sync::mpsc, time::sleep_until};

use crate::{
    args::{Common, Load, Way},
    floor::Floor,
    http::Http,
    tally::{Mark, Tally, histogram, record},
};

/// Pushes that may wait to be sent; more mean that this machine cannot keep the rate.
const WAITING_MAX: usize = 4_096;
/// How long a push waits for acknowledgements: the longest that a push-manager takes.
const ACKS_WAIT: Duration = Duration::from_secs(30);
/// Before the first push is due.
const LEAD: Duration = Duration::from_millis(50);

/// Whom the pushes are for.
#[derive(Debug, Clone)]
pub enum Target {
    /// So many rooms in turn; their ids are the prefix and a number.
    Rooms {
        prefix: String,
        count: u32,
    },
    /// One of so many users, at random; their ids are the prefix and a number.
    Users {
        prefix: String,
        count: u32,
    },
    All,
}

/// How pushes travel.
pub enum Publisher {
    /// A call for each.
    Calls(Arc<Pusher>),
    Stream(PushStream),
    Http(Http),
    Floor(Floor),
}

/// When pushes are made.
pub enum Pace {
    /// So many of them, at the rate of the load.
    Rate { pushes: u32 },
    /// So many at once, until then, or until there were so many.
    Window { at_once: u32, end: Instant, pushes: u32 },
}

/// What became of the pushes.
pub struct Sent {
    pub accepted: u64,
    /// From the first push to the last reply.
    pub time: Duration,
    /// Accepted, but `complete` was false.
    pub incomplete: u64,
    pub failed: u64,
    /// How many replies named what does without.
    pub degraded: BTreeMap<String, u64>,
    /// The first failure.
    pub error: Option<String>,
    /// From the time due to the reply.
    pub replies: Histogram<u64>,
    /// From the time due to the sending: what this process adds.
    pub lateness: Histogram<u64>,
}

/// Sends all pushes of a load and waits for their replies; `look` sees each receipt as it comes.
pub async fn run(
    publisher: Publisher,
    target: &Target,
    load: &Load,
    pace: Pace,
    tally: &Arc<Tally>,
    look: impl Fn(&Receipt),
) -> Result<Sent> {
    let began = Instant::now();
    let mut sent = Sent {
        accepted: 0,
        time: Duration::ZERO,
        incomplete: 0,
        failed: 0,
        degraded: BTreeMap::new(),
        error: None,
        replies: histogram()?,
        lateness: histogram()?,
    };
    let options = if load.ack { acknowledged() } else { PushOptions::default() };
    let (at_once, end, pushes_max) = match pace {
        Pace::Rate { pushes } => (usize::MAX, None, pushes),
        Pace::Window { at_once, end, pushes } => (at_once as usize, Some(end), pushes),
    };
    let mut due = match end {
        None => Some(clock(load.rate, pushes_max)?),
        Some(_) => None,
    };
    let mut over = pin!(async {
        match end {
            Some(end) => sleep_until(end.into()).await,
            None => std::future::pending().await,
        }
    });
    let mut calls = FuturesUnordered::new();
    let (mut number, mut is_open) = (0, true);
    while is_open || !calls.is_empty() {
        let next = async {
            match &mut due {
                Some(due) => due.recv().await,
                None => Some(Instant::now()),
            }
        };
        tokio::select! {
            () = &mut over, if is_open => is_open = false,
            Some((number, latency, reply)) = calls.next(), if !calls.is_empty() => {
                if let Some(receipt) = sent.take(number, latency, reply, tally) {
                    look(&receipt);
                }
            }
            next = next, if is_open && calls.len() < at_once => match next {
                Some(at) if number < pushes_max => {
                    record(&mut sent.lateness, at.elapsed());
                    let content = tally.content(number, at, load.bytes as usize);
                    calls.push(publisher.push(target, number, at, content, &options));
                    number += 1;
                }
                _ => is_open = false,
            },
        }
    }
    sent.time = began.elapsed();
    Ok(sent)
}

impl Pace {
    /// As a load says; its closed loop begins now.
    pub fn new(load: &Load, pushes: u32) -> Self {
        match load.window {
            None => Self::Rate { pushes },
            Some(at_once) => {
                let end = Instant::now() + Duration::from_secs(load.seconds.into());
                Self::Window { at_once, end, pushes }
            }
        }
    }
}

impl Publisher {
    /// Opens what is wanted: a connection to the floor, or a stream.
    pub async fn open(pusher: &Arc<Pusher>, way: Way, common: &Common) -> Result<Self> {
        Ok(match &common.floor {
            Some(address) => Self::Floor(Floor::connect(address).await?),
            None if way.stream => {
                Self::Stream(pusher.stream().await.context("no stream of pushes can be opened")?)
            }
            None if way.http => Self::Http(Http::new(&common.push_manager, way.http_connections.into())),
            None => Self::Calls(Arc::clone(pusher)),
        })
    }

    async fn push(
        &self,
        target: &Target,
        number: u32,
        due: Instant,
        data: String,
        options: &PushOptions,
    ) -> (u32, Duration, Result<PushReply>) {
        let reply = match target {
            Target::Rooms { prefix, count } => {
                self.push_to_room(&format!("{prefix}{}", number % count), data, options).await
            }
            Target::Users { prefix, count } => {
                let user_id = format!("{prefix}{}", rand::random_range(0..*count));
                self.push_to_user(&user_id, data, options).await
            }
            Target::All => self.push_to_all(data, options).await,
        };
        (number, due.elapsed(), reply)
    }

    async fn push_to_room(&self, room_id: &str, data: String, options: &PushOptions) -> Result<PushReply> {
        Ok(match self {
            Self::Calls(pusher) => pusher.push_to_room(room_id, text(data), options).await?,
            Self::Stream(stream) => stream.push_to_room(room_id, text(data), options).await?,
            Self::Http(http) => http.push(&format!("room/{room_id}"), &data).await?,
            Self::Floor(floor) => floor.push(&format!("room_id={room_id}"), &data).await?,
        })
    }

    async fn push_to_user(&self, user_id: &str, data: String, options: &PushOptions) -> Result<PushReply> {
        Ok(match self {
            Self::Calls(pusher) => pusher.push_to_user(user_id, text(data), options).await?,
            Self::Stream(stream) => stream.push_to_user(user_id, text(data), options).await?,
            Self::Http(http) => http.push(&format!("user/{user_id}"), &data).await?,
            Self::Floor(floor) => floor.push(&format!("user_id={user_id}"), &data).await?,
        })
    }

    async fn push_to_all(&self, data: String, options: &PushOptions) -> Result<PushReply> {
        Ok(match self {
            Self::Calls(pusher) => pusher.broadcast(text(data), options).await?,
            Self::Stream(stream) => stream.broadcast(text(data), options).await?,
            Self::Http(http) => http.push("broadcast", &data).await?,
            Self::Floor(floor) => floor.push("client_id=load", &data).await?,
        })
    }
}

fn text(data: String) -> Content {
    Content::text(ContentType::Text, data)
}

impl Sent {
    fn take(
        &mut self,
        number: u32,
        latency: Duration,
        reply: Result<PushReply>,
        tally: &Tally,
    ) -> Option<Receipt> {
        match reply {
            Ok(reply) => {
                tally.mark(number, Mark::Accepted);
                record(&mut self.replies, latency);
                let receipt = reply.receipt.unwrap_or_default();
                self.accepted += 1;
                if !receipt.complete {
                    self.incomplete += 1;
                    tally.mark(number, Mark::Incomplete);
                }
                if !reply.degraded.is_empty() {
                    tally.mark(number, Mark::Degraded);
                }
                for what in reply.degraded {
                    *self.degraded.entry(what).or_default() += 1;
                }
                Some(receipt)
            }
            Err(error) => {
                self.failed += 1;
                tally.mark(number, Mark::Failed);
                self.error.get_or_insert_with(|| format!("{error:#}"));
                None
            }
        }
    }
}

/// A thread that tells when pushes are due: the runtime's own timer is a millisecond coarse.
fn clock(rate: u32, count: u32) -> Result<mpsc::Receiver<Instant>> {
    let (tell, due) = mpsc::channel(WAITING_MAX);
    let start = Instant::now() + LEAD;
    let tick = move || {
        for number in 0..count {
            let at = start + Duration::from_secs_f64(f64::from(number) / f64::from(rate));
            std::thread::sleep(at.saturating_duration_since(Instant::now()));
            // Waiting for a place delays the rest, and the lateness shows it.
            if tell.blocking_send(at).is_err() {
                return;
            }
        }
    };
    std::thread::Builder::new().name("clock".into()).spawn(tick).context("the clock does not start")?;
    Ok(due)
}

/// Answered when every session has acknowledged it.
fn acknowledged() -> PushOptions {
    let (wait_for, deadline) = (Some(ACKS_WAIT), Some(ACKS_WAIT + Duration::from_secs(1)));
    PushOptions { wait: Wait::Acked, wait_for, deadline, ..PushOptions::default() }
}
