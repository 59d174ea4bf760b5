//! Empties a node: who is here is told to go, at a pace that the other nodes bear, and gets the time for it.
//!
//! | step | new sessions | sessions | until |
//! |---|---|---|---|
//! | grace | taken | stay | `accept_grace` is over |
//! | notices | 503 | told to go, `notices_per_second` of them | all were told |
//! | leaving | 503 | go | nobody is left, or `leave_wait` after the time that the last one was given |
//! | flush | 503 | closed with 4001 behind what waits for them | all is written, or `flush_wait` is over |
//!
//! Every step ends at once when nobody is left. Where no other node starts or serves there is nowhere to go: grace and
//! notices are left out. The last step is the shards': see [`ToShard::Stop`].

mod departures;

use std::{
    collections::{HashSet, VecDeque},
    time::Duration,
};

use rand::RngExt;
use roomcast_registry::Roster;
use roomcast_runtime::config::SessionDrain;
use roomcast_types::ServiceId;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

pub use self::departures::{Departures, Drained};
use crate::{
    hub::Core,
    load::Load,
    ports::{SessionKey, ToShard},
};

/// A session is given a random delay up to this before it reconnects: those that are told in one tick come apart.
pub const RECONNECT_SPREAD: Duration = Duration::from_millis(500);
/// Between two batches of notices, and two looks at who is left.
const TICK: Duration = Duration::from_millis(20);
/// How long a session that was told to go lives on when a later one takes its slot: its client joins its rooms on the
/// other node meanwhile, and gets what is pushed to them here. It closes this one itself when it is done.
pub const TAKEOVER_LINGER: Duration = Duration::from_secs(1);

/// Beside the waits of the configuration: full mailboxes, the last second of closes, the last words to lanes and
/// controller, the key, the ports. Each has a bound of its own where it is waited for.
const REST: Duration = Duration::from_millis(11_500);

/// How long the end of a node takes at most.
pub fn limit(drain: &SessionDrain, sessions_max: usize) -> Duration {
    leaving_limit(drain, sessions_max) + drain.flush_wait + REST
}

/// How long it takes at most until everybody has had the time to go.
pub fn leaving_limit(drain: &SessionDrain, sessions_max: usize) -> Duration {
    let notices = Duration::from_secs_f64(sessions_max as f64 / f64::from(drain.notices_per_second));
    drain.accept_grace + notices + RECONNECT_SPREAD + drain.leave_wait
}

/// The first three steps of a drain under way.
pub struct Drain<'a> {
    hub: &'a Core,
    load: &'a Load,
    pace: &'a SessionDrain,
    nodes: &'a Roster,
    own: ServiceId,
    /// To be told, in order.
    untold: VecDeque<SessionKey>,
    told: HashSet<SessionKey>,
    /// When whoever was told last has had its time.
    leave_by: Instant,
}

impl<'a> Drain<'a> {
    /// Of a node among `nodes`.
    pub fn new(
        hub: &'a Core,
        load: &'a Load,
        pace: &'a SessionDrain,
        nodes: &'a Roster,
        own: ServiceId,
    ) -> Self {
        let (untold, told, leave_by) = (VecDeque::new(), HashSet::new(), Instant::now());
        Self { hub, load, pace, nodes, own, untold, told, leave_by }
    }

    /// Runs until whoever wants to go has gone. From the end of the grace on the node takes no sessions.
    pub async fn run(mut self) {
        // Where this is the only node its clients come back to it, or to its successor: the sooner the better.
        let _ = timeout(self.pace.accept_grace, self.nodes.alone(&self.own)).await;
        self.load.set_open(false);
        // Sessions that came last still wait for their welcome.
        self.leave_by = Instant::now() + self.pace.leave_wait;
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut batches = Batches::new(self.pace.notices_per_second, Instant::now());
        loop {
            ticks.tick().await;
            if self.load.sessions() == 0 || !self.nodes.has_other(&self.own) {
                return;
            }
            if self.untold.is_empty() {
                self.untold = self.newcomers();
            }
            let now = Instant::now();
            self.tell(batches.next(now), now).await;
            if self.untold.is_empty() && now >= self.leave_by {
                return;
            }
        }
    }

    /// Sessions that had their welcome and were not told: all of them first, later those that came during the grace and
    /// had not got so far.
    fn newcomers(&self) -> VecDeque<SessionKey> {
        let state = self.hub.state();
        let open = state.sessions.iter().filter(|(_, session)| session.is_open).map(|(key, _)| *key);
        open.filter(|key| !self.told.contains(key)).collect()
    }

    async fn tell(&mut self, count: usize, now: Instant) {
        for session in self.untold.drain(..count.min(self.untold.len())) {
            let reconnect_after = rand::rng().random_range(Duration::ZERO..=RECONNECT_SPREAD);
            self.told.insert(session);
            self.leave_by = self.leave_by.max(now + reconnect_after + self.pace.leave_wait);
            // Behind its welcome, which was put into the same mailbox before the session counted as open.
            self.hub.send(session, ToShard::Notice { session, reconnect_after }).await;
        }
    }
}

/// How many may be told in each tick.
struct Batches {
    per_second: f64,
    began: Instant,
    given: usize,
}

impl Batches {
    fn new(per_second: u32, began: Instant) -> Self {
        Self { per_second: per_second.into(), began, given: 0 }
    }

    /// What has become due. Nothing is saved up while nobody is to be told: `given` is what could have been.
    fn next(&mut self, now: Instant) -> usize {
        let due = (now.saturating_duration_since(self.began).as_secs_f64() * self.per_second) as usize + 1;
        let batch = due.saturating_sub(self.given);
        self.given = due;
        batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notices_keep_their_pace_whatever_the_ticks_do() {
        let began = Instant::now();
        let mut batches = Batches::new(500, began);
        let at = |millis| began + Duration::from_millis(millis);
        assert_eq!(batches.next(at(0)), 1);
        assert_eq!(batches.next(at(20)), 10);
        assert_eq!(batches.next(at(20)), 0);
        assert_eq!(batches.next(at(1_000)), 490);
        let mut slow = Batches::new(1, began);
        assert_eq!([0, 999, 1_000, 3_500].map(|millis| slow.next(at(millis))), [1, 0, 1, 2]);
    }

    #[test]
    fn the_limit_is_the_sum_of_what_is_waited_for() {
        let config = roomcast_runtime::Config::default().connect_node;
        assert_eq!(limit(&config.drain, config.sessions_max), Duration::from_secs(53));
        assert_eq!(limit(&config.drain, 500), Duration::from_secs(24));
    }
}
