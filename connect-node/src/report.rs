//! Reports to the controllers: one stream to one of them, to the next when it fails, and back when it answers again.
//!
//! | what | when |
//! |---|---|
//! | changes | as they come, those that wait together in one message |
//! | versions of the slices, load | with the first reply, then every 2 s |
//! | a slice in full | when asked for, when unsure, and once a minute, spread evenly |

pub mod answer;
pub mod breaker;
pub mod clock;
pub mod controllers;
mod message;
pub mod outbox;
pub mod reads;
mod share;
mod slice;
mod unsent;

use std::{sync::Arc, time::Duration};

use roomcast_proto::pubsub::{
    ControllerReply, NodeHello, NodeReport, controller_service_client::ControllerServiceClient,
};
use roomcast_runtime::Backoff;
use tokio::{
    sync::{Notify, mpsc},
    time::{Instant, MissedTickBehavior, interval, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;

use self::{
    controllers::Controllers,
    outbox::{Consequence, SLICES},
};
use crate::hub::Core;

/// How often the versions are sent; doubles as the heartbeat.
const HEARTBEAT: Duration = Duration::from_secs(2);
/// In what time every slice is sent in full.
const FULL_EVERY: Duration = Duration::from_secs(60);
/// A controller that takes longer for its first reply, or for a message to leave, is left.
const REPLY_TIMEOUT: Duration = Duration::from_secs(2);
/// A controller says something every 500 ms. One that says nothing for this long is frozen or gone, and another one
/// takes its place; one that is slow but answers is kept.
const SILENCE_MAX: Duration = Duration::from_millis(1_500);
/// The same when there is no other: a stream that goes on where it was is worth more than a new one to the same process.
const SILENCE_ALONE_MAX: Duration = Duration::from_secs(5);
/// How often that is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Messages between this task and the wire.
const MESSAGES_WAITING: usize = 8;

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("cannot connect")]
    Connect(#[source] tonic::transport::Error),
    #[error("the stream failed: {}", .0.message())]
    Stream(#[from] tonic::Status),
    #[error("it ended the stream")]
    Ended,
    #[error("it does not answer")]
    Stalled,
}

/// How a stream was left.
enum End {
    Broken(Broken),
    /// For one to this controller, which has answered.
    Moved(String, Opened),
}

/// Keeps a stream to one of the controllers, and shows how it stands. Runs until it is dropped.
pub async fn run(hub: Arc<Core>, controllers: Arc<Controllers>) {
    tokio::join!(keep_linked(&hub, &controllers), show(&hub));
}

async fn show(hub: &Core) {
    let mut ticks = interval(HEARTBEAT / 8);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let (is_open, waiting) = {
            let state = hub.state();
            (state.breaker.is_open(Instant::now()), state.outbox.waiting())
        };
        hub.metrics.controller_refusing.set(f64::from(u8::from(is_open)));
        hub.metrics.controller_waiting.set(waiting as f64);
    }
}

async fn keep_linked(hub: &Arc<Core>, controllers: &Controllers) {
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));
    let mut failed: Option<String> = None;
    let mut moved: Option<(String, Opened)> = None;
    loop {
        let began = Instant::now();
        let (address, opened) = match moved.take() {
            Some((address, opened)) => (address, Ok(opened)),
            None => {
                let Some(address) = controllers.pick(failed.as_deref()) else {
                    failed = None;
                    controllers.wait(Duration::from_millis(500)).await;
                    continue;
                };
                let opened = open(hub, &address).await;
                (address, opened)
            }
        };
        let end = match opened {
            Ok(opened) => serve(hub, controllers, &address, opened).await,
            Err(broken) => End::Broken(broken),
        };
        let was_linked = hub.unlink();
        let broken = match end {
            End::Broken(broken) => broken,
            End::Moved(home, opened) => {
                tracing::info!(from = address, to = home, "the reports move");
                failed = None;
                moved = Some((home, opened));
                continue;
            }
        };
        if began.elapsed() > HEARTBEAT {
            backoff.reset();
        }
        if was_linked {
            tracing::warn!(address, reason = %broken, "the report stream to a controller ended");
        } else {
            tracing::debug!(address, reason = %broken, "a controller does not take reports");
        }
        // Another one is tried at once; only when it fails as well there is something to wait for.
        if failed.is_some() || !controllers.has_other(&address) {
            tokio::time::sleep(backoff.next_wait()).await;
        }
        failed = Some(address);
    }
}

