//! The store's clock as this process last read it: exact while presence answers, carried on by our own while not.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use roomcast_store::Presence;
use roomcast_types::{StoreTime, unix_millis};
use tokio::time::{Instant, timeout};

/// A reading younger than this is carried on instead of asking again.
const FRESH: Duration = Duration::from_millis(100);
/// How long the store may take to tell the time.
const WAIT: Duration = Duration::from_millis(100);

/// Reads the store's clock.
pub(crate) struct StoreClock {
    presence: Arc<dyn Presence>,
    read: Mutex<Option<Reading>>,
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

impl StoreClock {
    pub(crate) fn new(presence: Arc<dyn Presence>) -> Self {
        Self { presence, read: Mutex::new(None) }
    }

    /// The store's clock; `None` when the store does not answer.
    pub(crate) async fn read(&self) -> Option<StoreTime> {
        if let Some(reading) = self.last().filter(|reading| reading.at.elapsed() < FRESH) {
            return Some(reading.carried_on());
        }
        let time = timeout(WAIT, self.presence.now()).await.ok()?.ok()?;
        *self.read.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(Reading { time, at: Instant::now() });
        Some(time)
    }

    /// The best guess at the store's clock: the last reading carried on, without one this machine's clock.
    pub(crate) async fn now(&self) -> StoreTime {
        if let Some(time) = self.read().await {
            return time;
        }
        self.last().map_or_else(|| StoreTime::from_millis(unix_millis()), Reading::carried_on)
    }

    fn last(&self) -> Option<Reading> {
        *self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
