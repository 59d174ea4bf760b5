//! Reads logs and inboxes through a linked push-manager, and tells it what was acknowledged. What waits together travels
//! together, and of equal questions one.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use prost::Message;
use roomcast_proto::pubsub::{
    AckInboxRequest, InboxAck, LogAnswer, LogQuery, ReadLogReply, ReadLogRequest, log_answer, log_query,
    push_manager_service_client::PushManagerServiceClient, room_card,
};
use tokio::{
    sync::{Notify, Semaphore, oneshot},
    time::{Instant, MissedTickBehavior, interval, sleep, timeout_at},
};
use tonic::{
    Response, Status,
    transport::{Channel, Endpoint},
};

use crate::hub::Core;

/// Questions of one call.
const BATCH: usize = 256;
/// Calls at once; while they are under way, questions gather.
const CALLS_MAX: usize = 8;
/// From one call to the next, per kind: a single question goes at once, and what a crowd asks gathers meanwhile. Inboxes
/// are for those who were away for longer, and cost the record a statement a call.
const RECENT_EVERY: Duration = Duration::from_millis(5);
const DURABLE_EVERY: Duration = Duration::from_millis(20);
const INBOXES_EVERY: Duration = Duration::from_millis(100);
/// Questions that may wait; a further one is unanswered.
const WAITING_MAX: usize = 65_536;
/// When the next push-manager is asked as well, and how long all of them together may take.
const NEXT: Duration = Duration::from_millis(250);
const ALL: Duration = Duration::from_millis(2_500);
/// When a question that nobody could answer is asked again, as long as there is time.
const AGAIN: Duration = Duration::from_millis(200);
/// How long a connection may take.
const CONNECT: Duration = Duration::from_millis(250);
/// Answers hold parts of logs.
const REPLY_BYTES_MAX: usize = 64 << 20;

type Client = PushManagerServiceClient<Channel>;

/// See the module.
#[derive(Default)]
pub struct Reader {
    /// For the shared memory and for the record: one that hangs must not keep answers of the other away.
    recent: Queue,
    durable: Queue,
    inboxes: Queue,
    links: Mutex<Links>,
}

/// What a question does that no push-manager takes: none is linked, or none answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unlinked {
    /// It is unanswered: whoever asks is held up.
    Fails,
    /// It is asked again: behind a standstill of this node no push-manager is linked for a moment, and nobody is to be
    /// told of a gap for that.
    Waits,
}

/// What waits for one kind of store.
#[derive(Default)]
struct Queue {
    waiting: Mutex<Vec<Ask>>,
    acks: Mutex<Vec<InboxAck>>,
    wake: Notify,
}

struct Ask {
    query: LogQuery,
    unlinked: Unlinked,
    /// Until when it is asked again.
    until: Instant,
    /// Receiver: whoever asked; it may have gone.
    answer: oneshot::Sender<LogAnswer>,
}

#[derive(Default)]
struct Links {
    clients: HashMap<String, Client>,
    /// The address that answered last is asked first.
    preferred: String,
}

impl Reader {
    /// Asks; `None` when no push-manager answers, or the store behind it does not. Takes a few seconds at most.
    pub async fn ask(&self, query: LogQuery, unlinked: Unlinked) -> Option<LogAnswer> {
        let (answer, answered) = oneshot::channel();
        let queue = self.queue(&query);
        {
            let mut waiting = lock(&queue.waiting);
            if waiting.len() >= WAITING_MAX {
                return None;
            }
            waiting.push(Ask { query, unlinked, until: Instant::now() + ALL, answer });
        }
        queue.wake.notify_one();
        answered.await.ok()
    }

    fn queue(&self, query: &LogQuery) -> &Queue {
        match query.log {
            Some(log_query::Log::InboxUserId(_)) => &self.inboxes,
            _ if query.policy() == room_card::Log::DurableLog => &self.durable,
            _ => &self.recent,
        }
    }

    fn clients(&self, addresses: &[String]) -> Vec<(String, Client)> {
        let mut links = lock(&self.links);
        links.clients.retain(|address, _| addresses.contains(address));
        let mut clients: Vec<_> = addresses
            .iter()
            .filter_map(|address| {
                if let Some(client) = links.clients.get(address) {
                    return Some((address.clone(), client.clone()));
                }
                let client = connect(address)?;
                links.clients.insert(address.clone(), client.clone());
                Some((address.clone(), client))
            })
            .collect();
        clients.sort_by_key(|(address, _)| *address != links.preferred);
        clients
    }

