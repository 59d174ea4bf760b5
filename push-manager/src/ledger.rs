//! The push-manager's ledger: what the nodes told of its pushes, by node and by the minute of acceptance.
//!
//! It is written where outcomes arrive on a lane and knows nothing of receipts, so that it finds what they hide: counts
//! that do not add up, targets that are still pending when the receipt is forgotten, messages that a node took and
//! never spoke of.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use metrics::Gauge;
use roomcast_proto::{
    ledger::Minutes,
    pubsub::{LedgerCounts, Outcome},
};
use roomcast_types::{MessageId, NodeId, unix_millis};

/// See the module. Its lock is short, taken once for each outcome that arrives.
#[derive(Debug)]
pub struct Ledger {
    kept: Mutex<Kept>,
    unaccounted: Gauge,
    overdue_after: Duration,
}

#[derive(Debug, Default)]
struct Kept {
    shares: Minutes<Node, Share>,
    pushes: Minutes<(), u64>,
}

/// One life of a node; 0 while it is not known which got the message.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Node {
    node_id: NodeId,
    life: u64,
}

/// One node's share of the pushes of one minute.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Share {
    /// As the node told.
    pub told: LedgerCounts,
    /// Targets that count as NODE_LOST and that no node told of.
    pub lost: u64,
    /// Messages whose outcomes were no longer followed, as there were too many.
    pub unfollowed: u64,
}

/// The page of one lane's node.
#[derive(Debug)]
pub struct Book {
    ledger: Arc<Ledger>,
    node: Node,
}

/// What the ledger holds of one message on one node.
#[derive(Debug)]
pub struct Account {
    message_id: MessageId,
    /// Targets there as last announced.
    announced: u64,
    /// Which life of the node told of it; 0 before any did.
    life: u64,
    /// Targets as first told.
    targets: u64,
    held: LedgerCounts,
    /// Another push-manager, or an earlier push of ours, brought the message first: its counts stand there.
    is_repeat: bool,
    /// Targets that the share counts as lost for this.
    counted_lost: u64,
    is_lost: bool,
    is_overdue: bool,
}

impl Ledger {
    /// Empty. The gauge shows the targets that are lost; what has no outcome after `overdue_after` is.
    pub fn new(unaccounted: Gauge, overdue_after: Duration) -> Arc<Self> {
        unaccounted.set(0.0);
        Arc::new(Self { kept: Mutex::default(), unaccounted, overdue_after })
    }

    /// A push was accepted.
    pub fn accepted(&self, timestamp_ms: i64) {
        *self.lock().pushes.entry(timestamp_ms, &(), unix_millis()) += 1;
    }

    /// A node did not even get the message.
    pub fn refused(&self, node_id: &NodeId, timestamp_ms: i64, announced: u64) {
        let node = Node { node_id: node_id.clone(), life: 0 };
        self.lock().shares.entry(timestamp_ms, &node, unix_millis()).lost += announced;
    }

    /// Pushes accepted from the minute of `since_ms` on.
    pub fn pushes(&self, since_ms: i64) -> u64 {
        self.lock().pushes.since(since_ms).map(|(_, (), count)| count).sum()
    }

    /// Each minute's share of each life of each node, from the minute of `since_ms` on.
    pub fn shares(&self, since_ms: i64) -> Vec<(i64, NodeId, u64, Share)> {
        let kept = self.lock();
        let share =
            |(minute, node, share): (i64, &Node, &Share)| (minute, node.node_id.clone(), node.life, *share);
        kept.shares.since(since_ms).map(share).collect()
    }

