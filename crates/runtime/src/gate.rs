//! Stands before a peer or a store: bounds how many calls wait for it and for how long, and refuses calls at once
//! while it does not answer.
//!
//! | state | event | then |
//! |---|---|---|
//! | closed | a call meets an outage, for the `failures`th time in a row | open |
//! | closed | a call succeeds | the count starts over |
//! | closed | a call is late, and others were answered since it began | nothing: it is slow, and not away |
//! | open | a call comes before the pause is over | refused |
//! | open | a call comes after it | half open: this call is the trial |
//! | half open | another call comes | refused |
//! | half open | the trial succeeds | closed |
//! | half open | the trial meets an outage | open, for twice as long, up to `pause_max` |
//! | half open | the trial is given up by its caller | open: the next call is the trial |

use std::{
    fmt,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::Semaphore,
    time::{Instant, timeout},
};

use crate::Backoff;

/// How patient a gate is.
#[derive(Debug, Clone, Copy)]
pub struct GateSettings {
    /// What is behind it, for the log: "MySQL", "controller-1".
    pub name: &'static str,
    /// Calls under way at once; more are refused.
    pub calls_max: usize,
    /// How long a call may take; one that takes longer met an outage.
    pub deadline: Duration,
    /// Outages in a row that open the gate.
    pub failures: u32,
    /// First pause before a trial; doubles, with jitter.
    pub pause_min: Duration,
    /// Longest pause.
    pub pause_max: Duration,
}

/// Why a call was not made, or given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// So many calls are under way already.
    Busy {
        /// See [`GateSettings::calls_max`].
        calls: usize,
    },
    /// The last calls met outages.
    Open {
        /// Until the next trial.
        retry_after: Duration,
    },
    /// It took longer than the deadline.
    Late {
        /// See [`GateSettings::deadline`].
        deadline: Duration,
    },
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy { calls } => write!(f, "{calls} calls wait for it already"),
            Self::Open { retry_after } => {
                write!(f, "it did not answer the last calls; next trial in {} ms", retry_after.as_millis())
            }
            Self::Late { deadline } => write!(f, "no answer within {} ms", deadline.as_millis()),
        }
    }
}

impl std::error::Error for Refused {}

/// A circuit breaker with a bound on calls and a deadline.
#[derive(Debug)]
pub struct Gate {
    settings: GateSettings,
    calls: Semaphore,
    breaker: Mutex<Breaker>,
    refused: AtomicU64,
}

#[derive(Debug)]
struct Breaker {
    state: State,
    pauses: Backoff,
    /// Calls that were answered, ever.
    answers: u64,
    /// False until the first answer of what somebody else waits for, and tells about.
    is_telling: bool,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Closed { failures: u32 },
    Open { until: Instant },
    HalfOpen,
}

impl Gate {
    /// A closed gate.
    pub fn new(settings: GateSettings) -> Self {
        let pauses = Backoff::new(settings.pause_min, settings.pause_max);
        Self {
            settings,
            calls: Semaphore::new(settings.calls_max),
            breaker: Mutex::new(Breaker {
                state: State::Closed { failures: 0 },
                pauses,
                answers: 0,
                is_telling: true,
            }),
            refused: AtomicU64::new(0),
        }
    }

    /// Says nothing in the log before the first answer: who waits for that tells what is missing.
    pub fn quiet_until_answered(self) -> Self {
        self.lock().is_telling = false;
        self
    }

    /// Makes a call unless it is refused. `is_outage` tells errors that mean that nobody answers from answers that
    /// happen to be errors. A call whose future is dropped half-way counts for nothing.
    pub async fn pass<T, E>(
        &self,
        call: impl Future<Output = Result<T, E>>,
        is_outage: impl FnOnce(&E) -> bool,
    ) -> Result<Result<T, E>, Refused> {
        let entered = self.enter();
        let mut trial = entered.inspect_err(|_| {
            self.refused.fetch_add(1, Ordering::Relaxed);
        })?;
        let answer = timeout(self.settings.deadline, call).await;
        let met_outage = match &answer {
            Ok(Err(error)) => is_outage(error),
            Ok(Ok(_)) => false,
            Err(_) => true,
        };
        trial.is_judged = true;
        if !met_outage {
            self.succeeded()
        } else if answer.is_ok() || !self.answered_others(&trial) {
            self.failed()
        }
        answer.map_err(|_| Refused::Late { deadline: self.settings.deadline })
    }

    /// Whether calls are refused because the last ones met outages.
    pub fn is_open(&self) -> bool {
        !matches!(self.lock().state, State::Closed { .. })
    }

    /// Calls that were not made.
    pub fn refused_total(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    fn enter(&self) -> Result<Call<'_>, Refused> {
        let calls = self.settings.calls_max;
        let permit = self.calls.try_acquire().map_err(|_| Refused::Busy { calls })?;
        let mut breaker = self.lock();
        let is_trial = match breaker.state {
            State::Closed { .. } => false,
            State::Open { until } => {
                let now = Instant::now();
                if now < until {
                    return Err(Refused::Open { retry_after: until - now });
                }
                breaker.state = State::HalfOpen;
                true
            }
            State::HalfOpen => return Err(Refused::Open { retry_after: self.settings.pause_min }),
        };
        let answers = breaker.answers;
        drop(breaker);
        Ok(Call { gate: self, is_trial, is_judged: false, answers, _permit: permit })
    }

    /// Whether it answered other calls while this one waited.
    fn answered_others(&self, call: &Call<'_>) -> bool {
        self.lock().answers > call.answers
    }

