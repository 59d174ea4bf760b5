//! One report stream: reads what the node says, has it applied in order, and answers in batches.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use roomcast_proto::pubsub::{
    ChangeResult, ControllerHello, ControllerReply, NodeReport, SessionChange, SessionRecord, Slice,
    change_result::Result as Answer,
};
use roomcast_store::{
    Error as StoreError,
    presence::{Load, NodeRef, SLICES},
};
use roomcast_types::UserId;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until, timeout},
};
use tonic::{Status, Streaming};

use super::{
    apply::Applier,
    asking::Asking,
    change::{Change, slice_index},
    schedule::{Job, Schedule},
    slices,
    streams::OpenStream,
    watermarks::Watermarks,
};
use crate::{
    controller::{Controller, unanswered},
    loads::REPORTING,
};

/// A node reports every 2 s: one that says nothing for this long is looked at.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// How long a node may leave a reply unread.
const REPLY_WAIT: Duration = Duration::from_secs(10);
/// The longest a node hears nothing from a controller that runs, whatever its stores do.
const SIGN_OF_LIFE: Duration = Duration::from_millis(500);
/// How long a slice in full may take: changes of its sessions wait behind it.
const SLICE_WAIT: Duration = Duration::from_secs(5);
/// How long writing or reading versions may take; the next comparison follows within 2 s.
const VERSIONS_WAIT: Duration = Duration::from_secs(2);
/// Changes applied at once; as many more may wait before the stream is read on.
const AT_ONCE: usize = 4_096;
/// Results in one reply: well below a gRPC client's own limit on a message.
const RESULTS_MAX: usize = 2_048;

/// Marks of reading in one report.
const READS_MAX: usize = 512;

/// Why a stream is over.
pub(super) enum End {
    /// A newer one came, or the controller stops.
    Replaced,
    /// The node or the network ended it.
    Broken(&'static str),
}

/// A piece of work that ended.
enum Done {
    Change { user: UserId, slice: usize, version: u64, result: ChangeResult, is_applied: bool },
    Slice { index: usize, version: u64, is_applied: bool },
    Stored { written: Vec<(usize, u64)>, compared: Option<Compared> },
}

/// What the node and the store say of the versions.
struct Compared {
    node: Vec<u64>,
    /// With the generation of the store; `None` when it did not answer.
    stored: Option<([u64; SLICES], u64)>,
}

/// What a node says every 2 s.
struct Heartbeat {
    versions: Vec<u64>,
    load: Option<Load>,
}

struct FullSlice {
    version: u64,
    sessions: Vec<SessionRecord>,
}

/// A stream under way.
pub(super) struct Stream {
    applier: Arc<Applier>,
    replies: mpsc::Sender<Result<ControllerReply, Status>>,
    schedule: Schedule<Change, FullSlice>,
    marks: Watermarks,
    asking: Asking,
    running: FuturesUnordered<BoxFuture<'static, Done>>,
    results: Vec<ChangeResult>,
    wanted: Vec<u32>,
    /// Versions that may be written.
    reached: BTreeMap<usize, u64>,
    /// Versions the node sent and that wait to be compared, and the load to be written with that.
    to_compare: Option<Heartbeat>,
    /// Versions are written and compared one after the other: a comparison must see what was written.
    is_storing: bool,
    /// A reply is owed although it may say nothing but the time.
    owes_reply: bool,
    /// The node was told to turn to another controller.
    is_sent_away: bool,
    generation: Option<u64>,
    /// Versions this stream has written: a store that holds less was emptied.
    written: [u64; SLICES],
    sessions: u64,
    /// When the node last heard something.
    said_at: Instant,
    /// Dropped after the work under way: who waits for it to end may count on that.
    registered: OpenStream,
}

impl Stream {
    pub(super) async fn new(
        controller: Arc<Controller>,
        node: NodeRef,
        registered: OpenStream,
        replies: mpsc::Sender<Result<ControllerReply, Status>>,
    ) -> Self {
        let presence = &controller.presence;
        let (generation, stored) = tokio::join!(
            controller.promptly(presence.generation()),
            controller.promptly(presence.slice_versions(&node))
        );
        let (generation, stored) = (generation.ok(), stored.ok().map(|stored| stored.unwrap_or([0; SLICES])));
        Self {
            applier: Arc::new(Applier::new(controller, node, registered.held.clone())),
            replies,
            schedule: Schedule::default(),
            marks: Watermarks::new(stored),
            asking: Asking::default(),
            running: FuturesUnordered::new(),
            results: Vec::new(),
            wanted: Vec::new(),
            reached: BTreeMap::new(),
            to_compare: None,
            is_storing: false,
            owes_reply: false,
            is_sent_away: false,
            generation,
            written: [0; SLICES],
            sessions: 0,
            said_at: Instant::now(),
            registered,
        }
    }

