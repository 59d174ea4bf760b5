//! All lanes: one for each node that the registry names or that still answers.

use std::{collections::HashMap, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use roomcast_registry::{Listing, Roster};
use roomcast_types::NodeId;
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::{
    lane::{Context, Lane, Link, Phase, Target},
    routes::NodeIndex,
};

/// A list older than this is said to be stale.
const STALE: Duration = Duration::from_secs(10);
/// How long a push waits for a fresh list.
const CATCH_UP: Duration = Duration::from_millis(250);
/// Between two tries to get the first list.
const MEET_AGAIN: Duration = Duration::from_millis(200);
/// Pushes that wait for a fresh list at once.
const CATCH_UPS_WAITING_MAX: usize = 256;

/// All lanes, by index.
pub type Lanes = Vec<Arc<Lane>>;

/// What pushes see of the lanes.
#[derive(Debug)]
pub struct Fleet {
    context: Arc<Context>,
    roster: Arc<Roster>,
    lanes: Arc<ArcSwap<Lanes>>,
    /// Senders: pushes that need a fresh list. Receiver: [`Keeper`]; closed when it ended.
    catch_ups: mpsc::Sender<oneshot::Sender<()>>,
    /// When a push last waited for a list.
    caught_up: watch::Sender<Option<Instant>>,
}

/// The task that owns the lanes' tasks.
#[derive(Debug)]
pub struct Keeper {
    context: Arc<Context>,
    roster: Arc<Roster>,
    lanes: Arc<ArcSwap<Lanes>>,
    catch_ups: mpsc::Receiver<oneshot::Sender<()>>,
    entries: HashMap<NodeId, Entry>,
    links: JoinSet<NodeIndex>,
    next_index: NodeIndex,
}

#[derive(Debug)]
struct Entry {
    lane: Arc<Lane>,
    target: watch::Sender<Target>,
}

/// A fleet without lanes, and the task that keeps it.
pub fn fleet(context: Arc<Context>, roster: Roster) -> (Fleet, Keeper) {
    let (requests, catch_ups) = mpsc::channel(CATCH_UPS_WAITING_MAX);
    let lanes = Arc::new(ArcSwap::default());
    let roster = Arc::new(roster);
    let fleet = Fleet {
        context: context.clone(),
        roster: roster.clone(),
        lanes: lanes.clone(),
        catch_ups: requests,
        caught_up: watch::Sender::new(None),
    };
    let keeper = Keeper {
        context,
        roster,
        lanes,
        catch_ups,
        entries: HashMap::new(),
        links: JoinSet::new(),
        next_index: 0,
    };
    (fleet, keeper)
}

impl Fleet {
    /// The lanes as they are now, by index.
    pub fn lanes(&self) -> Arc<Lanes> {
        self.lanes.load_full()
    }

    /// After a standstill of this process the nodes are listed once more before anything else: some may have stopped
    /// waiting for a lane of ours meanwhile, and accepted sessions. Costs nothing otherwise. When the registry does not
    /// answer, the receipt says so.
    pub async fn vouch(&self) {
        if !self.stood_still_since(self.roster.current().listed_at) {
            return;
        }
        if self.stood_still_since(*self.caught_up.borrow()) {
            // Those that come while it is under way wait, too, instead of passing by.
            let _ = Box::pin(timeout(CATCH_UP, self.catch_up())).await;
            self.caught_up.send_replace(Some(Instant::now()));
        }
    }

    /// Returns when every node that is registered now has a lane; whether the registry said so within `limit`.
    pub async fn meet(&self, limit: Duration) -> bool {
        let since = Instant::now();
        let meeting = async {
            loop {
                self.catch_up().await;
                if self.roster.current().listed_at.is_some_and(|at| at >= since) {
                    return;
                }
                sleep(MEET_AGAIN).await;
            }
        };
        timeout(limit, meeting).await.is_ok()
    }

    /// Lists the nodes now and sees that each has a lane, unless the registry does not answer.
    async fn catch_up(&self) {
        let (done, answer) = oneshot::channel();
        if self.catch_ups.send(done).await.is_ok() {
            // An error means that the keeper is being dropped.
            let _ = answer.await;
        }
    }

    /// Whether the list of nodes is too old to be believed; receipts say so.
    pub fn is_stale(&self) -> bool {
        let listed_at = self.roster.current().listed_at;
        listed_at.is_none_or(|at| at.elapsed() > STALE) || self.stood_still_since(listed_at)
    }

    fn stood_still_since(&self, instant: Option<Instant>) -> bool {
        let clock = &self.context.clock;
        clock.resumed_us() > instant.map_or(0, |instant| clock.at(instant))
    }

    /// The nodes that are registered.
    pub fn listing(&self) -> Arc<Listing> {
        self.roster.current()
    }

    /// Waits until every lane is in sync or refused, at most for `limit`.
    pub async fn linked(&self, limit: Duration) {
        let mut progress = self.context.progress.subscribe();
        let all = async {
            loop {
                progress.mark_unchanged();
                let is_settled = |lane: &Arc<Lane>| matches!(lane.phase(), Phase::InSync | Phase::Refused);
                if self.lanes().iter().all(is_settled) || progress.changed().await.is_err() {
                    return;
                }
            }
        };
        let _ = timeout(limit, all).await;
    }

    /// Messages that nodes have not acknowledged.
    pub fn queued(&self) -> usize {
        self.lanes().iter().map(|lane| lane.queued()).sum()
    }
}

impl Keeper {
    /// Follows the list of nodes; ends only by a panic of a lane's task, which it names.
    pub async fn run(mut self) -> String {
        let mut listings = self.roster.subscribe();
        loop {
            let listing = self.roster.current();
            self.follow(&listing);
            tokio::select! {
                Ok(()) = listings.changed() => listings.mark_unchanged(),
                Some(ended) = self.links.join_next() => match ended {
                    Ok(index) => self.remove(index),
                    Err(error) => return format!("the task of a lane ended: {error}"),
                },
                Some(done) = self.catch_ups.recv() => self.catch_up(done).await,
            }
        }
    }

    async fn catch_up(&mut self, first: oneshot::Sender<()>) {
        // One list serves all who asked before it is begun.
        let mut waiting = vec![first];
        while let Ok(done) = self.catch_ups.try_recv() {
            waiting.push(done);
        }
        self.roster.refresh().await;
        self.follow(&self.roster.current());
        for done in waiting {
            // A push may have stopped waiting.
            let _ = done.send(());
        }
    }

    fn follow(&mut self, listing: &Listing) {
        let is_listed =
            |node_id: &NodeId| listing.registrations.iter().any(|own| own.id.as_str() == node_id.as_str());
        let listed_before = self.entries.values().filter(|entry| entry.target.borrow().is_listed).count();
        let vanished: Vec<NodeId> = self
            .entries
            .iter()
            .filter(|(node_id, entry)| entry.target.borrow().is_listed && !is_listed(node_id))
            .map(|(node_id, _)| node_id.clone())
            .collect();
        // The registry losing half of the nodes at once says more about the registry than about the nodes.
        let is_suspended = vanished.len() >= 2 && vanished.len() * 2 >= listed_before;
        for node_id in vanished {
            if let Some(entry) = self.entries.get(&node_id) {
                entry.lane.set_listed(false);
                entry.target.send_modify(|target| {
                    target.is_listed = false;
                    target.is_suspended = is_suspended;
                });
            }
        }
        for registration in &listing.registrations {
            let target = Target {
                address: registration.grpc_address.clone(),
                incarnation: registration.incarnation,
                is_listed: true,
                is_suspended: false,
            };
            if let Ok(node_id) = NodeId::new(registration.id.as_str()) {
                self.aim(node_id, target);
            }
        }
    }

    fn aim(&mut self, node_id: NodeId, target: Target) {
        if let Some(entry) = self.entries.get(&node_id) {
            entry.lane.set_listed(true);
            entry.target.send_if_modified(|current| {
                let is_new = *current != target;
                *current = target;
                is_new
            });
            return;
        }
        let lane = Arc::new(Lane::new(self.next_index, node_id.clone(), self.context.clone()));
        self.next_index += 1;
        lane.set_listed(true);
        let (sender, targets) = watch::channel(target);
        self.links.spawn(Link::new(lane.clone(), targets).run());
        self.entries.insert(node_id, Entry { lane, target: sender });
        self.publish();
    }

    fn remove(&mut self, index: NodeIndex) {
        self.entries.retain(|_, entry| entry.lane.index() != index);
        self.publish();
    }

    fn publish(&self) {
        let mut lanes: Lanes = self.entries.values().map(|entry| entry.lane.clone()).collect();
        lanes.sort_unstable_by_key(|lane| lane.index());
        self.lanes.store(Arc::new(lanes));
    }
}
