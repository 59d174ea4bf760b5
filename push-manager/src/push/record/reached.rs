//! Tells one task of many pushes which of them have come far enough.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// The numbers of pushes that have come as far as somebody waited for.
#[derive(Debug, Default)]
pub struct Reached {
    numbers: Mutex<Vec<u64>>,
    first: Notify,
}

impl Reached {
    /// Waits until something has come since the last [`Self::take`].
    pub async fn come(&self) {
        self.first.notified().await;
    }

    /// Takes what has come.
    pub fn take(&self) -> Vec<u64> {
        std::mem::take(&mut self.lock())
    }

    /// One more has.
    pub(super) fn add(&self, number: u64) {
        let mut numbers = self.lock();
        numbers.push(number);
        let is_first = numbers.len() == 1;
        drop(numbers);
        if is_first {
            self.first.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<u64>> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
