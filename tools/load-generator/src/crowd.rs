//! All sessions of a run, on a few threads, each with a runtime of its own.

use std::{rc::Rc, sync::Arc, thread::JoinHandle, time::Duration};

use anyhow::{Context, Result, bail};
use tokio::{
    sync::{Semaphore, mpsc, watch},
    task::LocalSet,
    time::{Instant, timeout_at},
};

use crate::{
    session::{End, Ledger, Plan, Reading, Session},
    tally::{Tally, record},
};

/// What the sessions tell; a session waits for a place.
const NEWS_MAX: usize = 1_024;

/// What happened to a session.
pub enum News {
    /// It is open, or has joined or been refused where all join together.
    Ready,
    Failed(String),
    Ended {
        is_slow: bool,
        end: End,
    },
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
    threads: Vec<JoinHandle<Result<Ledger>>>,
    news: mpsc::Receiver<News>,
    joins: watch::Sender<Option<Instant>>,
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
    joins: watch::Receiver<Option<Instant>>,
    phase: watch::Receiver<Phase>,
}

impl Crowd {
    /// Starts opening the sessions, `handshakes` at a time.
    pub fn start(plans: Vec<Plan>, threads: usize, handshakes: usize, tally: &Arc<Tally>) -> Result<Self> {
        let (told, news) = mpsc::channel(NEWS_MAX);
        let (phase, watched) = watch::channel(Phase::Load);
        let (joins, watched_joins) = watch::channel(None);
        let handshakes = Arc::new(Semaphore::new(handshakes));
        let tally = Arc::clone(tally);
        let shared = Shared { tally, handshakes, news: told, joins: watched_joins, phase: watched };
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
        Ok(Self { threads, news, joins, phase, ends: Vec::new(), slow_ends: Vec::new() })
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

    /// Has all sessions that were to join later do so now, each from its own thread.
    pub fn join(&self) {
        self.joins.send_replace(Some(Instant::now()));
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

    /// Lets all sessions go; gives what they saw.
    pub fn stop(mut self) -> Result<Ledger> {
        self.phase.send_replace(Phase::Over);
        // A session that waits for a place among the news must not wait for ever.
        self.news.close();
        let all = Ledger::new()?;
        for thread in self.threads.drain(..) {
            let Ok(ledger) = thread.join() else { bail!("a thread of sessions panicked") };
            all.add(ledger?)?;
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
struct Books {
    ledger: Ledger,
    /// What a slow reader finds late says nothing about the platform.
    unused: (Tally, Ledger),
}

fn run(plans: Vec<Plan>, shared: Shared) -> Result<Ledger> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let books = Rc::new(Books { ledger: Ledger::new()?, unused: (Tally::new(0, 0), Ledger::new()?) });
    let sessions = LocalSet::new();
    for plan in plans {
        sessions.spawn_local(session(plan, shared.clone(), Rc::clone(&books)));
    }
    let mut phase = shared.phase;
    drop(shared.news);
    runtime.block_on(sessions.run_until(async move {
        // An error means that the run is over as well: nobody holds the other end.
        let _ = phase.wait_for(|phase| *phase == Phase::Over).await;
    }));
    drop(sessions);
    Ok(books.ledger.clone())
}

async fn session(plan: Plan, mut shared: Shared, books: Rc<Books>) {
    let opened = {
        let Ok(_permit) = shared.handshakes.acquire().await else { return };
        let began = Instant::now();
        let opened = Session::open(&plan).await;
        record(&mut books.ledger.opens.borrow_mut(), began.elapsed());
        opened
    };
    let mut session = match opened {
        Ok(session) => session,
        Err(error) => {
            let _ = shared.news.send(News::Failed(format!("{}: {error:#}", plan.user_id))).await;
            return;
        }
    };
    if shared.news.send(News::Ready).await.is_err() {
        return;
    }
    if let Some(room_id) = plan.room_id.as_deref().filter(|_| plan.joins_later) {
        let all = shared.joins.wait_for(Option::is_some).await.ok().and_then(|at| *at);
        let Some(all) = all else { return };
        let news = match session.join(room_id, all.into_std(), &books.ledger).await {
            Ok(()) => News::Ready,
            Err(error) => News::Failed(format!("{} while it joined: {error:#}", plan.user_id)),
        };
        let has_ended = matches!(news, News::Failed(_));
        if shared.news.send(news).await.is_err() || has_ended {
            return;
        }
    }
    let (nobody, unused) = &books.unused;
    let end = match plan.reading {
        Reading::Counted => session.read(&shared.tally, &books.ledger).await,
        Reading::Slow(bytes_a_second) => session.read_slowly(bytes_a_second, nobody, unused).await,
        Reading::Stopped => {
            if shared.phase.wait_for(|phase| *phase >= Phase::Drain).await.is_err() {
                return;
            }
            session.read(nobody, unused).await
        }
    };
    let _ = shared.news.send(News::Ended { is_slow: plan.is_slow(), end }).await;
}
