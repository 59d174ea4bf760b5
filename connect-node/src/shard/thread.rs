//! The shard's thread: its loop over the mailbox, and the task of each session.

use std::{cell::RefCell, panic::AssertUnwindSafe, rc::Rc, time::Duration};

use axum::Router;
use futures_util::FutureExt;
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{session::Turn, state::Shard, timers::millis, upgrade};
use crate::{
    lane::wakes,
    ports::{SessionKey, ToShard},
};

/// How long the walks under way when a stop arrives may hold it up.
const STOP_BARRIER: Duration = Duration::from_millis(500);
/// How long outcomes wait for others.
const NEWS_WAIT: Duration = Duration::from_millis(10);

/// Runs until a stop is done, `end` is cancelled, or nobody holds the mailbox's sender any more.
pub(super) async fn run(
    shard: Shard,
    mut mailbox: mpsc::Receiver<ToShard>,
    pages: Router,
    end: CancellationToken,
) {
    let mut ticks = tokio::time::interval(shard.flow.wheel.tick());
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let shard = Rc::new(RefCell::new(shard));
    tokio::task::spawn_local(tell_news(shard.clone()));
    let mut stop_at = None;
    loop {
        if shard.borrow().agenda.is_done() {
            tokio::select! {
                biased;
                () = end.cancelled() => return,
                command = mailbox.recv() => match command {
                    Some(command) => take(&shard, &pages, command, &mut stop_at),
                    None => return,
                },
                _ = ticks.tick() => {}
            }
        }
        while shard.borrow().agenda.has_room() {
            match mailbox.try_recv() {
                Ok(command) => take(&shard, &pages, command, &mut stop_at),
                Err(mpsc::error::TryRecvError::Empty) => break,
                Err(mpsc::error::TryRecvError::Disconnected) => return,
            }
        }
        if turn(&mut shard.borrow_mut(), stop_at) {
            // Nobody is left to write what waits.
            shard.borrow_mut().abandon();
            return;
        }
        if end.is_cancelled() {
            return;
        }
        tokio::task::yield_now().await;
    }
}

fn take(shard: &Rc<RefCell<Shard>>, pages: &Router, command: ToShard, stop_at: &mut Option<Instant>) {
    match command {
        ToShard::Accept(_) if stop_at.is_some() => {
            let shard = shard.borrow();
            drop(shard.load.adopt_handshake(shard.index));
        }
        ToShard::Accept(stream) => {
            tokio::task::spawn_local(guarded(
                shard.clone(),
                upgrade::serve(shard.clone(), pages.clone(), stream),
            ));
        }
        command => {
            let mut shard = shard.borrow_mut();
            if let ToShard::Stop { flush_wait } = &command {
                stop_at.get_or_insert_with(Instant::now);
                shard.flush_wait = millis(*flush_wait);
            }
            shard.take_command(command);
        }
    }
}

/// Tells outcomes that came after their walk, those of a few milliseconds together.
async fn tell_news(shard: Rc<RefCell<Shard>>) {
    let first = shard.borrow().flow.news.first();
    loop {
        first.notified().await;
        tokio::time::sleep(NEWS_WAIT).await;
        wakes::together(|| shard.borrow_mut().flow.news.tell());
    }
}

/// One slice of work, and what the clock asks for; says whether a stop is done.
fn turn(shard: &mut Shard, stop_at: Option<Instant>) -> bool {
    shard.flow.refresh();
    // Outcomes of a slice leave together.
    wakes::together(|| shard.work());
    shard.expire();
    shard.settle();
    let Some(since) = stop_at.map(|at| at.elapsed()) else { return false };
    if !shard.is_stopping && since >= STOP_BARRIER {
        shard.stop();
    }
    shard.is_stopping && (shard.sessions.is_empty() || millis(since) >= shard.stop_wait())
}

/// Counts a panic of a connection that is no session yet.
pub(super) async fn guarded(shard: Rc<RefCell<Shard>>, serving: impl Future<Output = ()>) {
    if AssertUnwindSafe(serving).catch_unwind().await.is_err() {
        tracing::error!("a panic ended a connection before it was a session");
        shard.borrow().metrics.panics.increment(1);
    }
}

/// The task of one session: reads and writes its socket until the session is gone. A panic closes the session with
/// 1011 and nothing else.
pub(super) async fn session(shard: Rc<RefCell<Shard>>, key: SessionKey) {
    while AssertUnwindSafe(drive(&shard, key)).catch_unwind().await.is_err() {
        tracing::error!(slot = key.slot, "a panic ended a session");
        if !shard.borrow_mut().panicked(key) {
            return;
        }
    }
}

async fn drive(shard: &RefCell<Shard>, key: SessionKey) {
    loop {
        let turn = std::future::poll_fn(|cx| shard.borrow_mut().poll_turn(key, cx)).await;
        let mut shard = shard.borrow_mut();
        match turn {
            Some(Turn::Read) => shard.read(key),
            Some(Turn::Write) => {
                shard.flow.refresh();
                shard.flush(key);
            }
            None => return,
        }
    }
}
