//! Keeps the list of one role up to date: hints make it fast, a full list every few seconds makes it true.

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt, StreamExt};
use roomcast_types::ServiceId;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::Instant,
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::AbortOnDropHandle;

use crate::{Hint, Registration, Registry, Role, State, call::bounded};

/// How long a lost hint can go unnoticed.
const LIST_EVERY: Duration = Duration::from_secs(5);

/// The same while the registry does not answer: the first list after it came back matters.
const LIST_EVERY_WHILE_AWAY: Duration = Duration::from_secs(1);

/// A backend whose watches end at once must not be asked in a tight loop.
const PAUSE_AFTER_LOST_WATCH: Duration = Duration::from_millis(100);

/// Callers that wait for a refresh at once; more of them wait for a place.
const REFRESHES_WAITING_MAX: usize = 16;

/// The registrations of one role, as last listed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// By id.
    pub registrations: Vec<Registration>,
    /// When the list was read; `None` before the first time. While the registry is away the last list stays, and this
    /// tells its age.
    pub listed_at: Option<Instant>,
}

/// A running copy of one role's list; dropping it ends the task that keeps it.
#[derive(Debug)]
pub struct Roster {
    listing: watch::Receiver<Arc<Listing>>,
    refreshes: mpsc::Sender<oneshot::Sender<()>>,
    _keeper: AbortOnDropHandle<()>,
}

impl Roster {
    /// Lists at once, again on each hint, and every 5 s regardless. Needs a tokio runtime around it.
    pub fn start(registry: Arc<dyn Registry>, role: Role) -> Self {
        let (publish, listing) = watch::channel(Arc::default());
        let (refreshes, requests) = mpsc::channel(REFRESHES_WAITING_MAX);
        let keeper = Keeper { registry, role, listing: publish, requests, hints: None, is_away: false };
        Self { listing, refreshes, _keeper: AbortOnDropHandle::new(tokio::spawn(keeper.run())) }
    }

    /// The list as it is known now.
    pub fn current(&self) -> Arc<Listing> {
        self.listing.borrow().clone()
    }

    /// Wakes on the first list and whenever the registrations in it differ; a list that only is younger is there to
    /// be read, without a wake-up. A list that is there already counts as news to a new subscriber.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Listing>> {
        self.listing.clone()
    }

    /// Whether a process other than `own` is there to take over what `own` does: one that starts or serves. Before the
    /// first list nobody knows, and it is assumed.
    pub fn has_other(&self, own: &ServiceId) -> bool {
        has_other(&self.listing.borrow(), own)
    }

    /// Waits until there is nobody other than `own` to take over: then there is nothing to wait for. See
    /// [`Self::has_other`].
    pub async fn alone(&self, own: &ServiceId) {
        let mut listing = self.listing.clone();
        if listing.wait_for(|listing| !has_other(listing, own)).await.is_err() {
            // The keeper is being dropped with its runtime; nothing will be known any more.
            std::future::pending::<()>().await;
        }
    }

    /// Lists now; returns when a list that was begun after this call is in [`Self::current`], or failed.
    pub async fn refresh(&self) {
        let (done, answer) = oneshot::channel();
        if self.refreshes.send(done).await.is_ok() {
            // An error means that the task is being dropped with its runtime: nothing left to wait for.
            let _ = answer.await;
        }
    }
}

fn has_other(listing: &Listing, own: &ServiceId) -> bool {
    let mut others = listing.registrations.iter().filter(|listed| listed.id != *own);
    listing.listed_at.is_none() || others.any(|other| other.state != State::Draining)
}

struct Keeper {
    registry: Arc<dyn Registry>,
    role: Role,
    listing: watch::Sender<Arc<Listing>>,
    /// Sender: [`Roster::refresh`]. Receiver: this task. Closing it does not end the task: it is aborted instead.
    requests: mpsc::Receiver<oneshot::Sender<()>>,
    /// `None` while there is no watch.
    hints: Option<ReceiverStream<Hint>>,
    /// Whether the last call failed.
    is_away: bool,
}

impl Keeper {
    async fn run(mut self) {
        let mut waiting: Vec<oneshot::Sender<()>> = Vec::new();
        loop {
            let answer = self.watch_and_list().await;
            self.report(answer);
            for done in waiting.drain(..) {
                // Whoever asked may have gone.
                let _ = done.send(());
            }
            self.wait(&mut waiting).await;
        }
    }

    /// Watches, then lists: what changes in between is heard of. The list is worth having without a watch.
    async fn watch_and_list(&mut self) -> crate::Result<()> {
        let mut watched = Ok(());
        if self.hints.is_none() {
            match bounded("watch registrations", self.registry.watch(self.role)).await {
                Ok(hints) => self.hints = Some(hints),
                Err(error) => watched = Err(error),
            }
        }
        let registrations = bounded("list registrations", self.registry.list(self.role)).await?;
        self.publish(registrations);
        watched
    }

    fn report(&mut self, answer: crate::Result<()>) {
        match &answer {
            Err(error) if !self.is_away => {
                tracing::warn!(role = %self.role, %error, "the registry is away; the last list stays");
            }
            Ok(()) if self.is_away => tracing::info!(role = %self.role, "the registry answers again"),
            _ => {}
        }
        self.is_away = answer.is_err();
    }

    /// Waits for a reason to list.
    async fn wait(&mut self, waiting: &mut Vec<oneshot::Sender<()>>) {
        let Self { requests, hints, .. } = self;
        let pause = if self.is_away { LIST_EVERY_WHILE_AWAY } else { LIST_EVERY };
        let hint = async {
            match hints {
                Some(hints) => hints.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            hint = hint => match hint {
                Some(Hint) => drain(hints),
                None => {
                    *hints = None;
                    tokio::time::sleep(PAUSE_AFTER_LOST_WATCH).await;
                }
            },
            Some(done) = requests.recv() => waiting.push(done),
            () = tokio::time::sleep(pause) => {}
        }
        while let Ok(done) = requests.try_recv() {
            waiting.push(done);
        }
    }

    fn publish(&self, registrations: Vec<Registration>) {
        self.listing.send_if_modified(|listing| {
            let is_news = listing.listed_at.is_none() || listing.registrations != registrations;
            *listing = Arc::new(Listing { registrations, listed_at: Some(Instant::now()) });
            is_news
        });
    }
}

/// One list answers all hints that wait.
fn drain(hints: &mut Option<ReceiverStream<Hint>>) {
    let Some(hints) = hints else { return };
    while let Some(Some(Hint)) = hints.next().now_or_never() {}
}
