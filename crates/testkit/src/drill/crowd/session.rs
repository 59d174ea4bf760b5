//! A lean session: follows the client protocol over as many connections as it takes, and writes down what its
//! application sees.

use std::{net::SocketAddr, rc::Rc, time::Duration};

use futures_util::future::LocalBoxFuture;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use super::{
    Act, Order, Shared,
    connection::{Connection, Failure, Incoming, Profile, is_final},
    frame::Frame,
    position::Position,
};
use crate::{
    dice::Dice,
    drill::history::{Event, History, Saw, digest},
};

const BACK_OFF_FIRST: Duration = Duration::from_millis(500);
const BACK_OFF_MAX: Duration = Duration::from_secs(20);
/// A connection that stood so long was a good one.
const STABLE: Duration = Duration::from_secs(5);
/// How long a node that does not hear us is waited for.
const PONG_WITHIN: Duration = Duration::from_secs(10);
/// A node that failed is left alone for so long, if there is another.
const SHUNNED: Duration = Duration::from_secs(5);
/// How long the old socket is read after a move.
const RETIRING: Duration = Duration::from_millis(500);

type Opening = LocalBoxFuture<'static, (SocketAddr, Result<Connection, Failure>)>;

/// A session.
pub struct Session {
    index: usize,
    profile: Rc<Profile>,
    shared: Shared,
    orders: watch::Receiver<Order>,
    dice: Dice,
    history: History,
    position: Position,
    current: Option<Live>,
    /// The socket before the current one, read until then: what is on its way there may be on no other.
    retiring: Option<(Connection, Instant)>,
    opening: Option<Opening>,
    /// When the next connection is made.
    retry_at: Option<Instant>,
    attempt: u32,
    shunned: Vec<(SocketAddr, Instant)>,
    /// Sockets that nobody reads any more and nobody closed.
    abandoned: Vec<Connection>,
    /// Nothing is read until then.
    stalled_until: Option<Instant>,
}

struct Live {
    connection: Connection,
    node: SocketAddr,
    since: Instant,
    heard: Instant,
    has_asked: bool,
}

/// What happens next.
enum Next {
    Came(Incoming),
    CameOld(Incoming),
    Opened(SocketAddr, Result<Connection, Failure>),
    Ordered,
    Time,
}

impl Session {
    pub fn new(index: usize, profile: Profile, shared: Shared, orders: watch::Receiver<Order>) -> Self {
        let dice = Dice::new(shared.seed ^ (index as u64).wrapping_mul(0x9e37_79b9));
        let history = History { user: profile.user.clone(), room: profile.room, ..History::default() };
        Self {
            index,
            profile: Rc::new(profile),
            shared,
            orders,
            dice,
            history,
            position: Position::default(),
            current: None,
            retiring: None,
            opening: None,
            retry_at: Some(Instant::now()),
            attempt: 0,
            shunned: Vec::new(),
            abandoned: Vec::new(),
            stalled_until: None,
        }
    }

    /// Until the crowd is told to stop.
    pub async fn run(mut self) -> History {
        self.orders.mark_unchanged();
        loop {
            match self.next().await {
                Next::Came(Incoming::Frame(frame)) => self.take(*frame),
                Next::Came(Incoming::Sign) => self.heard(),
                Next::Came(Incoming::End(code)) => self.lost(code),
                Next::CameOld(Incoming::Frame(frame)) if frame.kind == "push" => self.push(&frame),
                // The new socket brings everything; what the old one brings after a hole would hide that.
                Next::CameOld(Incoming::Frame(frame)) if frame.kind == "gap" => self.retiring = None,
                Next::CameOld(Incoming::End(_)) => self.retiring = None,
                Next::CameOld(_) => {}
                Next::Opened(node, Ok(connection)) => self.opened(node, connection).await,
                Next::Opened(node, Err(failure)) => self.failed(node, failure),
                Next::Ordered => {
                    let order = *self.orders.borrow_and_update();
                    if order.act == Act::Stop {
                        break;
                    }
                    if order.concerns(self.index) {
                        self.obey(order.act);
                    }
                }
                Next::Time => self.on_time().await,
            }
        }
        if let Some(live) = self.current.take() {
            live.connection.close().await;
        }
        self.history
    }

