//! The task of one lane: dials, greets, reads what comes up, and decides when the node is dead.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use roomcast_proto::pubsub::{LaneHello, LaneHelloReply, LaneUp, up_item::Item};
use roomcast_runtime::Backoff;
use roomcast_types::Incarnation;
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval, sleep},
};
use tonic::Streaming;

use super::{
    Context, Downstream, Lane, Phase, Stance,
    dial::{DialError, dial, first_message},
    interest::Held,
};
use crate::{push::Loss, routes::NodeIndex};

/// Waits between two dials.
const REDIAL_FIRST: Duration = Duration::from_millis(50);
const REDIAL_MAX: Duration = Duration::from_secs(2);
/// A node whose lease ended and that is silent for this long is dead.
const SILENT_MAX: Duration = Duration::from_secs(10);

/// How long outcomes wait to be acknowledged with a push: alone it would wake the node once more a push.
const ACK_WAIT: Duration = Duration::from_millis(20);

/// A lane that breaks sooner is dialled after a wait: a node that accepts and drops must not keep us busy.
const LASTED: Duration = Duration::from_millis(500);

/// Where a node is, as the registry says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// host:port of its gRPC interface.
    pub address: String,
    /// Which life of it.
    pub incarnation: Incarnation,
    /// Whether its registration stands.
    pub is_listed: bool,
    /// So many registrations vanished at once that their absence says nothing.
    pub is_suspended: bool,
}

/// Why a connection ended, or did not begin.
#[derive(Debug)]
enum Ended {
    /// Nobody listens there any more.
    Refused,
    /// No lane came about.
    Unanswered(String),
    /// The lane broke. One that lasted is dialled at once: its node is alive, or it is good to know that it is not.
    Broken { why: String, had_lasted: bool },
    /// The registry names another address.
    Moved,
    /// Nobody wants this lane any more.
    Unwanted,
}

/// The task and what only it knows.
#[derive(Debug)]
pub struct Link {
    lane: Arc<Lane>,
    targets: watch::Receiver<Target>,
    /// The life of the node that our numbers belong to.
    life: Option<Incarnation>,
    /// Last up number processed from it.
    up_seen: u64,
    held: Held,
    /// Whether this connection brought a whole snapshot.
    has_snapshot: bool,
    backoff: Backoff,
    silent_since: Option<Instant>,
}

impl Link {
    /// A task for `lane`; it follows what `targets` says of the node.
    pub fn new(lane: Arc<Lane>, targets: watch::Receiver<Target>) -> Self {
        Self {
            lane,
            targets,
            life: None,
            up_seen: 0,
            held: Held::default(),
            has_snapshot: false,
            backoff: Backoff::new(REDIAL_FIRST, REDIAL_MAX),
            silent_since: None,
        }
    }

    /// Keeps the lane until its node is dead and no longer registered. Returns the lane's index.
    pub async fn run(mut self) -> NodeIndex {
        let lane = self.lane.clone();
        tokio::select! {
            () = self.keep() => {}
            () = give_up_late_messages(&lane) => {}
        }
        lane.index
    }

