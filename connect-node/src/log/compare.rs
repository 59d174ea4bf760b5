//! Compares positions with those of the logs: what was appended and never came is read then.
//!
//! At once and 2 s after a lane broke (its push-manager may have died between an append and the lanes), after this process
//! stood still, when a message was given up on its lane, and every log in turn every 30 s.

use std::{
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use futures_util::{StreamExt, stream};
use roomcast_types::Position;
use tokio::{sync::Notify, time::Instant};

use super::{reader::Unlinked, sequence::Sequence};
use crate::hub::Core;

/// In how many parts, one a second, the logs are compared in turn.
const PARTS: usize = 30;
const PART_EVERY: Duration = Duration::from_secs(1);
/// When the second look after a broken lane comes: what its push-manager was about to append is there by then.
const AGAIN_AFTER: Duration = Duration::from_secs(2);
/// A tick that comes so late says that the process stood still.
const STOOD_STILL: Duration = Duration::from_secs(1);
/// Comparisons at once.
const TOGETHER: usize = 512;

/// What is due.
#[derive(Default)]
pub struct Comparing {
    due: Mutex<Vec<Instant>>,
    wake: Notify,
}

impl Comparing {
    /// A lane broke.
    pub fn lane_broke(&self) {
        let now = Instant::now();
        self.add(&[now, now + AGAIN_AFTER]);
    }

    /// A message was given up on its lane.
    pub fn given_up(&self) {
        self.add(&[Instant::now()]);
    }

    fn add(&self, moments: &[Instant]) {
        self.due.lock().expect("no holder of this lock panics").extend(moments);
        self.wake.notify_one();
    }

    /// Takes what is due by now; whether anything was.
    fn take(&self, now: Instant) -> bool {
        let mut due = self.due.lock().expect("no holder of this lock panics");
        let before = due.len();
        due.retain(|moment| *moment > now);
        due.len() < before
    }

    fn next(&self) -> Option<Instant> {
        self.due.lock().expect("no holder of this lock panics").iter().min().copied()
    }
}

/// Runs until it is dropped.
pub async fn run(hub: Arc<Core>) {
    let mut round = Round::default();
    let mut next_part = Instant::now() + PART_EVERY;
    loop {
        let next = hub.comparing.next().map_or(next_part, |next| next.min(next_part));
        // Not in the past: a comparison that took long is no standstill, and must not bring on a larger one.
        let until = next.max(Instant::now());
        tokio::select! {
            () = tokio::time::sleep_until(until) => {}
            () = hub.comparing.wake.notified() => {}
        }
        let now = Instant::now();
        let stood_still = now > until + STOOD_STILL;
        let is_due = hub.comparing.take(now);
        if is_due || stood_still {
            compare(&hub, hub.sequences()).await;
        } else if now >= next_part {
            compare(&hub, round.next(&hub)).await;
        }
        if now >= next_part {
            next_part = now + PART_EVERY;
        }
    }
}

/// One turn of all logs, of which a part is compared each second. Those that came since its begin were compared as they
/// came, and are in the next one.
#[derive(Default)]
struct Round {
    left: Vec<Weak<Sequence>>,
    parts: usize,
}

impl Round {
    fn next(&mut self, hub: &Core) -> Vec<Arc<Sequence>> {
        if self.parts == 0 {
            self.parts = PARTS;
            self.left = hub.sequences().iter().map(Arc::downgrade).collect();
        }
        let part = self.left.len().div_ceil(self.parts);
        self.parts -= 1;
        self.left.drain(..part).filter_map(|sequence| sequence.upgrade()).collect()
    }
}

async fn compare(hub: &Arc<Core>, sequences: Vec<Arc<Sequence>>) {
    let one = |sequence: Arc<Sequence>| async move {
        let asked = sequence.position().await;
        let answer = hub.reader.ask(sequence.query(), Unlinked::Fails).await;
        if let Some(log) = answer.and_then(|answer| Position::from_wire(answer.epoch, answer.offset)) {
            // Boxed: it is large where something is missing, and hundreds wait for their answers here.
            Box::pin(sequence.compare(hub, asked, log)).await;
        }
    };
    stream::iter(sequences).for_each_concurrent(TOGETHER, one).await;
}
