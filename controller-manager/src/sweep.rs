//! Finds nodes that died and takes their sessions out of presence. Every controller does it; twice does no harm.

mod clean;
mod probe;
mod verdict;

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::FutureExt;
use roomcast_registry::Listing;
use roomcast_store::presence::NodeRef;
use tokio::{
    sync::Notify,
    time::{Instant, MissedTickBehavior, interval},
};

pub(crate) use self::probe::refuses;
use self::verdict::{Lease, Leases, Probe, Signs, Verdict};
use crate::{concurrent, controller::Controller};

/// How often every known node is looked at.
const EVERY: Duration = Duration::from_secs(1);
/// Nodes asked for a sign of life at once.
const PROBES_AT_ONCE: usize = 32;

/// What is known of nodes that may have died.
#[derive(Default)]
pub(crate) struct Suspects {
    known: Mutex<HashMap<NodeRef, Known>>,
    nudged: Notify,
}

struct Known {
    /// Where it was last registered.
    address: Option<String>,
    /// Its last sign of life that was seen here.
    alive_at: Instant,
    /// Its reports broke off, or its lease is gone: it has to answer for itself.
    is_suspect: bool,
    /// Another life of the node has introduced itself.
    is_replaced: bool,
    /// It is dead: it was swept or will be. Its registration may stand until its lease runs out.
    is_swept: bool,
    /// A sweep waits or is under way.
    is_being_swept: bool,
}

impl Default for Known {
    fn default() -> Self {
        Self {
            address: None,
            alive_at: Instant::now(),
            is_suspect: false,
            is_replaced: false,
            is_swept: false,
            is_being_swept: false,
        }
    }
}

impl Suspects {
    /// Has a node asked for a sign of life at once.
    pub(crate) fn look_at(&self, node: NodeRef) {
        self.lock().entry(node).or_default().is_suspect = true;
        self.nudged.notify_one();
    }

    /// A later life of the node has introduced itself.
    pub(crate) fn died(&self, node: NodeRef) {
        self.lock().entry(node).or_default().is_replaced = true;
        self.nudged.notify_one();
    }

    /// A node opened a stream: whatever was held against it is over.
    pub(crate) fn reports(&self, node: &NodeRef) {
        if let Some(known) = self.lock().get_mut(node) {
            *known = Known { address: known.address.take(), ..Known::default() };
        }
    }

    /// Where a node was last registered.
    fn address(&self, node: &NodeRef) -> Option<String> {
        self.lock().get(node)?.address.clone()
    }

    /// Whether something speaks against sending clients to a node.
    pub(crate) fn is_doubtful(&self, node: &NodeRef) -> bool {
        self.lock().get(node).is_some_and(|known| known.is_suspect || known.is_replaced || known.is_swept)
    }

    /// Whether a node is known to be dead, and its sessions with it.
    pub(crate) fn is_dead(&self, node: &NodeRef) -> bool {
        self.lock().get(node).is_some_and(|known| known.is_replaced || known.is_swept)
    }

    /// Notes that a dead node is to be swept; whether nobody does it yet.
    fn begin_sweep(&self, node: &NodeRef) -> bool {
        let mut suspects = self.lock();
        let known = suspects.entry(node.clone()).or_default();
        known.is_swept = true;
        !std::mem::replace(&mut known.is_being_swept, true)
    }

    /// What a sweep left behind is found by the next look.
    fn end_sweep(&self, node: &NodeRef) {
        if let Some(known) = self.lock().get_mut(node) {
            known.is_being_swept = false;
        }
    }

    fn open_cases(&self) -> Vec<NodeRef> {
        let known = self.lock();
        let open = known.iter().filter(|(_, known)| known.is_suspect && !known.is_swept);
        open.map(|(node, _)| node.clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<NodeRef, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks at all nodes now and then, and at suspects at once. Runs for ever.
pub(crate) async fn sweep_dead(controller: &Arc<Controller>) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut was_sparing = false;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = controller.suspects.nudged.notified() => {}
        }
        // Presence away is reported by the health watch; without it there is nothing to sweep.
        let Ok(lives) = controller.presence.indexed_nodes().await else { continue };
        let spared = look(controller, lives).await;
        if spared > 0 && !was_sparing {
            tracing::warn!(
                nodes = spared,
                "so many nodes lost their leases at once that silent ones are not taken for dead"
            );
        }
        was_sparing = spared > 0;
    }
}

