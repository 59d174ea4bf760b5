//! Thousands of WebSocket sessions in one process, each of which writes down what its application saw.

mod connection;
pub(crate) mod frame;
mod position;
mod product;
mod session;

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use rustix::{process::setpriority_process, thread::gettid};
use tokio::{sync::watch, task::LocalSet};

use self::{connection::Profile, session::Session};
use super::history::History;

/// Sessions from one address, which has some 28,000 ports.
const SESSIONS_PER_SOURCE: usize = 2_500;
/// Between the first connections of one thread: all at once would be another scenario.
const START_EVERY: Duration = Duration::from_micros(500);

/// Clients are machines of their own: here, they do not queue behind the servers for a core.
const PRIORITY: i32 = -10;

/// One in so many sessions has a proxy before its node.
pub const PROXIED_EVERY: usize = 10;

/// Milliseconds since the begin of a run.
#[derive(Debug, Clone, Copy)]
pub struct Clock(Instant);

impl Clock {
    /// Begins now.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Since then.
    pub fn now(&self) -> u32 {
        u32::try_from(self.0.elapsed().as_millis()).unwrap_or(u32::MAX)
    }
}

/// What sessions are told to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Go on.
    Nothing,
    /// Drop the socket and connect anew.
    Reconnect,
    /// Leave the socket open, read it no more, and connect to another node at once: gone without a FIN.
    Abandon,
    /// Read nothing for this long.
    Stall(Duration),
    /// Close, and give the histories.
    Stop,
}

/// An act of one in `every` sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Order {
    act: Act,
    every: usize,
    offset: usize,
}

impl Order {
    fn concerns(&self, index: usize) -> bool {
        index % self.every == self.offset
    }
}

/// A number that threads count up and down together.
#[derive(Debug, Clone, Default)]
pub struct Count(Arc<AtomicI64>);

impl Count {
    fn add(&self, count: i64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    fn sub(&self, count: i64) {
        self.add(-count);
    }

    /// As it is now.
    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Node and session id, while connected.
type Places = Arc<Vec<Mutex<Option<(String, String)>>>>;

/// What all sessions share.
#[derive(Clone)]
struct Shared {
    clock: Clock,
    seed: u64,
    nodes: Arc<Vec<SocketAddr>>,
    places: Places,
    connected: Count,
    messages: Count,
    failures: Arc<Mutex<BTreeMap<String, u64>>>,
}

/// Which implementation of a client the sessions are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kind {
    /// One that costs little.
    #[default]
    Lean,
    /// The product's own, `roomcast_client::Subscriber`.
    Product,
}

/// What a crowd is made of.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How many sessions, each of a user of its own.
    pub sessions: usize,
    /// How many rooms they are spread over, in turn.
    pub rooms: usize,
    /// Client ports of the nodes.
    pub nodes: Vec<SocketAddr>,
    /// The same behind proxies, in the same order: one in [`PROXIED_EVERY`] sessions goes there. None: no session does.
    pub proxied: Vec<SocketAddr>,
    /// Threads that hold them.
    pub threads: usize,
    /// Of their jitter.
    pub seed: u64,
    /// Which client.
    pub kind: Kind,
}

/// The crowd.
pub struct Crowd {
    threads: Vec<JoinHandle<Vec<History>>>,
    orders: watch::Sender<Order>,
    shared: Shared,
    plan: Plan,
}

/// The id of a room by its number.
pub fn room_id(room: usize) -> String {
    format!("room-{room:03}")
}

/// The user of a session by its number.
pub fn user_id(session: usize) -> String {
    format!("user-{session:05}")
}

