//! All sessions of a run, on a few threads, each with a runtime of its own.

use std::{cell::RefCell, rc::Rc, sync::Arc, thread::JoinHandle, time::Duration};

use anyhow::{Context, Result, bail};
use hdrhistogram::Histogram;
use tokio::{
    sync::{Semaphore, mpsc, watch},
    task::LocalSet,
    time::{Instant, timeout_at},
};

use crate::{
    session::{End, Plan, Session},
    tally::{Tally, histogram},
};

/// What the sessions tell; a session waits for a place.
const NEWS_MAX: usize = 1_024;

/// What happened to a session.
pub enum News {
    Ready,
    Failed(String),
    Ended { is_slow: bool, end: End },
}

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    /// Slow readers do not read.
    Load,
    /// Slow readers read what is left for them.
    Drain,
    /// Everything is let go.
    Over,
}

/// All sessions.
pub struct Crowd {
    threads: Vec<JoinHandle<Result<Histogram<u64>>>>,
    news: mpsc::Receiver<News>,
    phase: watch::Sender<Phase>,
    /// Ends of sessions that nobody asked for, in words.
    pub ends: Vec<String>,
    /// How slow readers ended.
    pub slow_ends: Vec<End>,
}

/// What every thread needs.
#[derive(Clone)]
struct Shared {
    tally: Arc<Tally>,
    handshakes: Arc<Semaphore>,
    news: mpsc::Sender<News>,
    phase: watch::Receiver<Phase>,
}

impl Crowd {
    /// Starts opening the sessions, `handshakes` at a time.
    pub fn start(plans: Vec<Plan>, threads: usize, handshakes: usize, tally: &Arc<Tally>) -> Result<Self> {
        let (told, news) = mpsc::channel(NEWS_MAX);
        let (phase, watched) = watch::channel(Phase::Load);
        let handshakes = Arc::new(Semaphore::new(handshakes));
        let shared = Shared { tally: Arc::clone(tally), handshakes, news: told, phase: watched };
        let mut shares = vec![Vec::new(); threads];
        for (place, plan) in plans.into_iter().enumerate() {
            shares[place % threads].push(plan);
        }
        let threads = shares.into_iter().enumerate().map(|(number, plans)| {
            let shared = shared.clone();
            let thread = std::thread::Builder::new().name(format!("crowd-{number}"));
            thread.spawn(move || run(plans, shared)).context("a thread does not start")
        });
        let threads = threads.collect::<Result<_>>()?;
        Ok(Self { threads, news, phase, ends: Vec::new(), slow_ends: Vec::new() })
    }

    /// Waits until so many sessions are ready; the first that fails ends the run.
    pub async fn ready(&mut self, sessions: usize, patience: Duration) -> Result<()> {
        let until = Instant::now() + patience;
        let mut ready = 0;
        while ready < sessions {
            match timeout_at(until, self.news.recv()).await {
                Ok(Some(News::Ready)) => ready += 1,
                Ok(Some(News::Failed(why))) => bail!("session {} of {sessions}: {why}", ready + 1),
                Ok(Some(News::Ended { is_slow, end })) => self.note(is_slow, end),
                Ok(None) => bail!("a thread of sessions ended early"),
                Err(_) => bail!("only {ready} of {sessions} sessions were ready within {patience:?}"),
            }
        }
        Ok(())
    }

    /// Takes the news that waits.
    pub fn catch_up(&mut self) {
        while let Ok(news) = self.news.try_recv() {
            if let News::Ended { is_slow, end } = news {
                self.note(is_slow, end);
            }
        }
    }

    /// Lets slow readers read what is left for them.
    pub fn let_slow_read(&self) {
        self.phase.send_replace(Phase::Drain);
    }

    /// Lets slow readers read, and waits until so many of them ended.
    pub async fn drain(&mut self, slow: usize, patience: Duration) {
        self.let_slow_read();
        let until = Instant::now() + patience;
        while self.slow_ends.len() < slow {
            match timeout_at(until, self.news.recv()).await {
                Ok(Some(News::Ended { is_slow, end })) => self.note(is_slow, end),
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => return,
            }
        }
    }

    /// Lets all sessions go; gives the latencies to each of them.
    pub fn stop(mut self) -> Result<Histogram<u64>> {
        self.phase.send_replace(Phase::Over);
        // A session that waits for a place among the news must not wait for ever.
        self.news.close();
        let mut all = histogram()?;
        for thread in self.threads.drain(..) {
            let Ok(latencies) = thread.join() else { bail!("a thread of sessions panicked") };
            all.add(latencies?)?;
        }
        Ok(all)
    }

    fn note(&mut self, is_slow: bool, end: End) {
        match (is_slow, end) {
            (true, end) => self.slow_ends.push(end),
            (false, End::Code(code)) => self.ends.push(format!("closed with {code}")),
            (false, End::Broken) => self.ends.push("the connection ended".to_owned()),
        }
    }
}

/// Where the sessions of one thread write.
struct Ledger {
    latencies: RefCell<Histogram<u64>>,
    /// What a slow reader finds late says nothing about the platform.
    unused_tally: Tally,
    unused_latencies: RefCell<Histogram<u64>>,
}

fn run(plans: Vec<Plan>, shared: Shared) -> Result<Histogram<u64>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ledger = Rc::new(Ledger {
        latencies: RefCell::new(histogram()?),
        unused_tally: Tally::new(0, 0),
        unused_latencies: RefCell::new(histogram()?),
    });
    let sessions = LocalSet::new();
    for plan in plans {
        sessions.spawn_local(session(plan, shared.clone(), Rc::clone(&ledger)));
    }
    let mut phase = shared.phase;
    drop(shared.news);
    runtime.block_on(sessions.run_until(async move {
        // An error means that the run is over as well: nobody holds the other end.
        let _ = phase.wait_for(|phase| *phase == Phase::Over).await;
    }));
    drop(sessions);
    let latencies = ledger.latencies.borrow().clone();
    Ok(latencies)
}

async fn session(plan: Plan, mut shared: Shared, ledger: Rc<Ledger>) {
    let opened = {
        let Ok(_permit) = shared.handshakes.acquire().await else { return };
        Session::open(&plan).await
    };
    let session = match opened {
        Ok(session) => session,
        Err(error) => {
            let _ = shared.news.send(News::Failed(format!("{}: {error:#}", plan.user_id))).await;
            return;
        }
    };
    if shared.news.send(News::Ready).await.is_err() {
        return;
    }
    if plan.is_slow && shared.phase.wait_for(|phase| *phase >= Phase::Drain).await.is_err() {
        return;
    }
    let end = if plan.is_slow {
        session.read(&ledger.unused_tally, &ledger.unused_latencies).await
    } else {
        session.read(&shared.tally, &ledger.latencies).await
    };
    let _ = shared.news.send(News::Ended { is_slow: plan.is_slow, end }).await;
}