    /// The first minute of which nothing was dropped.
    pub fn complete_from_ms(&self) -> i64 {
        self.lock().shares.complete_from_ms()
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    /// Of a node whose life is not known yet.
    pub fn new(ledger: Arc<Ledger>, node_id: NodeId) -> Self {
        Self { ledger, node: Node { node_id, life: 0 } }
    }

    /// This life of the node speaks from now on.
    pub fn meet(&mut self, life: u64) {
        self.node.life = life;
    }

    /// A message is on its way.
    pub fn open(&self, message_id: MessageId, announced: u64) -> Account {
        let held = LedgerCounts::default();
        Account {
            message_id,
            announced,
            life: 0,
            targets: 0,
            held,
            is_repeat: false,
            counted_lost: 0,
            is_lost: false,
            is_overdue: false,
        }
    }

    /// The node told what became of it.
    pub fn told(&self, account: &mut Account, outcome: &Outcome) {
        account.is_repeat = false;
        if account.held.messages == 0 {
            let lost = std::mem::take(&mut account.counted_lost);
            if lost > 0 {
                self.change(account, |share| share.lost = share.lost.saturating_sub(lost));
            }
            let untold = std::mem::take(&mut account.held);
            self.put(account, &untold, &LedgerCounts::default());
            (account.life, account.targets) = (self.node.life, outcome.targets);
        }
        self.hold(account, outcome.into());
    }

    /// The node had walked the message before: nothing is missed, and nothing counted here, unless it told us of that walk.
    pub fn repeated(&self, account: &mut Account) {
        if account.held.messages == 0 {
            account.is_repeat = true;
            self.hold(account, LedgerCounts { unaccounted: 0, ..account.held });
        }
    }

    /// The node is dead, or the message was given up: nothing more is missed.
    pub fn lost(&self, account: &mut Account) {
        if !std::mem::replace(&mut account.is_lost, true) {
            if account.held.messages == 0 && !account.is_repeat {
                account.counted_lost = account.announced;
                self.change(account, |share| share.lost += account.announced);
            }
            self.hold(account, LedgerCounts { unaccounted: 0, ..account.held });
        }
    }

    /// It should have its outcomes by now.
    pub fn overdue(&self, account: &mut Account) {
        account.is_overdue = true;
        self.hold(account, LedgerCounts { unaccounted: 0, ..account.held });
    }

    /// It is no longer followed, as there are too many.
    pub fn forget(&self, account: &Account) {
        self.change(account, |share| share.unfollowed += 1);
    }

    /// How long a message may be without its outcomes.
    pub fn overdue_after(&self) -> Duration {
        self.ledger.overdue_after
    }

    fn hold(&self, account: &mut Account, mut counts: LedgerCounts) {
        counts.unaccounted = account.unaccounted(&counts);
        if counts == account.held {
            return;
        }
        self.put(account, &account.held, &counts);
        account.held = counts;
    }

    fn put(&self, account: &Account, before: &LedgerCounts, now: &LedgerCounts) {
        self.change(account, |share| share.told.replace(before, now));
        self.ledger.unaccounted.increment(now.unaccounted as f64 - before.unaccounted as f64);
    }

    fn change(&self, account: &Account, change: impl FnOnce(&mut Share)) {
        let node = Node { node_id: self.node.node_id.clone(), life: account.life };
        let accepted_ms = i64::try_from(account.message_id.unix_ms()).unwrap_or(i64::MAX);
        change(self.ledger.lock().shares.entry(accepted_ms, &node, unix_millis()));
    }
}

impl Account {
    /// So many targets were announced after all: the first push follows a repeat of it.
    pub fn expect(&mut self, announced: u64) {
        self.announced = announced;
    }

    fn unaccounted(&self, counts: &LedgerCounts) -> u64 {
        let is_missed = self.is_overdue && !self.is_lost && !self.is_repeat;
        if counts.messages == 0 {
            // A node that took a message owes a word, also where it was not known to hold a target.
            return if is_missed { self.announced.max(1) } else { 0 };
        }
        let missed = if is_missed { counts.pending } else { 0 };
        counts.excess().max(counts.targets.abs_diff(self.targets)) + missed
    }
}

#[cfg(test)]
mod tests {
    use roomcast_types::Incarnation;

    use super::*;

    fn book() -> Book {
        let ledger = Ledger::new(Gauge::noop(), Duration::from_secs(120));
        let mut book = Book::new(ledger, NodeId::new("node").unwrap());
        book.meet(7);
        book
    }

    fn message() -> MessageId {
        MessageId::new(unix_millis().unsigned_abs(), Incarnation::random(), 1)
    }

