//! The task behind a member: keeps the lease, reads the key back, repairs what is wrong, and never gives up.
//!
//! | now | event | then |
//! |---|---|---|
//! | kept | a third of the lease passed | keep the lease |
//! | kept | 2 s passed | read the key back; not as written: write it |
//! | kept | another state is wanted | write it |
//! | any | the registry fails, or the lease is lost | repair after a pause, 100 ms doubling to 2 s |
//! | repair | the lease is kept or replaced, the key is written | kept |
//! | any | a live process holds the key | say so, repair after a pause |
//! | any | leave | key and lease given back, end |

use std::{pin::pin, time::Duration};

use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep, sleep_until},
};

use super::claim::Claimant;
use crate::{Error, Registration, Result, State};

const READ_BACK_EVERY: Duration = Duration::from_secs(2);
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// Keep-alives per life of a lease: one may fail and the next still comes in time.
const KEEP_ALIVES_PER_LEASE: u32 = 3;

/// Who has our key, as far as known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Hold {
    /// This process, or nobody.
    Ours,
    /// Another live process.
    Theirs(Box<Registration>),
    /// Nobody on our behalf: the member left.
    GivenBack,
}

pub(super) struct Keeper {
    claimant: Claimant,
    /// Sender: the member. Its last value counts; closing it means that the member is being dropped.
    state_wanted: watch::Receiver<State>,
    hold: watch::Sender<Hold>,
    next_keep_alive: Instant,
    next_read_back: Instant,
}

impl Keeper {
    pub(super) fn new(
        claimant: Claimant,
        state_wanted: watch::Receiver<State>,
        hold: watch::Sender<Hold>,
    ) -> Self {
        let next_keep_alive = claimant.lease_since() + claimant.ttl() / KEEP_ALIVES_PER_LEASE;
        let next_read_back = Instant::now() + READ_BACK_EVERY;
        Self { claimant, state_wanted, hold, next_keep_alive, next_read_back }
    }

    /// Runs until asked to leave, and answers when it has left.
    pub(super) async fn run(mut self, mut leave: mpsc::Receiver<oneshot::Sender<()>>) {
        let request = {
            let mut keep = pin!(self.keep());
            tokio::select! {
                biased;
                Some(request) = leave.recv() => request,
                () = &mut keep => return,
            }
        };
        self.hold.send_replace(Hold::GivenBack);
        self.claimant.give_back().await;
        // Whoever asked may have gone.
        let _ = request.send(());
    }

    async fn keep(&mut self) {
        let mut pause = PAUSE_MIN;
        let mut is_failing = false;
        loop {
            let answer = if is_failing { self.repair().await } else { self.step().await };
            match answer {
                Ok(()) => {
                    if is_failing {
                        tracing::info!(key = self.claimant.registration().key(), "registered again");
                    }
                    (is_failing, pause) = (false, PAUSE_MIN);
                    self.found(Hold::Ours);
                }
                Err(error) => {
                    self.report(error, is_failing);
                    is_failing = true;
                    sleep(pause).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
        }
    }

    /// Waits for the next thing to do and does it.
    async fn step(&mut self) -> Result<()> {
        tokio::select! {
            Ok(()) = self.state_wanted.changed() => self.write_state().await,
            () = sleep_until(self.next_keep_alive) => self.keep_alive().await,
            () = sleep_until(self.next_read_back) => {
                self.next_read_back = Instant::now() + READ_BACK_EVERY;
                match self.claimant.is_in_place().await {
                    Ok(true) => Ok(()),
                    Ok(false) => self.write_again().await,
                    Err(error) => Err(error),
                }
            }
        }
    }

    /// Everything at once, after a failure.
    async fn repair(&mut self) -> Result<()> {
        match self.keep_alive().await {
            Ok(()) | Err(Error::LeaseLost) => self.write_state().await,
            Err(error) => Err(error),
        }
    }

    async fn keep_alive(&mut self) -> Result<()> {
        self.next_keep_alive = Instant::now() + self.claimant.ttl() / KEEP_ALIVES_PER_LEASE;
        self.claimant.keep_alive().await
    }

    async fn write_again(&mut self) -> Result<()> {
        let key = self.claimant.registration().key();
        tracing::warn!(key, "the registration is not as written; registering again");
        self.write_state().await
    }

    async fn write_state(&mut self) -> Result<()> {
        let state = *self.state_wanted.borrow_and_update();
        self.claimant.write_state(state).await
    }

    /// Whether it is news.
    fn found(&self, found: Hold) -> bool {
        self.hold.send_if_modified(|hold| std::mem::replace(hold, found.clone()) != found)
    }

    fn report(&self, error: Error, was_failing: bool) {
        let key = self.claimant.registration().key();
        if let Error::Held { holder } = &error {
            if self.found(Hold::Theirs(holder.clone())) {
                tracing::error!(key, %error, "another live process took our registration");
            }
        } else if !was_failing {
            tracing::warn!(key, %error, "cannot keep the registration; trying again");
        }
    }
}
