//! Sends pushes when they are due, whatever became of the earlier ones (an open loop).

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use roomcast_client::{Content, ContentType, Error, PushOptions, PushReply, Pusher, Receipt, Wait};
use tokio::{sync::mpsc, task::JoinSet};

use crate::{
    args::Load,
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

/// What became of the pushes.
pub struct Sent {
    pub accepted: u64,
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
    pusher: Arc<Pusher>,
    target: Target,
    load: &Load,
    tally: &Arc<Tally>,
    look: impl Fn(&Receipt),
) -> Result<Sent> {
    let mut sent = Sent {
        accepted: 0,
        incomplete: 0,
        failed: 0,
        degraded: BTreeMap::new(),
        error: None,
        replies: histogram()?,
        lateness: histogram()?,
    };
    let mut due = clock(load.rate, load.rate * load.seconds)?;
    let mut calls = JoinSet::new();
    let mut number = 0;
    let mut is_open = true;
    while is_open || !calls.is_empty() {
        tokio::select! {
            next = due.recv(), if is_open => match next {
                Some(at) => {
                    record(&mut sent.lateness, at.elapsed());
                    let content = tally.content(number, at, load.bytes as usize);
                    let options = if load.ack { acknowledged() } else { PushOptions::default() };
                    calls.spawn(call(Arc::clone(&pusher), target.clone(), number, at, content, options));
                    number += 1;
                }
                None => is_open = false,
            },
            Some(done) = calls.join_next(), if !calls.is_empty() => {
                let (number, latency, reply) = done.context("a push panicked")?;
                if let Some(receipt) = sent.take(number, latency, reply, tally) {
                    look(&receipt);
                }
            }
        }
    }
    Ok(sent)
}

impl Sent {
    fn take(
        &mut self,
        number: u32,
        latency: Duration,
        reply: Result<PushReply, Error>,
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
                self.error.get_or_insert_with(|| error.to_string());
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

async fn call(
    pusher: Arc<Pusher>,
    target: Target,
    number: u32,
    due: Instant,
    content: String,
    options: PushOptions,
) -> (u32, Duration, Result<PushReply, Error>) {
    let content = Content::text(ContentType::Text, content);
    let reply = match target {
        Target::Rooms { prefix, count } => {
            let room_id = format!("{prefix}{}", number % count);
            pusher.push_to_room(&room_id, content, &options).await
        }
        Target::Users { prefix, count } => {
            let user_id = format!("{prefix}{}", rand::random_range(0..count));
            pusher.push_to_user(&user_id, content, &options).await
        }
        Target::All => pusher.broadcast(content, &options).await,
    };
    (number, due.elapsed(), reply)
}