    async fn next(&mut self) -> Next {
        let due = self.due();
        let stalled_until = self.stalled_until;
        let Self { current, retiring, opening, orders, .. } = self;
        tokio::select! {
            biased;
            changed = orders.changed() => match changed {
                Ok(()) => Next::Ordered,
                Err(_) => std::future::pending().await,
            },
            came = async { retiring.as_mut().expect("is checked").0.next().await }, if retiring.is_some() => {
                Next::CameOld(came)
            }
            (node, result) = async { opening.as_mut().expect("is checked").await }, if opening.is_some() => {
                *opening = None;
                Next::Opened(node, result)
            }
            came = async { current.as_mut().expect("is checked").connection.next().await },
                if current.is_some() && stalled_until.is_none() => Next::Came(came),
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => Next::Time,
        }
    }

    fn due(&self) -> Option<Instant> {
        let live = self.current.as_ref().map(|live| {
            let patience = if live.has_asked { PONG_WITHIN } else { Duration::ZERO };
            live.heard + live.connection.ping_interval + patience
        });
        let retry = self.retry_at.filter(|_| self.opening.is_none());
        let retired = self.retiring.as_ref().map(|(_, until)| *until);
        let live = live.filter(|_| self.stalled_until.is_none());
        [live, retry, retired, self.stalled_until].into_iter().flatten().min()
    }

    async fn on_time(&mut self) {
        let now = Instant::now();
        if self.stalled_until.is_some_and(|until| until <= now) {
            self.stalled_until = None;
            self.heard();
        }
        if self.retry_at.is_some_and(|at| at <= now) && self.opening.is_none() {
            self.retry_at = None;
            self.open();
        }
        if let Some((old, _)) = self.retiring.take_if(|(_, until)| *until <= now) {
            old.close().await;
        }
        if self.stalled_until.is_some() {
            return;
        }
        let Some(live) = &mut self.current else { return };
        let silent_from = live.heard + live.connection.ping_interval;
        if live.has_asked && silent_from + PONG_WITHIN <= now {
            self.lost(1006);
        } else if !live.has_asked && silent_from <= now {
            live.has_asked = true;
            live.connection.ping().await;
        }
    }

    fn open(&mut self) {
        let now = Instant::now();
        self.shunned.retain(|(_, until)| *until > now);
        let nodes = &self.shared.nodes;
        let current = self.current.as_ref().map(|live| live.node);
        let is_good = |node: &&SocketAddr| {
            Some(**node) != current && !self.shunned.iter().any(|(shunned, _)| shunned == *node)
        };
        let good: Vec<_> = nodes.iter().filter(is_good).collect();
        let node = match (good.as_slice(), self.history.events.is_empty()) {
            // At first all nodes get as many.
            (_, true) if self.attempt == 0 => nodes[self.index % nodes.len()],
            ([], _) => *self.dice.pick(nodes),
            (good, _) => **self.dice.pick(good),
        };
        let opening = Connection::open(self.profile.clone(), node, self.position.since());
        self.opening = Some(Box::pin(async move { (node, opening.await) }));
    }

    async fn opened(&mut self, node: SocketAddr, mut connection: Connection) {
        let joined = std::mem::take(&mut connection.joined);
        let now = Instant::now();
        let place = (connection.node_id.clone(), connection.session_id.clone());
        *self.shared.places[self.index].lock().unwrap() = Some(place);
        self.retry_at = None;
        let live = Live { connection, node, since: now, heard: now, has_asked: false };
        match self.current.replace(live) {
            Some(old) => self.retiring = Some((old.connection, now + RETIRING)),
            None => self.shared.connected.add(1),
        }
        let index = self.shared.nodes.iter().position(|known| *known == node).unwrap_or_default();
        self.history.nodes.push((self.shared.clock.now(), index as u32));
        self.position.given(joined.position());
        self.note(Saw::Joined { position: joined.position(), recovered: joined.recovered });
    }

