//! The store's clock as this process last read it: exact while presence answers, carried on by our own while not.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use roomcast_store::Presence;
use roomcast_types::{StoreTime, unix_millis};
use tokio::time::{Instant, timeout};

/// A reading younger than this is carried on instead of asking again.
const FRESH: Duration = Duration::from_millis(100);
/// While one caller asks, the others carry on a reading up to this old.
const CARRIED: Duration = Duration::from_secs(1);
/// How long the store may take to tell the time.
const WAIT: Duration = Duration::from_millis(100);
/// A store that did not tell the time is left alone for so long: nobody waits for it meanwhile.
const PAUSE: Duration = Duration::from_millis(500);

/// Reads the store's clock. However many callers need it, one of them asks.
pub(crate) struct StoreClock {
    presence: Arc<dyn Presence>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    reading: Option<Reading>,
    is_asked: bool,
    failed_at: Option<Instant>,
}

#[derive(Clone, Copy)]
struct Reading {
    time: StoreTime,
    at: Instant,
}

impl Reading {
    fn carried_on(self) -> StoreTime {
        self.time.plus(self.at.elapsed())
    }
}

/// Lets the next caller ask, also when this one is dropped half-way.
struct Asking<'a>(&'a StoreClock);

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.0.lock().is_asked = false;
    }
}

impl StoreClock {
    pub(crate) fn new(presence: Arc<dyn Presence>) -> Self {
        Self { presence, state: Mutex::default() }
    }

    /// The store's clock; `None` when the store does not answer. Takes 100 ms at most.
    pub(crate) async fn read(&self) -> Option<StoreTime> {
        {
            let mut state = self.lock();
            let age = state.reading.map(|reading| (reading, reading.at.elapsed()));
            match age {
                Some((reading, age)) if age < FRESH || (state.is_asked && age < CARRIED) => {
                    return Some(reading.carried_on());
                }
                _ if state.failed_at.is_some_and(|at| at.elapsed() < PAUSE) => return None,
                _ => state.is_asked = true,
            }
        }
        let asking = Asking(self);
        let time = timeout(WAIT, self.presence.now()).await.ok().and_then(Result::ok);
        let now = Instant::now();
        let mut state = self.lock();
        match time {
            Some(time) => (state.reading, state.failed_at) = (Some(Reading { time, at: now }), None),
            None => state.failed_at = Some(now),
        }
        drop(state);
        drop(asking);
        time
    }

    /// The best guess at the store's clock: the last reading carried on, without one this machine's clock.
    pub(crate) async fn now(&self) -> StoreTime {
        if let Some(time) = self.read().await {
            return time;
        }
        let reading = self.lock().reading;
        reading.map_or_else(|| StoreTime::from_millis(unix_millis()), Reading::carried_on)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