    async fn keep(&mut self) {
        loop {
            let address = self.targets.borrow_and_update().address.clone();
            let ended = self.connect(&address).await;
            let is_redial_due = match &ended {
                Ended::Refused => {
                    self.die(&address);
                    false
                }
                Ended::Unanswered(why) => self.fall_silent(&address, why),
                Ended::Broken { why, had_lasted } => self.fall_silent(&address, why) || *had_lasted,
                Ended::Moved => true,
                Ended::Unwanted => return,
            };
            let target = self.targets.borrow().clone();
            if !target.is_listed && self.is_dead(&target) {
                return;
            }
            let wait = if is_redial_due { Duration::ZERO } else { self.backoff.next_wait() };
            tokio::select! {
                () = sleep(wait) => {}
                changed = self.targets.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Whether an unlisted node counts as dead; its routes go then.
    fn is_dead(&mut self, target: &Target) -> bool {
        if self.lane.phase() == Phase::Refused {
            return true;
        }
        let is_long_silent = self.silent_since.is_some_and(|since| since.elapsed() >= SILENT_MAX);
        if is_long_silent && !target.is_suspended {
            self.die(&target.address);
            return true;
        }
        false
    }

    fn die(&mut self, address: &str) {
        if self.lane.phase() == Phase::Refused {
            return;
        }
        tracing::info!(node = %self.lane.node_id, address, "a node is dead; its routes go");
        self.lane.set_phase(Phase::Refused);
        let lost = self.lane.change(|outgoing| {
            outgoing.end();
            outgoing.die()
        });
        self.forget_routes();
        for ticket in lost {
            ticket.lost(Loss::Dead);
        }
    }

    fn forget_routes(&mut self) {
        let routes = &self.lane.context.routes;
        let (rooms, users) = self.held.clear(self.lane.index, routes);
        if !rooms.is_empty() || !users.is_empty() {
            routes.departed.add(self.lane.node_id.clone(), rooms, users);
        }
        self.lane.users.store(0, Ordering::Release);
        self.lane.sessions.store(0, Ordering::Release);
        self.count_routes();
    }

    /// The node may be alive. Never says that a dial is due.
    fn fall_silent(&mut self, address: &str, why: &str) -> bool {
        self.lane.change(super::Outgoing::end);
        if !matches!(self.lane.phase(), Phase::Broken | Phase::Refused) {
            tracing::info!(node = %self.lane.node_id, address, why, "a lane broke; the node is addressed blind");
            self.lane.set_phase(Phase::Broken);
        }
        self.silent_since.get_or_insert_with(Instant::now);
        false
    }

    /// One connection, from the dial to its end.
    async fn connect(&mut self, address: &str) -> Ended {
        let hello = LaneHello {
            manager_id: self.lane.context.manager_id.clone(),
            incarnation: self.lane.context.incarnation.as_u64(),
            up_seen: self.up_seen,
            node_incarnation: self.life.map_or(0, Incarnation::as_u64),
            grpc_address: self.lane.context.grpc_address.clone(),
        };
        let connection = self.lane.change(|outgoing| outgoing.begin(hello));
        let messages = Downstream::new(self.lane.clone(), connection);
        let dialling = async {
            let mut up = dial(address, messages).await?;
            let first = first_message(&mut up).await.map_err(DialError::Silent)?;
            Ok((up, first))
        };
        let dialled = tokio::select! {
            dialled = dialling => dialled,
            ended = moved(&mut self.targets, address) => return ended,
        };
        let (up, first) = match dialled {
            Ok(dialled) => dialled,
            Err(DialError::Refused) => return Ended::Refused,
            Err(DialError::Silent(why)) => return Ended::Unanswered(why),
        };
        match self.greet(first.hello.as_ref()) {
            Ok(()) => self.read(up, first, address).await,
            Err(ended) => ended,
        }
    }

    fn greet(&mut self, hello: Option<&LaneHelloReply>) -> Result<(), Ended> {
        let unanswered = |why: &str| Ended::Unanswered(why.to_owned());
        let hello = hello.ok_or_else(|| unanswered("its first message is no hello"))?;
        if hello.node_id != self.lane.node_id.as_str() {
            // The port belongs to another node now: ours has let go of it.
            return Err(Ended::Refused);
        }
        let life = Incarnation::from_u64(hello.incarnation)
            .ok_or_else(|| unanswered("its hello names no incarnation"))?;
        let seen = hello.down_seen;
        let (loss, lost) = match self.life {
            Some(before) if before == life && !hello.fresh => {
                self.lane.change(|outgoing| outgoing.resume(seen));
                (Loss::Forgotten, Vec::new())
            }
            Some(before) if before == life => {
                self.up_seen = 0;
                self.held.forget_snapshot();
                (Loss::Forgotten, self.lane.change(|outgoing| outgoing.forgotten(seen)))
            }
            before => {
                self.up_seen = 0;
                self.forget_routes();
                (Loss::Dead, self.lane.change(|outgoing| outgoing.restart(seen, before.is_none())))
            }
        };
        self.life = Some(life);
        self.lane.change(|outgoing| outgoing.meet(life.as_u64()));
        self.silent_since = None;
        self.has_snapshot = false;
        self.lane.set_phase(Phase::Syncing);
        for ticket in lost {
            ticket.lost(loss);
        }
        Ok(())
    }

    async fn read(&mut self, mut up: Streaming<LaneUp>, first: LaneUp, address: &str) -> Ended {
        let began = Instant::now();
        let broken = |link: &Self, why: String| {
            let had_lasted = link.lane.phase() == Phase::InSync && began.elapsed() >= LASTED;
            Ended::Broken { why, had_lasted }
        };
        if let Err(why) = self.process(first) {
            return broken(self, why);
        }
        let ping_interval = self.lane.context.ping_interval;
        let mut ticks = interval(ping_interval);
        // After a standstill of ours the node gets its time to answer again.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let silent_ticks_max = (self.lane.context.deadline.as_micros() / ping_interval.as_micros()).max(4);
        let mut silent_ticks = 0;
        let ack = sleep(ACK_WAIT);
        tokio::pin!(ack);
        let mut owes_ack = false;
        loop {
            let message = tokio::select! {
                message = up.message() => message,
                ended = moved(&mut self.targets, address) => return ended,
                _ = ticks.tick() => {
                    silent_ticks += 1;
                    if silent_ticks > silent_ticks_max {
                        return broken(self, "no echo in time".to_owned());
                    }
                    self.lane.change(super::Outgoing::ask_echo);
                    continue;
                }
                () = &mut ack, if owes_ack => {
                    owes_ack = false;
                    self.lane.change(super::Outgoing::ask_ack);
                    continue;
                }
            };
            silent_ticks = 0;
            if !std::mem::replace(&mut owes_ack, true) {
                ack.as_mut().reset(Instant::now() + ACK_WAIT);
            }
            let processed = match message {
                Ok(Some(message)) => self.process(message),
                Ok(None) => Err("the node ended it".to_owned()),
                Err(status) => Err(status.message().to_owned()),
            };
            if let Err(why) = processed {
                return broken(self, why);
            }
        }
    }

    /// Takes one message in. Routes change before anything of it is acknowledged and before its echo counts.
    fn process(&mut self, message: LaneUp) -> Result<(), String> {
        let context = self.lane.context.clone();
        let mut has_interest = false;
        let mut outcomes = Vec::new();
        for (number, item) in (message.first_number..).zip(message.items) {
            if number <= self.up_seen {
                continue;
            }
            if number > self.up_seen + 1 {
                let missing = self.up_seen + 1;
                // The next connection brings a snapshot, which makes up for what is missing.
                self.up_seen = number - 1;
                return Err(format!("numbers from {missing} to {} are missing", number - 1));
            }
            self.up_seen = number;
            match item.item {
                Some(Item::Interest(interest)) => {
                    self.has_snapshot |= self.held.apply(&interest, self.lane.index, &context.routes);
                    self.lane.sessions.store(interest.sessions, Ordering::Release);
                    has_interest = true;
                }
                Some(Item::Outcome(outcome)) => outcomes.push(outcome),
                Some(Item::Conflict(conflict)) => {
                    // One that finds no place is told again with the next message that does not fit.
                    let _ = context.conflicts.try_send(conflict);
                }
                None => {}
            }
        }
        if has_interest {
            self.lane.users.store(self.held.users() as u64, Ordering::Release);
            self.count_routes();
        }
        let late = self.lane.note(|outgoing| {
            outgoing.acked(message.down_ack);
            outgoing.processed(self.up_seen);
            outcomes
                .into_iter()
                .map(|outcome| outgoing.settle(outcome))
                .filter(|is_wanted| !is_wanted)
                .count()
        });
        context.metrics.outcomes_late.increment(late as u64);
        if has_interest {
            // A session waits for it.
            self.lane.change(super::Outgoing::ask_ack);
        }
        if let Some(pong) = message.pong
            && self.has_snapshot
            && pong.sent_us <= context.clock.now_us()
        {
            self.lane.echo_us.fetch_max(pong.sent_us, Ordering::AcqRel);
            if self.lane.phase() != Phase::InSync {
                tracing::info!(node = %self.lane.node_id, "a lane is in sync");
                self.lane.set_phase(Phase::InSync);
                self.backoff.reset();
            }
        }
        Ok(())
    }

    fn count_routes(&self) {
        let Context { metrics, routes, .. } = &*self.lane.context;
        metrics.rooms.set(routes.rooms.len() as f64);
        metrics.users.set(routes.users.len() as f64);
    }
}

/// Resolves when the registry names another address, or nobody wants the lane any more.
async fn moved(targets: &mut watch::Receiver<Target>, address: &str) -> Ended {
    match targets.wait_for(|target| target.address != address).await {
        Ok(_) => Ended::Moved,
        Err(_) => Ended::Unwanted,
    }
}

/// Gives messages up at their deadline, linked or not, and counts when trust is lost.
async fn give_up_late_messages(lane: &Lane) {
    let mut was_trusted = false;
    loop {
        sleep(lane.context.ping_interval).await;
        let now_us = lane.context.clock.now_us();
        let (given_up, tickets) = lane.change(|outgoing| outgoing.expire(now_us));
        if given_up > 0 {
            lane.context.metrics.give_ups.increment(given_up as u64);
            tracing::warn!(node = %lane.node_id, messages = given_up, "messages were given up at their deadline");
        }
        for ticket in tickets {
            ticket.lost(Loss::Deadline);
        }
        let is_trusted = lane.stance(now_us) == Stance::Trusted;
        if was_trusted && !is_trusted {
            lane.context.metrics.trust_lost.increment(1);
        }
        was_trusted = is_trusted;
    }
}
