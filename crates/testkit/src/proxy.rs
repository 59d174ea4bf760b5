//! A way that can break: forwards TCP connections, and delays, holds, throttles, closes, resets or swallows them when told to.
//!
//! Who is dead behind the way stays dead in front of it: while the target refuses connections, the way does so, too.

mod carry;
mod door;
mod pump;
mod settings;
#[cfg(test)]
mod tests;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{net::TcpListener, sync::watch, task::JoinSet};

use self::{
    door::Door,
    settings::{Admission, Flow, Settings, Trap},
};

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From who connects to the target.
    Onward,
    /// From the target to who connected.
    Back,
}

/// Both ways.
pub const BOTH: [Direction; 2] = [Direction::Onward, Direction::Back];

/// On which side of a break the words fall that call for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    /// The target never sees them.
    Arrival,
    /// The target gets them; its answer does not come back.
    Answer,
}

/// Forwards until dropped. All faults can be set and changed while connections are open, and hold until [`Proxy::mend`].
pub struct Proxy {
    settings: watch::Sender<Settings>,
    /// Number of the next connection: a fault of those that are there is one of all below it.
    next: Arc<AtomicU64>,
    /// The listener, which the ways that share it keep together.
    _tasks: Arc<JoinSet<()>>,
}

/// What the acceptor needs of one way.
#[derive(Clone)]
struct Way {
    settings: watch::Receiver<Settings>,
    next: Arc<AtomicU64>,
}

impl Proxy {
    /// Forwards what comes to `from`.
    pub async fn start(from: SocketAddr, to: SocketAddr) -> Self {
        let mut ways = Self::sorted(from, to, 1, |_| 0).await;
        ways.pop().expect("one was asked for")
    }

    /// The same for several ways to one address: `sort` says by the address of who connects which way is its own.
    pub async fn sorted(
        from: SocketAddr,
        to: SocketAddr,
        count: usize,
        sort: impl Fn(SocketAddr) -> usize + Send + Sync + 'static,
    ) -> Vec<Self> {
        let listener = TcpListener::bind(from).await.unwrap_or_else(|error| panic!("{from}: {error}"));
        let senders: Vec<_> = (0..count).map(|_| watch::Sender::new(Settings::default())).collect();
        let ways: Vec<_> =
            senders.iter().map(|sender| Way { settings: sender.subscribe(), next: Arc::default() }).collect();
        let numbers: Vec<_> = ways.iter().map(|way| way.next.clone()).collect();
        let mut tasks = JoinSet::new();
        tasks.spawn(Door::new(from, to).serve(listener, ways, sort));
        let tasks = Arc::new(tasks);
        let shares = senders.into_iter().zip(numbers);
        shares.map(|(settings, next)| Self { settings, next, _tasks: tasks.clone() }).collect()
    }

    /// Each piece takes this much longer, and up to `jitter` more; pieces never overtake each other.
    pub fn delay(&self, direction: Direction, delay: Duration, jitter: Duration, seed: u64) {
        self.flow(direction, |flow| (flow.delay, flow.jitter, flow.seed) = (delay, jitter, seed));
    }

    /// Each connection carries at most this many bytes a second.
    pub fn throttle(&self, direction: Direction, bytes_per_second: u64) {
        self.flow(direction, |flow| flow.bytes_per_second = Some(bytes_per_second.max(1)));
    }

    /// Nothing goes this way until it is released; then everything goes on, as after a pause of the network.
    pub fn hold(&self, direction: Direction) {
        self.flow(direction, |flow| flow.is_held = true);
    }

    /// Ends [`Proxy::hold`] and nothing else.
    pub fn release(&self, direction: Direction) {
        self.flow(direction, |flow| flow.is_held = false);
    }

    /// Each connection is reset when it has carried so many more bytes this way; the last of them still arrives.
    pub fn reset_after(&self, direction: Direction, bytes: u64) {
        self.flow(direction, |flow| flow.reset_after = Some(bytes));
    }

    /// Connections break when these bytes go onward: the target sees the end, who connected a reset.
    pub fn cut_at(&self, bytes: &[u8], before: Before) {
        let trap = Arc::new(Trap { bytes: bytes.to_vec(), before });
        self.settings.send_modify(|settings| settings.trap = Some(trap));
    }

    /// The connections that are there end this way, and go on the other way. What is still sent this way is lost.
    pub fn half_close(&self, direction: Direction) {
        let next = self.next.load(Ordering::SeqCst);
        self.settings.send_modify(|settings| settings.half_closed_before[direction as usize] = next);
    }

    /// The connections that are there are reset; further ones pass.
    pub fn reset(&self) {
        let next = self.next.load(Ordering::SeqCst);
        self.settings.send_modify(|settings| settings.reset_before = next);
    }

    /// The connections that are there end in order; further ones pass.
    pub fn close(&self) {
        let next = self.next.load(Ordering::SeqCst);
        self.settings.send_modify(|settings| settings.closed_before = next);
    }

    /// The connections that are there and further ones are reset.
    pub fn refuse(&self) {
        self.settings.send_modify(|settings| settings.admission = Admission::Reset);
        self.reset();
    }

    /// The connections that are there bring nothing more and stay open; further ones pass. [`Proxy::mend`] ends those
    /// that are held.
    pub fn hold_old(&self) {
        let next = self.next.load(Ordering::SeqCst);
        self.settings.send_modify(|settings| settings.held_before = next);
    }

    /// The connections that are there end; further ones are accepted and bring nothing.
    pub fn cut(&self) {
        self.settings.send_modify(|settings| settings.admission = Admission::Silent);
        self.close();
    }

    /// As if the cable were out: the connections that are there and further ones stay open and bring nothing. After
    /// [`Proxy::mend`] the old ones go on where they were, and the further ones end.
    pub fn part(&self) {
        self.settings.send_modify(|settings| {
            settings.admission = Admission::Silent;
            for flow in &mut settings.flows {
                flow.is_held = true;
            }
        });
    }

    /// No fault any more. Connections that were held for good end.
    pub fn mend(&self) {
        self.settings.send_modify(|settings| {
            let closed_before = settings.closed_before.max(settings.held_before);
            *settings = Settings { closed_before, ..settings.without_faults() };
        });
    }

    /// Connections that came until now.
    pub fn connections(&self) -> u64 {
        self.next.load(Ordering::SeqCst)
    }

    fn flow(&self, direction: Direction, change: impl FnOnce(&mut Flow)) {
        self.settings.send_modify(|settings| change(&mut settings.flows[direction as usize]));
    }
}