    fn outcome(targets: u64, pending: u64, written: u64) -> Outcome {
        Outcome { targets, pending, written, ..Outcome::default() }
    }

    /// Counts of the told share and of the one without a node's life.
    fn shares(book: &Book) -> (Share, Share) {
        let of = |life| {
            let shares = book.ledger.shares(0);
            shares.into_iter().find(|share| share.2 == life).map(|share| share.3).unwrap_or_default()
        };
        (of(7), of(0))
    }

    #[test]
    fn what_is_told_again_and_again_is_held_once() {
        let book = book();
        let mut account = book.open(message(), 3);
        book.told(&mut account, &outcome(3, 2, 1));
        book.told(&mut account, &outcome(3, 2, 1));
        book.told(&mut account, &outcome(3, 0, 3));
        let (told, _) = shares(&book);
        assert_eq!((told.told.messages, told.told.targets, told.told.written), (1, 3, 3));
        assert_eq!((told.told.pending, told.told.unaccounted, told.lost), (0, 0, 0));
    }

    #[test]
    fn counts_that_do_not_add_up_are_unaccounted() {
        let book = book();
        let mut account = book.open(message(), 3);
        book.told(&mut account, &outcome(3, 1, 1));
        assert_eq!(shares(&book).0.told.unaccounted, 1);
        book.told(&mut account, &outcome(2, 0, 2));
        assert_eq!(shares(&book).0.told.unaccounted, 1, "the targets changed");
        book.told(&mut account, &outcome(3, 0, 3));
        assert_eq!(shares(&book).0.told.unaccounted, 0);
    }

    #[test]
    fn what_is_pending_or_never_told_of_is_unaccounted_once_it_is_overdue() {
        let book = book();
        let (mut slow, mut silent, mut blind) =
            (book.open(message(), 3), book.open(message(), 4), book.open(message(), 0));
        book.told(&mut slow, &outcome(3, 2, 1));
        for account in [&mut slow, &mut silent, &mut blind] {
            book.overdue(account);
        }
        let (told, untold) = shares(&book);
        assert_eq!((told.told.unaccounted, untold.told.unaccounted), (2, 5));
        book.told(&mut slow, &outcome(3, 0, 3));
        book.told(&mut silent, &outcome(4, 0, 4));
        book.told(&mut blind, &outcome(0, 0, 0));
        let (told, untold) = shares(&book);
        assert_eq!((told.told.unaccounted, untold.told.unaccounted, told.told.messages), (0, 0, 3));
    }

    #[test]
    fn a_walk_that_another_brought_is_not_ours_and_one_that_follows_it_is() {
        let book = book();
        let (mut repeat, mut first) = (book.open(message(), 0), book.open(message(), 3));
        for account in [&mut repeat, &mut first] {
            book.repeated(account);
            book.overdue(account);
        }
        assert_eq!(
            shares(&book),
            (Share::default(), Share::default()),
            "nothing is counted, and nothing missed"
        );
        book.lost(&mut repeat);
        assert_eq!(shares(&book).1.lost, 0);
        // The answer to a repeat may overtake the word about the walk.
        book.told(&mut first, &outcome(3, 0, 3));
        book.repeated(&mut first);
        let (told, untold) = shares(&book);
        assert_eq!((told.told.messages, told.told.written, told.told.unaccounted), (1, 3, 0));
        assert_eq!(untold, Share::default());
    }

    #[test]
    fn a_dead_node_owes_nothing() {
        let book = book();
        let (mut told, mut untold) = (book.open(message(), 3), book.open(message(), 4));
        book.told(&mut told, &outcome(3, 2, 1));
        for account in [&mut told, &mut untold] {
            book.lost(account);
            book.overdue(account);
        }
        let (told, without_life) = shares(&book);
        assert_eq!((told.told.targets, told.told.unaccounted, without_life.lost), (3, 0, 4));
        // Late, but heard.
        book.told(&mut untold, &outcome(5, 0, 5));
        let (told, without_life) = shares(&book);
        assert_eq!((told.told.targets, without_life.lost), (8, 0));
    }
}