/// How many nodes would be dead if so many had not lost their leases at once.
async fn look(controller: &Arc<Controller>, mut lives: Vec<NodeRef>) -> usize {
    let listing = controller.nodes.current();
    // A node without sessions has no index, and yet it must clear itself before clients are sent to it again.
    let suspects = controller.suspects.open_cases();
    lives.extend(suspects.into_iter().filter(|node| lease(&listing, node) == Lease::Held));
    let lives: HashSet<NodeRef> = lives.into_iter().collect();
    let leases: Vec<(NodeRef, Lease)> = lives
        .into_iter()
        .map(|node| {
            let lease = lease(&listing, &node);
            (node, lease)
        })
        .collect();
    note(controller, &listing, &leases);
    let gone = leases.iter().filter(|(_, lease)| *lease == Lease::Gone).count();
    let age = listing.listed_at.map(|at| at.elapsed());
    let leases_say = Leases::of(leases.len(), gone, age);
    let spared = AtomicUsize::new(0);
    let looks = leases.into_iter().map(|(node, lease)| {
        let spared = &spared;
        async move {
            match verdict::judge(&signs(controller, &node, lease).await, leases_say) {
                Verdict::Alive => {}
                Verdict::Spared => _ = spared.fetch_add(1, Ordering::Relaxed),
                Verdict::Dead(cause) if controller.suspects.begin_sweep(&node) => {
                    let owner = controller.clone();
                    controller.tasks.spawn(async move {
                        clean::sweep(&owner, &node, cause).await;
                        owner.suspects.end_sweep(&node);
                    });
                }
                Verdict::Dead(_) => {}
            }
        }
        .boxed()
    });
    concurrent::every(looks.collect(), PROBES_AT_ONCE).await;
    spared.into_inner()
}

fn lease(listing: &Listing, node: &NodeRef) -> Lease {
    match listing.registrations.iter().find(|found| found.id.as_str() == node.node_id.as_str()) {
        Some(found) if found.incarnation == node.incarnation => Lease::Held,
        Some(_) => Lease::OtherLife,
        None => Lease::Gone,
    }
}

/// Remembers addresses while there are any, and forgets lives that are no more.
fn note(controller: &Controller, listing: &Listing, leases: &[(NodeRef, Lease)]) {
    let mut known = controller.suspects.lock();
    let lives: HashSet<&NodeRef> = leases.iter().map(|(node, _)| node).collect();
    known.retain(|node, _| lives.contains(node) || lease(listing, node) == Lease::Held);
    for (node, lease) in leases {
        let entry = known.entry(node.clone()).or_default();
        if *lease == Lease::Held {
            let mut registrations = listing.registrations.iter();
            let own = registrations.find(|found| found.id.as_str() == node.node_id.as_str());
            entry.address = own.map(|own| own.grpc_address.clone());
        } else {
            entry.is_suspect = true;
        }
        if let Some(silence) = controller.streams.silent_for(node) {
            let reported_at = Instant::now().checked_sub(silence);
            entry.alive_at = reported_at.map_or(entry.alive_at, |at| at.max(entry.alive_at));
        }
    }
}

async fn signs(controller: &Controller, node: &NodeRef, lease: Lease) -> Signs {
    let (address, is_suspect, is_replaced) = {
        let mut known = controller.suspects.lock();
        let entry = known.entry(node.clone()).or_default();
        (entry.address.clone(), entry.is_suspect, entry.is_replaced)
    };
    let probe = match address {
        _ if is_replaced => Probe::OtherLife,
        Some(address) if is_suspect => probe::probe(controller, node, &address).await,
        _ => Probe::None,
    };
    let mut known = controller.suspects.lock();
    let entry = known.entry(node.clone()).or_default();
    if probe == Probe::Same {
        entry.alive_at = Instant::now();
        entry.is_suspect = false;
    }
    Signs { lease, probe, silent_for: entry.alive_at.elapsed() }
}
