//! The messages of the last minutes by their ids: one that comes a second time is not walked again, and whoever brought it
//! hears what became of the first.

use std::{
    collections::{VecDeque, hash_map::Entry},
    sync::{Arc, Mutex},
    time::Duration,
};

use roomcast_types::{Incarnation, MessageId};
use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use tokio::time::Instant;

use crate::tally::Tally;

/// Messages remembered, and for how long. Those of logs are known longer, by their offsets.
const WALKS_MAX: usize = 8_192;
const KEPT_FOR: Duration = Duration::from_secs(120);

/// See the module. Its lock is short, taken once a message.
#[derive(Default)]
pub struct Walks(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    by_id: FxHashMap<MessageId, Walk>,
    ages: VecDeque<(Instant, MessageId)>,
}

struct Walk {
    tally: Arc<Tally>,
    /// The push-managers that hear of it.
    told: SmallVec<[Incarnation; 2]>,
}

/// What a message that came is.
pub enum Coming {
    /// The first of its id.
    First(Arc<Tally>),
    /// It came before.
    Again {
        /// What became of it.
        tally: Arc<Tally>,
        /// The push-manager that brought it now hears of it already.
        is_told: bool,
        /// Some push-manager brought it before; else it came from the log.
        is_other: bool,
    },
}

impl Walks {
    /// A message came, on a lane of this life of a push-manager or, for `None`, from a log.
    pub fn come(&self, id: MessageId, from: Option<Incarnation>, now: Instant) -> Coming {
        let mut inner = self.0.lock().expect("no holder of this lock panics");
        let inner = &mut *inner;
        while inner.ages.len() >= WALKS_MAX || inner.ages.front().is_some_and(|(at, _)| now - *at > KEPT_FOR)
        {
            if let Some((_, old)) = inner.ages.pop_front() {
                inner.by_id.remove(&old);
            }
        }
        match inner.by_id.entry(id) {
            Entry::Vacant(vacant) => {
                let tally = Tally::new(id);
                vacant.insert(Walk { tally: tally.clone(), told: from.into_iter().collect() });
                inner.ages.push_back((now, id));
                Coming::First(tally)
            }
            Entry::Occupied(mut known) => {
                let walk = known.get_mut();
                let is_told = from.is_some_and(|from| walk.told.contains(&from));
                let is_other = !walk.told.is_empty();
                if !is_told {
                    walk.told.extend(from);
                }
                Coming::Again { tally: walk.tally.clone(), is_told, is_other }
            }
        }
    }
}
