//! What a scenario acts on: the running platform, its crowd, and dice.

use std::{sync::Mutex, time::Duration};

use futures_util::future::{BoxFuture, join_all};
use tokio::time::sleep;

use super::{
    checker::Rules,
    crowd::{Clock, Crowd},
};
use crate::{
    dice::Dice,
    platform::{Part, Platform},
};

/// A fault and its end, under load, with the promise that it must not break.
pub struct Scenario {
    /// On the command line.
    pub name: &'static str,
    /// What holds all the same.
    pub promise: &'static str,
    /// Does it: returns when the fault is over and whoever was ended is ready again.
    pub act: for<'a> fn(&'a Stage) -> BoxFuture<'a, ()>,
    /// What is bound to go wrong.
    pub rules: Rules,
    /// What ERROR lines have in them that it is bound to cause.
    pub expected: &'static [&'static str],
    /// Whether the drill draws it: it is over within some ten seconds.
    pub is_drawn: bool,
}

impl Scenario {
    /// One that excuses nothing and that the drill draws.
    pub const fn new(
        name: &'static str,
        promise: &'static str,
        act: for<'a> fn(&'a Stage) -> BoxFuture<'a, ()>,
    ) -> Self {
        let rules = Rules { keys_may_be_lost: false, pushes_may_fail: false, logs_may_be_lost: false };
        Self { name, promise, act, rules, expected: &[], is_drawn: true }
    }

    /// The same, but it takes away what Redis holds: logs, and the memory of idempotency keys.
    pub const fn takes_logs(mut self) -> Self {
        (self.rules.keys_may_be_lost, self.rules.logs_may_be_lost) = (true, true);
        self
    }

    /// The same; nobody answers for idempotency keys meanwhile: a push that was tried again may arrive twice.
    pub const fn keys_may_be_lost(mut self) -> Self {
        self.rules.keys_may_be_lost = true;
        self
    }

    /// The same; ERROR lines with one of these words are expected.
    pub const fn expects(mut self, words: &'static [&'static str]) -> Self {
        self.expected = words;
        self
    }

    /// The same, but the drill does not draw it.
    pub const fn not_drawn(mut self) -> Self {
        self.is_drawn = false;
        self
    }
}

/// Something that was done to the platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// When.
    pub ms: u32,
    /// In words.
    pub what: String,
    /// Of the one node that it was done to: sessions on all others must not notice.
    pub victim: Option<String>,
    /// Until when it stood.
    pub until_ms: Option<u32>,
    /// How soon pushes have to notice it.
    pub noticed_within_ms: Option<u32>,
}

/// A node that refuses connections is known to be dead.
const DEATH_NOTICED_MS: u32 = 100;
/// A node that does not answer is not trusted.
const SILENCE_NOTICED_MS: u32 = 1_500;

/// The running platform under load.
pub struct Stage {
    /// All processes and stores.
    pub platform: Platform,
    /// All sessions.
    pub crowd: Crowd,
    /// Of the run.
    pub clock: Clock,
    /// How long a fault lasts that has no length of its own.
    pub hold: Duration,
    dice: Mutex<Dice>,
    faults: Mutex<Vec<Fault>>,
    is_told: bool,
}

impl Stage {
    /// Tells faults as they happen when `is_told`.
    pub fn new(
        platform: Platform,
        crowd: Crowd,
        clock: Clock,
        dice: Dice,
        hold: Duration,
        is_told: bool,
    ) -> Self {
        Self { platform, crowd, clock, hold, dice: Mutex::new(dice), faults: Mutex::default(), is_told }
    }

    /// Notes what is about to be done.
    pub fn fault(&self, what: impl Into<String>) {
        self.fault_of(None, what);
    }

    /// The same, when it concerns one part alone.
    pub fn fault_at(&self, part: &Part, what: impl Into<String>) {
        self.fault_of((part.role() == "connect-node").then(|| part.name().to_owned()), what);
    }

    /// Pushes have to notice what was done last within this time.
    fn noticed_within(&self, ms: u32) {
        if let Some(last) = self.faults.lock().unwrap().last_mut().filter(|last| last.victim.is_some()) {
            last.noticed_within_ms = Some(ms);
        }
    }

    /// What was done last is over.
    pub fn over(&self) {
        let now = self.clock.now();
        if let Some(last) = self.faults.lock().unwrap().last_mut() {
            last.until_ms = Some(now);
        }
    }

    #[allow(clippy::print_stdout, reason = "a drill tells its faults as they happen")]
    fn fault_of(&self, victim: Option<String>, what: impl Into<String>) {
        let fault = Fault {
            ms: self.clock.now(),
            what: what.into(),
            victim,
            until_ms: None,
            noticed_within_ms: None,
        };
        if self.is_told {
            println!("{:>8.2} s  {}", f64::from(fault.ms) / 1_000.0, fault.what);
        }
        self.faults.lock().unwrap().push(fault);
    }

    /// All that was done, in order.
    pub fn faults(&self) -> Vec<Fault> {
        self.faults.lock().unwrap().clone()
    }

    /// Dice that follow from the seed.
    pub fn dice(&self) -> Dice {
        self.dice.lock().unwrap().fork()
    }

    /// One part of a role, by the dice.
    pub fn any(&self, role: &str) -> &Part {
        let parts = self.platform.role(role);
        parts[self.dice().below(parts.len())]
    }

    /// Lets the fault stand.
    pub async fn hold(&self) {
        sleep(self.hold).await;
    }

    /// Ends a part as `kill -9` does, and starts it again on the same ports after the fault has stood.
    pub async fn kill(&self, part: &Part) {
        self.fault_at(part, format!("kill -9 {}", part.name()));
        self.noticed_within(DEATH_NOTICED_MS);
        part.kill();
        self.hold().await;
        self.over();
        part.start_again();
        part.until_ready().await;
    }

    /// Stops a part in its tracks while the fault stands.
    pub async fn freeze(&self, part: &Part, time: Duration) {
        self.fault_at(part, format!("freeze {} for {time:?}", part.name()));
        self.noticed_within(SILENCE_NOTICED_MS);
        part.freeze();
        sleep(time).await;
        self.over();
        part.thaw();
    }

    /// Does something to all ways between the two, and mends them after the fault has stood.
    pub async fn between(&self, what: &str, one: &str, other: &str, act: impl Fn(&crate::proxy::Proxy)) {
        let words = format!("{what} between {one} and {other}");
        match self.platform.parts().iter().find(|part| part.name() == one) {
            Some(part) => self.fault_at(part, words),
            None => self.fault(words),
        }
        let ways = self.platform.between(one, other);
        ways.iter().for_each(|way| act(way));
        self.hold().await;
        self.over();
        ways.iter().for_each(|way| way.mend());
    }

    /// Everything runs and is whole again, whatever a scenario left behind.
    pub async fn heal(&self) {
        self.platform.mend();
        for part in self.platform.parts() {
            if !part.is_running() {
                part.start_again();
            }
        }
        join_all(self.platform.parts().iter().map(Part::until_whole)).await;
    }
}