    fn controller(&self) -> &Arc<Controller> {
        &self.applier.controller
    }

    /// Serves until the stream is over.
    pub(super) async fn run(mut self, mut reports: Streaming<NodeReport>, first: NodeReport) -> End {
        let hello = ControllerHello { controller_id: self.controller().id.to_string() };
        if !self.send(ControllerReply { hello: Some(hello), ..Default::default() }).await {
            return End::Broken("the hello was not taken");
        }
        self.take_in(first);
        let (end, mut generation) = (self.registered.end.clone(), self.registered.generation.clone());
        let away = self.registered.away.clone();
        loop {
            self.start_work();
            tokio::select! {
                () = end.cancelled() => return End::Replaced,
                () = away.cancelled(), if !self.is_sent_away => {
                    (self.is_sent_away, self.owes_reply) = (true, true);
                }
                () = sleep_until(self.said_at + SIGN_OF_LIFE) => self.owes_reply = true,
                Ok(()) = generation.changed() => self.presence_lost(*generation.borrow_and_update()),
                Some(done) = self.running.next(), if !self.running.is_empty() => self.finish(done),
                report = timeout(SILENCE_MAX, reports.message()), if self.schedule.waiting() < AT_ONCE => {
                    match report {
                        Ok(Ok(Some(report))) => self.take_in(report),
                        Ok(Ok(None)) => return End::Broken("the node ended the stream"),
                        Ok(Err(_)) => return End::Broken("the connection broke"),
                        Err(_) => return End::Broken("nothing came for 10 s"),
                    }
                }
            }
            if !self.answer().await {
                return End::Broken("a reply was not taken");
            }
        }
    }

    /// Takes in everything that one message says.
    fn take_in(&mut self, report: NodeReport) {
        let load = report.load.map(|load| Load {
            sessions: load.sessions,
            sessions_max: load.sessions_max,
            rooms: load.rooms,
        });
        self.registered.reported(load);
        self.sessions = load.map_or(self.sessions, |load| load.sessions);
        for change in report.changes {
            self.take_in_change(change);
        }
        for mark in report.reads.iter().take(READS_MAX) {
            self.applier.controller.reads.report(mark);
        }
        for slice in report.slices {
            self.take_in_slice(slice);
        }
        if !report.versions.is_empty() {
            self.to_compare = Some(Heartbeat { versions: report.versions, load });
        }
    }

    fn take_in_change(&mut self, change: SessionChange) {
        let (request, slice, version) = (change.request, slice_index(change.slice), change.slice_version);
        let read = Change::read(change, &self.applier.node);
        if let Ok(slice) = slice {
            self.marks.change_arrived(slice, version);
        }
        match read {
            Ok(change) => {
                self.schedule.push_change(change.what.user().clone(), change.slice, change);
            }
            Err(refused) => {
                tracing::error!(node_id = %self.applier.node.node_id, error = %refused, "a node reports what cannot be");
                self.results.push(ChangeResult { request, result: Some(Answer::Error((&refused).into())) });
                if let Ok(slice) = slice {
                    self.settled(slice, version, false, false);
                }
            }
        }
    }

    fn take_in_slice(&mut self, slice: Slice) {
        match slice_index(slice.index) {
            Ok(index) => {
                self.marks.slice_arrived(index, slice.version);
                let full = FullSlice { version: slice.version, sessions: slice.sessions };
                self.schedule.push_slice(index, full);
            }
            Err(refused) => {
                tracing::error!(node_id = %self.applier.node.node_id, error = %refused, "a node reports what cannot be");
            }
        }
    }

    fn start_work(&mut self) {
        while self.running.len() < AT_ONCE
            && let Some(job) = self.schedule.next()
        {
            let applier = self.applier.clone();
            self.running.push(match job {
                Job::Change(user, change) => apply_change(applier, user, change).boxed(),
                Job::Slice(index, slice) => apply_slice(applier, index, slice).boxed(),
            });
        }
        if self.is_storing || (self.reached.is_empty() && self.to_compare.is_none()) {
            return;
        }
        self.is_storing = true;
        let reached: Vec<(usize, u64)> = std::mem::take(&mut self.reached).into_iter().collect();
        let store = store(self.applier.clone(), reached, self.to_compare.take());
        self.running.push(store.boxed());
    }

    fn finish(&mut self, done: Done) {
        match done {
            Done::Change { user, slice, version, result, is_applied } => {
                self.schedule.change_done(&user, slice);
                self.settled(slice, version, false, is_applied);
                self.results.push(result);
            }
            Done::Slice { index, version, is_applied } => {
                self.schedule.slice_done(index);
                self.settled(index, version, true, is_applied);
                self.asking.came(index);
                self.wanted.extend(self.asking.ask(self.sessions));
            }
            Done::Stored { written, compared } => {
                self.is_storing = false;
                for (slice, version) in written {
                    self.written[slice] = version;
                }
                if let Some(compared) = compared {
                    self.compare(&compared);
                    self.owes_reply = true;
                }
            }
        }
    }