    fn failed(&mut self, node: SocketAddr, failure: Failure) {
        self.shunned.push((node, Instant::now() + SHUNNED));
        match failure {
            Failure::Passing(why) => {
                self.shared.failures.lock().unwrap().entry(why).and_modify(|count| *count += 1).or_insert(1);
                self.back_off();
            }
            Failure::Final(code) => self.note(Saw::Ended { code }),
        }
    }

    /// Full jitter under a doubling ceiling.
    fn back_off(&mut self) {
        let ceiling = BACK_OFF_FIRST.saturating_mul(2u32.saturating_pow(self.attempt)).min(BACK_OFF_MAX);
        self.attempt += 1;
        self.retry_at = Some(Instant::now() + self.dice.up_to(ceiling));
    }

    fn heard(&mut self) {
        if let Some(live) = &mut self.current {
            (live.heard, live.has_asked) = (Instant::now(), false);
        }
    }

    fn take(&mut self, frame: Frame) {
        self.heard();
        match frame.kind.as_str() {
            "push" => self.push(&frame),
            "gap" if frame.room_id.is_some() => {
                self.position.given(frame.position());
                self.note(Saw::Gap { position: frame.position() });
            }
            "notice" if frame.reason == "DRAINING" => {
                let after = Duration::from_millis(frame.reconnect_after_ms.unwrap_or_default());
                self.retry_at = Some(Instant::now() + after);
            }
            "left" => self.note(Saw::Ended { code: 0 }),
            _ => {}
        }
    }

    fn push(&mut self, frame: &Frame) {
        let is_ours = frame.room_id.as_deref() == Some(&self.profile.room_id);
        let Some(number) = frame.number().filter(|_| is_ours) else { return self.note(Saw::Foreign) };
        let (id, position) = (digest(&frame.message_id), frame.position());
        if self.position.is_new(id, position) {
            self.shared.messages.add(1);
            self.note(Saw::Message { number, id, position });
        } else {
            self.history.repeats += 1;
        }
    }

    fn lost(&mut self, code: u16) {
        let Some(live) = self.current.take() else { return };
        self.gone();
        if is_final(code) {
            self.note(Saw::Ended { code });
            return;
        }
        self.note(Saw::Lost);
        if live.since.elapsed() > STABLE {
            self.attempt = 0;
        }
        self.shunned.push((live.node, Instant::now() + SHUNNED));
        if self.opening.is_none() && self.retry_at.is_none() {
            self.back_off();
        }
    }

    fn gone(&mut self) {
        self.shared.connected.sub(1);
        *self.shared.places[self.index].lock().unwrap() = None;
    }

    fn obey(&mut self, act: Act) {
        match act {
            Act::Reconnect => {
                if self.current.take().is_some() {
                    self.gone();
                    self.note(Saw::Lost);
                    self.attempt = 0;
                    self.back_off();
                }
            }
            Act::Abandon => {
                if let Some(live) = self.current.take() {
                    self.gone();
                    self.note(Saw::Lost);
                    self.shunned.push((live.node, Instant::now() + SHUNNED));
                    self.abandoned.push(live.connection);
                    self.retry_at = Some(Instant::now());
                }
            }
            Act::Stall(time) => self.stalled_until = Some(Instant::now() + time),
            Act::Nothing | Act::Stop => {}
        }
    }

    fn note(&mut self, saw: Saw) {
        self.history.events.push(Event { ms: self.shared.clock.now(), saw });
    }
}