    /// Asks one push-manager, and after a while without an answer the next one as well; the first answer counts. One
    /// that is slow may answer after all: a client that hears nothing has to be told that messages are missing.
    async fn call<R, F>(&self, hub: &Core, call: impl Fn(Client) -> F) -> Option<R>
    where
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let mut clients = self.clients(&hub.linked_managers()).into_iter();
        let mut calls = FuturesUnordered::new();
        let end = Instant::now() + ALL;
        loop {
            if let Some((address, client)) = clients.next() {
                let call = call(client);
                calls.push(async move { (address, call.await) });
            }
            let until = if clients.len() > 0 { (Instant::now() + NEXT).min(end) } else { end };
            match timeout_at(until, calls.next()).await {
                Ok(Some((address, Ok(reply)))) => {
                    lock(&self.links).preferred = address;
                    return Some(reply.into_inner());
                }
                Ok(Some((address, Err(status)))) => {
                    tracing::debug!(address, error = status.message(), "a push-manager read no log");
                }
                // Nobody is left to answer.
                Ok(None) => break,
                Err(_) if Instant::now() >= end => break,
                Err(_) => lock(&self.links).preferred.clear(),
            }
        }
        hub.metrics.log_reads_unanswered.increment(1);
        None
    }

    /// Asks again what got no answer, while there is time: whoever gets none has to be told that messages are missing.
    async fn read(&self, hub: &Core, mut asks: Vec<Ask>) {
        loop {
            asks = self.read_once(hub, asks).await;
            let again = Instant::now() + AGAIN;
            asks.retain(|ask| again < ask.until && !ask.answer.is_closed());
            if asks.is_empty() {
                return;
            }
            sleep(AGAIN).await;
        }
    }

    /// Gives back those to ask again: that a store did not answer, and those that wait for a push-manager.
    async fn read_once(&self, hub: &Core, asks: Vec<Ask>) -> Vec<Ask> {
        let mut queries: Vec<LogQuery> = Vec::with_capacity(asks.len());
        let mut places = HashMap::new();
        let mut place = |ask: &Ask| {
            *places.entry(ask.query.encode_to_vec()).or_insert_with(|| {
                queries.push(ask.query.clone());
                queries.len() - 1
            })
        };
        let asked: Vec<usize> = asks.iter().map(&mut place).collect();
        hub.metrics.log_reads.increment(queries.len() as u64);
        let request = ReadLogRequest { queries };
        let reply = self
            .call(hub, |mut client| {
                let request = request.clone();
                async move { client.read_log(request).await }
            })
            .await;
        let Some(ReadLogReply { answers }) = reply else {
            return asks.into_iter().filter(|ask| ask.unlinked == Unlinked::Waits).collect();
        };
        let is_answer = |answer: &&LogAnswer| answer.state() != log_answer::State::Unavailable;
        let mut unanswered = Vec::new();
        for (ask, place) in asks.into_iter().zip(asked) {
            match answers.get(place).filter(is_answer) {
                // Who asked may have gone.
                Some(answer) => drop(ask.answer.send(answer.clone())),
                None => unanswered.push(ask),
            }
        }
        unanswered
    }

    /// A user's session acknowledged messages of the inbox. What nobody takes comes again with the next connection.
    pub fn acknowledge(&self, ack: InboxAck) {
        let mut acks = lock(&self.inboxes.acks);
        if acks.len() < WAITING_MAX {
            acks.push(ack);
            self.inboxes.wake.notify_one();
        }
    }

    async fn tell(&self, hub: &Core, acks: Vec<InboxAck>) {
        let request = AckInboxRequest { acks };
        let told = self
            .call(hub, |mut client| {
                let request = request.clone();
                async move { client.ack_inbox(request).await }
            })
            .await;
        if told.is_none() {
            tracing::debug!("acknowledgements of inbox messages reached no push-manager");
        }
    }
}

impl Queue {
    fn is_empty(&self) -> bool {
        lock(&self.waiting).is_empty() && lock(&self.acks).is_empty()
    }

    fn take(&self) -> (Vec<Ask>, Vec<InboxAck>) {
        (take(&mut lock(&self.waiting)), take(&mut lock(&self.acks)))
    }
}

/// Carries the questions; runs until it is dropped.
pub async fn run(hub: Arc<Core>) {
    tokio::join!(
        carry(&hub, RECENT_EVERY, |reader| &reader.recent),
        carry(&hub, DURABLE_EVERY, |reader| &reader.durable),
        carry(&hub, INBOXES_EVERY, |reader| &reader.inboxes),
    );
}

async fn carry(hub: &Arc<Core>, every: Duration, queue: impl Fn(&Reader) -> &Queue) {
    let places = Arc::new(Semaphore::new(CALLS_MAX));
    let mut ticks = interval(every);
    // After a pause the next call goes at once.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        while queue(&hub.reader).is_empty() {
            queue(&hub.reader).wake.notified().await;
        }
        ticks.tick().await;
        let (asks, acks) = queue(&hub.reader).take();
        let caller = hub.clone();
        hub.tasks.spawn(async move {
            if !acks.is_empty() {
                caller.reader.tell(&caller, acks).await;
            }
            if !asks.is_empty() {
                caller.reader.read(&caller, asks).await;
            }
            drop(place);
        });
    }
}

fn take<T>(waiting: &mut Vec<T>) -> Vec<T> {
    let count = waiting.len().min(BATCH);
    waiting.drain(..count).collect()
}

fn connect(address: &str) -> Option<Client> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).ok()?;
    let channel = endpoint.tcp_nodelay(true).connect_timeout(CONNECT).connect_lazy();
    Some(Client::new(channel).max_decoding_message_size(REPLY_BYTES_MAX))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
