//! How full the node is: counters that the acceptor, the shards and the hub share.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
};

/// Counts of one node. They only steer (whom to refuse, which shard is lightest); nothing is ordered by them.
#[derive(Debug)]
pub struct Load {
    is_open: AtomicBool,
    sessions: AtomicUsize,
    handshakes: AtomicUsize,
    shards: Box<[ShardLoad]>,
}

/// On a cache line of its own: each shard writes its own often.
#[derive(Debug, Default)]
#[repr(align(64))]
struct ShardLoad {
    /// Sockets, handshakes included.
    sockets: AtomicUsize,
    sessions: AtomicUsize,
    queued_bytes: AtomicUsize,
}

impl Load {
    /// Of a node with that many shards; not open yet.
    pub fn new(shards: usize) -> Arc<Self> {
        Arc::new(Self {
            is_open: AtomicBool::new(false),
            sessions: AtomicUsize::new(0),
            handshakes: AtomicUsize::new(0),
            shards: (0..shards).map(|_| ShardLoad::default()).collect(),
        })
    }

    /// Says whether `/ws` takes sessions: true when the node is ready, false before and from the start of its end.
    pub fn set_open(&self, is_open: bool) {
        self.is_open.store(is_open, Relaxed);
    }

    /// Whether `/ws` takes sessions.
    pub fn is_open(&self) -> bool {
        self.is_open.load(Relaxed)
    }

    /// Sessions on the node, those that wait for their welcome and those being closed included.
    pub fn sessions(&self) -> usize {
        self.sessions.load(Relaxed)
    }

    /// Sessions on one shard.
    pub fn shard_sessions(&self, shard: u16) -> usize {
        self.shards.get(usize::from(shard)).map_or(0, |load| load.sessions.load(Relaxed))
    }

    /// Sockets that were accepted and neither upgraded nor closed.
    pub fn handshakes(&self) -> usize {
        self.handshakes.load(Relaxed)
    }

    /// Bytes that wait for readers, as the shards last said.
    pub fn queued_bytes(&self) -> usize {
        self.shards.iter().map(|load| load.queued_bytes.load(Relaxed)).sum()
    }

    /// The shard with the fewest sockets.
    pub(crate) fn lightest(&self) -> u16 {
        let sockets = |(_, load): &(usize, &ShardLoad)| load.sockets.load(Relaxed);
        self.shards.iter().enumerate().min_by_key(sockets).map_or(0, |(index, _)| index as u16)
    }

    /// Counts an accepted socket for its shard.
    pub(crate) fn begin_handshake(self: &Arc<Self>, shard: u16) -> Handshake {
        self.handshakes.fetch_add(1, Relaxed);
        self.shards[usize::from(shard)].sockets.fetch_add(1, Relaxed);
        Handshake { load: Some(self.clone()), shard }
    }

    /// Takes over a handshake that [`Handshake::hand_over`] let go.
    pub(crate) fn adopt_handshake(self: &Arc<Self>, shard: u16) -> Handshake {
        Handshake { load: Some(self.clone()), shard }
    }

    /// A place for one more session; `None` when there are `max`.
    pub(crate) fn take_place(self: &Arc<Self>, shard: u16, max: usize) -> Option<Place> {
        let below = |sessions: usize| (sessions < max).then_some(sessions + 1);
        self.sessions.try_update(Relaxed, Relaxed, below).ok()?;
        let load = &self.shards[usize::from(shard)];
        load.sessions.fetch_add(1, Relaxed);
        load.sockets.fetch_add(1, Relaxed);
        Some(Place { load: self.clone(), shard })
    }

    /// What waits on one shard now; said by that shard alone.
    pub(crate) fn set_queued_bytes(&self, shard: u16, bytes: usize) {
        self.shards[usize::from(shard)].queued_bytes.store(bytes, Relaxed);
    }
}

/// A socket that is neither upgraded nor closed; dropping it ends the count.
#[derive(Debug)]
pub(crate) struct Handshake {
    /// `None` after the count was handed over.
    load: Option<Arc<Load>>,
    shard: u16,
}

impl Handshake {
    /// Keeps the count standing for the shard, which adopts it.
    pub(crate) fn hand_over(mut self) {
        self.load = None;
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        if let Some(load) = &self.load {
            load.handshakes.fetch_sub(1, Relaxed);
            load.shards[usize::from(self.shard)].sockets.fetch_sub(1, Relaxed);
        }
    }
}

/// The place of one session; dropping it makes room for another.
#[derive(Debug)]
pub(crate) struct Place {
    load: Arc<Load>,
    shard: u16,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.load.sessions.fetch_sub(1, Relaxed);
        let load = &self.load.shards[usize::from(self.shard)];
        load.sessions.fetch_sub(1, Relaxed);
        load.sockets.fetch_sub(1, Relaxed);
    }
}