    fn settled(&mut self, slice: usize, version: u64, is_full: bool, is_applied: bool) {
        if let Some(version) = self.marks.settled(slice, version, is_full, is_applied) {
            self.reached.insert(slice, version);
        }
    }

    fn compare(&mut self, compared: &Compared) {
        let Some((stored, generation)) = &compared.stored else { return };
        let is_other = self.generation.is_some_and(|known| known != *generation);
        if is_other || stored.iter().zip(&self.written).any(|(stored, written)| stored < written) {
            // Versions written since may match, and yet what they stand for is lost.
            self.marks.break_all();
            self.written = *stored;
        }
        self.generation = Some(*generation);
        let mut differing = self.marks.differing(&compared.node, stored);
        differing.retain(|slice| !self.reached.contains_key(slice));
        self.asking.differ(differing);
        self.wanted.extend(self.asking.ask(self.sessions));
    }

    /// Presence lost its content: the node is asked for everything now.
    fn presence_lost(&mut self, generation: Option<u64>) {
        if self.generation == generation {
            return;
        }
        self.generation = generation;
        self.marks.break_all();
        self.written = [0; SLICES];
        self.asking.differ((0..SLICES).collect());
        self.wanted.extend(self.asking.ask(self.sessions));
    }

    /// Sends what is there to say, with whatever else has ended meanwhile. False: the node does not listen.
    async fn answer(&mut self) -> bool {
        while self.results.len() < RESULTS_MAX
            && let Some(Some(done)) = self.running.next().now_or_never()
        {
            self.finish(done);
            self.start_work();
        }
        while self.owes_reply || !self.results.is_empty() || !self.wanted.is_empty() {
            let results = self.results.split_off(self.results.len().saturating_sub(RESULTS_MAX));
            let want_slices = std::mem::take(&mut self.wanted);
            self.owes_reply = false;
            self.controller().metrics.slices_asked.increment(want_slices.len() as u64);
            if !self.send(ControllerReply { results, want_slices, ..Default::default() }).await {
                return false;
            }
        }
        true
    }

    async fn send(&mut self, mut reply: ControllerReply) -> bool {
        reply.draining = self.is_sent_away;
        reply.store_time_ms = self.controller().clock.read().await.map_or(0, |now| now.as_millis());
        self.said_at = Instant::now();
        matches!(timeout(REPLY_WAIT, self.replies.send(Ok(reply))).await, Ok(Ok(())))
    }
}

async fn apply_change(applier: Arc<Applier>, user: UserId, change: Change) -> Done {
    let (slice, version) = (change.slice, change.version);
    let (result, is_applied) = applier.apply(change).await;
    Done::Change { user, slice, version, result, is_applied }
}

async fn apply_slice(applier: Arc<Applier>, index: usize, slice: FullSlice) -> Done {
    let sessions = slices::read(&applier, slice.sessions);
    let applied = timeout(SLICE_WAIT, slices::apply(&applier, index, sessions)).await;
    let applied = applied
        .unwrap_or_else(|_| Err(unanswered("presence", format!("a slice took longer than {SLICE_WAIT:?}"))));
    if let Err(error) = &applied {
        tracing::debug!(node_id = %applier.node.node_id, slice = index, %error, "a slice was not applied");
    }
    Done::Slice { index, version: slice.version, is_applied: applied.is_ok() }
}

/// Writes versions; then, when the node sent its own, reads what the store holds, and writes the node's load for the
/// other controllers.
async fn store(applier: Arc<Applier>, reached: Vec<(usize, u64)>, to_compare: Option<Heartbeat>) -> Done {
    let (presence, node) = (&applier.controller.presence, &applier.node);
    let is_written = reached.is_empty()
        || matches!(timeout(VERSIONS_WAIT, presence.set_slice_versions(node, &reached)).await, Ok(Ok(())));
    // A version that could not be written differs at the next comparison: its slice comes in full.
    let written = if is_written { reached } else { Vec::new() };
    let Some(Heartbeat { versions, load }) = to_compare else {
        return Done::Stored { written, compared: None };
    };
    let stored = async {
        let generation = presence.generation().await?;
        let stored = presence.slice_versions(node).await?;
        Ok::<_, StoreError>((stored.unwrap_or([0; SLICES]), generation))
    };
    let tell = async {
        match load {
            // A load that is not written is missed until the next one, 2 s later.
            Some(load) => presence.set_load(node, load, REPORTING).await.is_ok(),
            None => true,
        }
    };
    let both = timeout(VERSIONS_WAIT, async { tokio::join!(stored, tell) }).await;
    let stored = both.ok().and_then(|(stored, _)| stored.ok());
    let compared = Compared { node: versions, stored };
    Done::Stored { written, compared: Some(compared) }
}