impl Core {
    /// Notes that no controller takes reports; whether one did.
    fn unlink(&self) -> bool {
        self.metrics.report_linked.set(0.0);
        let mut state = self.state();
        let was_linked = state.outbox.is_linked();
        state.outbox.link_down();
        state.breaker.lost(Instant::now());
        was_linked
    }
}

async fn serve(hub: &Arc<Core>, controllers: &Controllers, address: &str, opened: Opened) -> End {
    let link = opened.begin(hub);
    tracing::info!(address, "reporting to a controller");
    hub.metrics.report_linked.set(1.0);
    let sent_away = link.sent_away.clone();
    tokio::select! {
        broken = link.run(|| controllers.has_other(address)) => End::Broken(broken),
        end = find_home(hub, controllers, address) => end,
        end = turn_away(hub, controllers, address, sent_away) => end,
    }
}

/// Waits for another controller that this node belongs to. The stream is left for one that answers only.
async fn find_home(hub: &Core, controllers: &Controllers, address: &str) -> End {
    loop {
        let home = controllers.settled_elsewhere(address).await;
        match open(hub, &home).await {
            Ok(opened) => return End::Moved(home, opened),
            Err(reason) => tracing::debug!(address = home, %reason, "the reports cannot move"),
        }
    }
}

/// Waits until the controller sends this node away, and turns to the next one that answers, at once.
async fn turn_away(
    hub: &Core,
    controllers: &Controllers,
    address: &str,
    sent_away: CancellationToken,
) -> End {
    sent_away.cancelled().await;
    let mut failed: Option<String> = None;
    loop {
        let Some(next) = controllers.instead_of(address, failed.as_deref()) else {
            controllers.wait(LOOK_EVERY).await;
            continue;
        };
        match open(hub, &next).await {
            Ok(opened) => return End::Moved(next, opened),
            Err(reason) => tracing::debug!(address = next, %reason, "the reports cannot move"),
        }
        failed = Some(next);
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// A stream whose controller has answered the hello.
struct Opened {
    up: mpsc::Sender<NodeReport>,
    down: Streaming<ControllerReply>,
    first: ControllerReply,
}

async fn open(hub: &Core, address: &str) -> Result<Opened, Broken> {
    let channel = controllers::connect(address).await.map_err(Broken::Connect)?;
    let mut client = ControllerServiceClient::new(channel)
        .max_decoding_message_size(controllers::MESSAGE_BYTES_MAX)
        .max_encoding_message_size(controllers::MESSAGE_BYTES_MAX);
    let (up, waiting) = mpsc::channel(MESSAGES_WAITING);
    let hello = NodeHello {
        node_id: hub.identity.node_id.to_string(),
        incarnation: hub.identity.incarnation.as_u64(),
    };
    let hello = NodeReport { hello: Some(hello), ..NodeReport::default() };
    up.try_send(hello).expect("the queue was made here, with room for the hello");
    let opened = timeout(REPLY_TIMEOUT, client.report(ReceiverStream::new(waiting))).await;
    let mut down = opened.map_err(|_| Broken::Stalled)??.into_inner();
    let first = timeout(REPLY_TIMEOUT, down.message()).await.map_err(|_| Broken::Stalled)??;
    let first = first.ok_or(Broken::Ended)?;
    Ok(Opened { up, down, first })
}

impl Opened {
    fn begin(self, hub: &Arc<Core>) -> Link {
        let Self { up, down, first } = self;
        {
            let mut state = hub.state();
            state.clock.forget();
            state.breaker.heard(Instant::now());
        }
        let sent_away = CancellationToken::new();
        let link = Link { hub: hub.clone(), up, down, sent_away, next_full: 0, fulls_due: 0.0 };
        link.take(first);
        hub.state().outbox.link_up();
        link
    }
}

/// A stream under way.
struct Link {
    hub: Arc<Core>,
    /// Sender: this task. Receiver: the request's body.
    up: mpsc::Sender<NodeReport>,
    down: Streaming<ControllerReply>,
    /// Cancelled when the controller ends and another one is to be found.
    sent_away: CancellationToken,
    /// The slice whose minute comes next.
    next_full: usize,
    fulls_due: f64,
}

impl Link {
    async fn run(mut self, has_other: impl Fn() -> bool) -> Broken {
        let mut heard_at = Instant::now();
        let wake: Arc<Notify> = self.hub.state().report_wake.clone();
        let mut heartbeat = interval(HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut look = interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let sent = tokio::select! {
                reply = self.down.message() => match reply {
                    Ok(Some(reply)) => {
                        heard_at = Instant::now();
                        self.take(reply);
                        self.send_next().await
                    }
                    Ok(None) => Err(Broken::Ended),
                    Err(status) => Err(Broken::Stream(status)),
                },
                () = wake.notified() => self.send_changes().await,
                _ = heartbeat.tick() => self.beat().await,
                _ = look.tick() => {
                    let silence_max = if has_other() { SILENCE_MAX } else { SILENCE_ALONE_MAX };
                    if heard_at.elapsed() > silence_max { Err(Broken::Stalled) } else { Ok(()) }
                }
            };
            if let Err(broken) = sent {
                return broken;
            }
        }
    }

    fn take(&self, reply: ControllerReply) {
        if reply.draining {
            self.sent_away.cancel();
        }
        let mut lost = Vec::new();
        let mut state = self.hub.state();
        let now = Instant::now();
        state.breaker.heard(now);
        state.clock.observe(reply.store_time_ms, now);
        for result in reply.results {
            if let Consequence::SlotLost(session) = state.outbox.answered(result) {
                lost.push(session);
            }
        }
        for slice in reply.want_slices {
            state.outbox.want(slice);
        }
        drop(state);
        if !lost.is_empty() {
            let hub = self.hub.clone();
            self.hub.tasks.spawn(async move { hub.take_over(lost).await });
        }
    }

    async fn send(&self, report: NodeReport) -> Result<(), Broken> {
        match timeout(REPLY_TIMEOUT, self.up.send(report)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Broken::Ended),
            Err(_) => Err(Broken::Stalled),
        }
    }

    async fn send_changes(&self) -> Result<(), Broken> {
        loop {
            let changes = self.hub.state().changes(Instant::now());
            let Some(changes) = changes else { return Ok(()) };
            self.send(changes).await?;
        }
    }

    /// What an answer made room for, and what it asked for.
    async fn send_next(&self) -> Result<(), Broken> {
        self.send_changes().await?;
        let wanted = self.hub.state().outbox.take_wanted();
        self.send_slices(&wanted).await
    }

    async fn send_slices(&self, slices: &[usize]) -> Result<(), Broken> {
        for slice in slices {
            // Changes first, one slice at a time: nothing that a slice shows is still on its way behind it.
            self.send_changes().await?;
            let messages = self.hub.state().slices(std::slice::from_ref(slice));
            for message in messages {
                self.send(message).await?;
            }
        }
        Ok(())
    }

    async fn beat(&mut self) -> Result<(), Broken> {
        let unsure = self.hub.state().outbox.take_unsure();
        self.send_changes().await?;
        let heartbeat = self.hub.state().heartbeat(self.hub.settings.sessions_max);
        self.send(heartbeat).await?;
        self.send_reads().await?;
        self.send_slices(&unsure).await?;
        let fulls = self.take_fulls();
        self.send_slices(&fulls).await
    }

    /// Nothing answers these: what is lost is made up for by what the same members read next.
    async fn send_reads(&self) -> Result<(), Broken> {
        loop {
            let reads = self.hub.state().reads.take();
            if reads.is_empty() {
                return Ok(());
            }
            self.send(NodeReport { reads, ..NodeReport::default() }).await?;
        }
    }

    /// Slices whose minute has come.
    fn take_fulls(&mut self) -> Vec<usize> {
        self.fulls_due += SLICES as f64 * HEARTBEAT.as_secs_f64() / FULL_EVERY.as_secs_f64();
        let mut fulls = Vec::new();
        while self.fulls_due >= 1.0 {
            self.fulls_due -= 1.0;
            fulls.push(self.next_full);
            self.next_full = (self.next_full + 1) % SLICES;
        }
        fulls
    }
}