impl Crowd {
    /// Starts connecting.
    pub fn start(plan: Plan, clock: Clock) -> Self {
        let orders = watch::Sender::new(Order { act: Act::Nothing, every: 1, offset: 0 });
        let shared = Shared {
            clock,
            seed: plan.seed,
            nodes: Arc::new(plan.nodes.clone()),
            places: Arc::new((0..plan.sessions).map(|_| Mutex::default()).collect()),
            connected: Count::default(),
            messages: Count::default(),
            failures: Arc::default(),
        };
        let threads = (0..plan.threads).map(|thread| {
            let (plan, shared, orders) = (plan.clone(), shared.clone(), orders.subscribe());
            let name = format!("crowd-{thread}");
            let run = move || run(thread, &plan, &shared, &orders);
            std::thread::Builder::new().name(name).spawn(run).expect("a thread")
        });
        Self { threads: threads.collect(), orders, shared, plan }
    }

    /// Has one in `every` sessions do something.
    pub fn order(&self, act: Act, every: usize, offset: usize) {
        self.orders.send_replace(Order { act, every, offset });
    }

    /// How many sessions there are.
    pub fn sessions(&self) -> usize {
        self.plan.sessions
    }

    /// How many rooms they are in.
    pub fn rooms(&self) -> usize {
        self.plan.rooms
    }

    /// Sessions whose room is joined.
    pub fn connected(&self) -> usize {
        usize::try_from(self.shared.connected.get()).unwrap_or(0)
    }

    /// Messages that applications got.
    pub fn messages(&self) -> i64 {
        self.shared.messages.get()
    }

    /// Why connections could not be made, and how often.
    pub fn failures(&self) -> BTreeMap<String, u64> {
        self.shared.failures.lock().unwrap().clone()
    }

    /// Node and session id of every session that is connected, by its number.
    pub fn places(&self) -> Vec<Option<(String, String)>> {
        self.shared.places.iter().map(|place| place.lock().unwrap().clone()).collect()
    }

    /// Waits until all sessions are connected; how many are when `limit` passes.
    pub async fn all_connected(&self, limit: Duration) -> Result<(), usize> {
        let deadline = Instant::now() + limit;
        while self.connected() < self.sessions() {
            if Instant::now() > deadline {
                return Err(self.connected());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// Ends all sessions; what they saw, by number.
    pub async fn stop(self) -> Vec<History> {
        self.orders.send_replace(Order { act: Act::Stop, every: 1, offset: 0 });
        let threads = self.threads;
        let joining =
            move || threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect();
        let mut histories: Vec<History> = tokio::task::spawn_blocking(joining).await.expect("no panic");
        histories.sort_by(|a, b| a.user.cmp(&b.user));
        histories
    }
}

/// One thread with its part of the sessions.
fn run(thread: usize, plan: &Plan, shared: &Shared, orders: &watch::Receiver<Order>) -> Vec<History> {
    // Fails without the right to do so; then the times are a little worse than what clients of other machines would see.
    let _ = setpriority_process(Some(gettid()), PRIORITY);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    LocalSet::new().block_on(&runtime, async {
        let mut sessions = Vec::new();
        for index in (thread..plan.sessions).step_by(plan.threads) {
            let (profile, shared, orders) = (profile(index, plan), shared.clone(), orders.clone());
            sessions.push(match plan.kind {
                Kind::Lean => tokio::task::spawn_local(Session::new(index, profile, shared, orders).run()),
                Kind::Product => tokio::task::spawn_local(product::run(index, profile, shared, orders)),
            });
            tokio::time::sleep(START_EVERY).await;
        }
        let mut histories = Vec::new();
        for session in sessions {
            histories.push(session.await.expect("no panic"));
        }
        histories
    })
}

fn profile(index: usize, plan: &Plan) -> Profile {
    let room = index % plan.rooms;
    // Sessions that follow each other are in different rooms and on different nodes.
    let is_proxied = (index / plan.rooms).is_multiple_of(PROXIED_EVERY);
    let doors = plan.nodes.iter().copied().zip(plan.proxied.iter().copied());
    let number = u8::try_from(index / SESSIONS_PER_SOURCE + 1).expect("less than 600,000 sessions");
    Profile {
        user: user_id(index),
        client_id: "drill".to_owned(),
        room_id: room_id(room),
        room: room as u32,
        source: Ipv4Addr::new(127, 0, 4, number),
        doors: if is_proxied { doors.collect() } else { Vec::new() },
    }
}
