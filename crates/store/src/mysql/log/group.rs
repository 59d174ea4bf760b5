//! Appends that wait together, of whatever logs, in one transaction: three exchanges with the server for all of them, and
//! a fourth when idempotency keys are looked up.
//!
//! Logs share out over a few lanes, each with one transaction at a time: what comes while it runs goes with the next
//! one. No append may harm its neighbours, so whatever would make them wait goes alone, as
//! [`append`](super::append()) does it: a log that another push-manager holds or that has not begun, a key that expired
//! or is used twice, and each append of a transaction that met a conflict.

mod plan;

use std::{
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher},
    sync::{Arc, OnceLock},
};

use roomcast_runtime::Refused;
use tokio::{
    sync::{
        mpsc::{self, error::TrySendError},
        oneshot,
    },
    task::JoinSet,
};

use self::plan::Plan;
use super::trim;
use crate::{
    error::{Error, Result},
    log::{Append, Appended, LogKey, Retention},
    mysql::{
        fault::{self, BACKEND},
        server::Server,
    },
};

/// Transactions of this handle under way at once, each over logs of its own: enough that commits overlap, and few, as
/// many appends then share one.
const LANES: usize = 4;
/// Appends of one transaction: their locks are held until all are written.
const GROUP_MAX: usize = 64;
/// Payloads of one transaction, which double in the text of a statement: far below the smallest `max_allowed_packet`.
const GROUP_BYTES_MAX: usize = 1 << 20;
/// Appends that wait in a lane; more are refused.
const WAITING_MAX: usize = 1_024;

/// The lanes of one handle.
#[derive(Debug)]
pub(in crate::mysql) struct Groups {
    server: Arc<Server>,
    /// Each begins with its first append: a handle may be opened where no runtime is.
    lanes: [OnceLock<Lane>; LANES],
}

/// Ends with its handle.
#[derive(Debug)]
struct Lane {
    waiting: mpsc::Sender<Waiting>,
    _task: JoinSet<()>,
}

/// One append that waits, with a payload.
#[derive(Debug)]
struct Waiting {
    append: Append,
    retention: Retention,
    /// Closed when nobody waits any more.
    answer: oneshot::Sender<Result<Option<Appended>>>,
}

impl Waiting {
    fn bytes(&self) -> usize {
        self.append.payload.as_ref().map_or(0, |payload| payload.len())
    }
}

impl Groups {
    pub(in crate::mysql) fn new(server: Arc<Server>) -> Self {
        Self { server, lanes: Default::default() }
    }

    /// Appends with what waits together; `None`: nothing was done, and the append is to go alone.
    pub(in crate::mysql) async fn append(
        &self,
        append: &Append,
        retention: &Retention,
    ) -> Result<Option<Appended>> {
        let is_small = append.payload.as_ref().is_some_and(|payload| payload.len() <= GROUP_BYTES_MAX);
        if !is_small || append.key == LogKey::Unaddressed {
            return Ok(None);
        }
        let (answer, answered) = oneshot::channel();
        let waiting = Waiting { append: append.clone(), retention: *retention, answer };
        match self.lane(&append.key).waiting.try_send(waiting) {
            Ok(()) => {}
            // Its task panicked, or its runtime ended.
            Err(TrySendError::Closed(_)) => return Ok(None),
            Err(TrySendError::Full(_)) => {
                let refused = Refused::Busy { calls: WAITING_MAX };
                return Err(unavailable("append to a log", Some(refused.into())));
            }
        }
        answered
            .await
            .unwrap_or_else(|_| Err(unavailable("the transaction of the append was given up", None)))
    }

    /// A log is always in the same one, so that none waits for a lock of this handle.
    fn lane(&self, key: &LogKey) -> &Lane {
        let number = BuildHasherDefault::<DefaultHasher>::default().hash_one(key) as usize % LANES;
        self.lanes[number].get_or_init(|| {
            let (waiting, receiver) = mpsc::channel(WAITING_MAX);
            let mut task = JoinSet::new();
            task.spawn(work(self.server.clone(), receiver));
            Lane { waiting, _task: task }
        })
    }
}

fn unavailable(context: &str, source: Option<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Unavailable { backend: BACKEND, context: context.to_owned(), source }
}

async fn work(server: Arc<Server>, mut waiting: mpsc::Receiver<Waiting>) {
    let mut gathered = Vec::with_capacity(GROUP_MAX);
    while waiting.recv_many(&mut gathered, GROUP_MAX).await > 0 {
        while !gathered.is_empty() {
            let mut group: Vec<Waiting> = gathered.drain(..fitting(&gathered)).collect();
            // Whoever gave up was told nothing of its message: it is better not there.
            group.retain(|waiting| !waiting.answer.is_closed());
            if !group.is_empty() {
                run(&server, group).await;
            }
        }
    }
}

/// How many from the front go together; at least one.
fn fitting(gathered: &[Waiting]) -> usize {
    let mut bytes = 0;
    let fits = |waiting: &&Waiting| {
        bytes += waiting.bytes();
        bytes <= GROUP_BYTES_MAX
    };
    gathered.iter().take_while(fits).count().max(1)
}

async fn run(server: &Server, group: Vec<Waiting>) {
    let outcome = server.call(|| append_all(server, &group)).await;
    match outcome {
        Ok(answers) => {
            for (waiting, answer) in group.into_iter().zip(answers) {
                // Who gave up meanwhile needs no answer.
                let _ = waiting.answer.send(Ok(answer));
            }
        }
        Err(error) => {
            let (is_retryable, error) = (error.is_retryable(), Arc::new(error));
            for waiting in group {
                let (context, source) = ("append to logs together".to_owned(), Some(error.clone().into()));
                let error = if is_retryable {
                    Error::Unavailable { backend: BACKEND, context, source }
                } else {
                    Error::Failed { backend: BACKEND, context, source }
                };
                let _ = waiting.answer.send(Err(error));
            }
        }
    }
}

/// One answer per append; `None` for those that are to go alone. A conflict ends the transaction, so all of them do.
async fn append_all(server: &Server, group: &[Waiting]) -> fault::Result<Vec<Option<Appended>>> {
    match try_append_all(server, group).await {
        Err(fault) if fault.is_conflict() || fault.is_duplicate() => Ok(vec![None; group.len()]),
        answers => answers,
    }
}

async fn try_append_all(server: &Server, group: &[Waiting]) -> fault::Result<Vec<Option<Appended>>> {
    let mut transaction = server.begin().await?;
    let heads = transaction.text("lock logs", plan::lock(group)).await?;
    let mut plan = Plan::new(&heads)?;
    if let Some(question) = plan.keys_used(group) {
        plan.note_used(&transaction.text("read idempotency keys", question).await?)?;
    }
    let answers = plan.fill(group);
    let Some(writes) = plan.writes() else {
        transaction.rollback().await?;
        return Ok(answers);
    };
    if plan.trims.is_empty() {
        transaction.commit_after("append to logs", writes).await?;
    } else {
        transaction.text("append to logs", writes).await?;
        for (key, retention) in &plan.trims {
            trim(&mut transaction, key, plan.heads[key], retention).await?;
        }
        transaction.commit().await?;
    }
    Ok(answers)
}