    fn succeeded(&self) {
        let mut breaker = self.lock();
        let was_open = !matches!(breaker.state, State::Closed { .. });
        breaker.state = State::Closed { failures: 0 };
        breaker.answers += 1;
        breaker.pauses.reset();
        let is_told = std::mem::replace(&mut breaker.is_telling, true);
        drop(breaker);
        if was_open && is_told {
            tracing::info!(peer = self.settings.name, "answers again");
        }
    }

    fn failed(&self) {
        let mut breaker = self.lock();
        match breaker.state {
            State::Closed { failures } if failures + 1 < self.settings.failures => {
                breaker.state = State::Closed { failures: failures + 1 };
            }
            State::Closed { .. } => {
                breaker.open();
                let is_telling = breaker.is_telling;
                drop(breaker);
                if is_telling {
                    tracing::warn!(
                        peer = self.settings.name,
                        "does not answer; calls are refused until it does"
                    );
                }
            }
            State::HalfOpen => breaker.open(),
            // A call from before it opened.
            State::Open { .. } => {}
        }
    }

    fn lock(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Breaker {
    fn open(&mut self) {
        self.state = State::Open { until: Instant::now() + self.pauses.next_wait() };
    }
}

/// One call under way.
struct Call<'a> {
    gate: &'a Gate,
    is_trial: bool,
    is_judged: bool,
    /// See [`Breaker::answers`], when it began.
    answers: u64,
    _permit: tokio::sync::SemaphorePermit<'a>,
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        if self.is_trial && !self.is_judged {
            let mut breaker = self.gate.lock();
            if matches!(breaker.state, State::HalfOpen) {
                breaker.state = State::Open { until: Instant::now() };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn gate() -> Gate {
        Gate::new(GateSettings {
            name: "store",
            calls_max: 2,
            deadline: SECOND,
            failures: 3,
            pause_min: SECOND,
            pause_max: 4 * SECOND,
        })
    }

    async fn call(
        gate: &Gate,
        answer: Result<(), &'static str>,
    ) -> Result<Result<(), &'static str>, Refused> {
        gate.pass(async { answer }, |error| *error == "outage").await
    }

    #[tokio::test(start_paused = true)]
    async fn outages_in_a_row_open_it_and_a_trial_closes_it() {
        let gate = gate();
        for _ in 0..3 {
            assert_eq!(call(&gate, Err("outage")).await, Ok(Err("outage")));
        }
        assert!(gate.is_open());
        assert!(matches!(call(&gate, Ok(())).await, Err(Refused::Open { .. })));
        assert_eq!(gate.refused_total(), 1);
        tokio::time::sleep(SECOND).await;
        assert_eq!(call(&gate, Ok(())).await, Ok(Ok(())));
        assert!(!gate.is_open());
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_in_between_starts_the_count_over() {
        let gate = gate();
        for answer in [Err("outage"), Err("outage"), Ok(()), Err("outage"), Err("outage"), Err("not found")] {
            assert_eq!(call(&gate, answer).await, Ok(answer));
        }
        assert!(!gate.is_open());
    }

    #[tokio::test(start_paused = true)]
    async fn what_never_answers_is_given_up_and_counts() {
        let gate = gate();
        for _ in 0..3 {
            let answer = gate.pass(std::future::pending::<Result<(), ()>>(), |()| false).await;
            assert_eq!(answer, Err(Refused::Late { deadline: SECOND }));
        }
        assert!(gate.is_open());
    }

    #[tokio::test(start_paused = true)]
    async fn late_calls_do_not_count_while_others_are_answered() {
        let gate = gate();
        let never = || gate.pass(std::future::pending::<Result<(), ()>>(), |()| false);
        for _ in 0..3 {
            let others = async {
                tokio::time::sleep(SECOND / 2).await;
                call(&gate, Ok(())).await
            };
            let (late, other) = tokio::join!(never(), others);
            assert_eq!((late, other), (Err(Refused::Late { deadline: SECOND }), Ok(Ok(()))));
        }
        assert!(!gate.is_open());
    }

    #[tokio::test(start_paused = true)]
    async fn only_so_many_calls_wait() {
        let gate = gate();
        let never = || gate.pass(std::future::pending::<Result<(), ()>>(), |()| false);
        let (mut first, mut second) = (Box::pin(never()), Box::pin(never()));
        assert!(futures_util::poll!(&mut first).is_pending());
        assert!(futures_util::poll!(&mut second).is_pending());
        assert_eq!(call(&gate, Ok(())).await, Err(Refused::Busy { calls: 2 }));
        drop(first);
        assert_eq!(call(&gate, Ok(())).await, Ok(Ok(())));
    }

    #[tokio::test(start_paused = true)]
    async fn one_trial_at_a_time_and_one_that_is_given_up_leaves_its_place() {
        let gate = gate();
        for _ in 0..3 {
            let _ = call(&gate, Err("outage")).await;
        }
        tokio::time::sleep(SECOND).await;
        let mut trial = Box::pin(gate.pass(std::future::pending::<Result<(), ()>>(), |()| false));
        assert!(futures_util::poll!(&mut trial).is_pending());
        assert!(matches!(call(&gate, Ok(())).await, Err(Refused::Open { .. })));
        drop(trial);
        assert_eq!(call(&gate, Ok(())).await, Ok(Ok(())));
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_trial_waits_longer() {
        let gate = gate();
        for _ in 0..3 {
            let _ = call(&gate, Err("outage")).await;
        }
        tokio::time::sleep(SECOND).await;
        assert_eq!(call(&gate, Err("outage")).await, Ok(Err("outage")));
        tokio::time::sleep(SECOND - Duration::from_millis(1)).await;
        assert!(matches!(call(&gate, Ok(())).await, Err(Refused::Open { .. })));
        tokio::time::sleep(SECOND).await;
        assert_eq!(call(&gate, Ok(())).await, Ok(Ok(())));
    }
}
