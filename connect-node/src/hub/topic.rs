//! What the node is interested in, rooms and users alike: how many sessions, what the lanes were told, and when an
//! interest ends.
//!
//! Pure: time comes as an argument.
//!
//! | state | on enter | when the lanes are done | when empty |
//! |---|---|---|---|
//! | absent | -> announcing | | |
//! | announcing | waits for the same announcement | -> announced | lingers, then -> absent |
//! | announced | nothing to wait for | | lingers, then -> absent |

use std::{borrow::Borrow, collections::VecDeque, hash::Hash, time::Duration};

use rustc_hash::{FxHashMap, FxHashSet};
use tokio::time::Instant;

use super::announcement::AnnouncementId;

/// One life of an interest: withdrawn and taken up again it is another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TopicId(u64);

#[derive(Debug, PartialEq, Eq)]
enum Phase {
    Announcing(AnnouncementId),
    Announced,
}

struct Topic<P> {
    id: TopicId,
    payload: P,
    /// Sessions that count.
    sessions: u64,
    /// Sessions on their way in.
    entering: u64,
    /// The number the lanes were told last.
    told: u64,
    phase: Phase,
    /// Set while empty.
    ends_at: Option<Instant>,
}

impl<P> Topic<P> {
    fn number(&self) -> u64 {
        self.sessions + self.entering
    }
}

/// What somebody who needs an interest has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Nothing: every lane knows.
    Met,
    /// Wait for this announcement.
    Wait(AnnouncementId),
    /// Announce it, then call [`Topics::announcing`] or [`Topics::announced`].
    Announce,
}

/// Whether an interest ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It stands, maybe for a while only.
    Stands,
    /// It was withdrawn: tell the lanes.
    Withdrawn,
}

/// All interests of one kind; `P` is what the hub keeps with each.
pub struct Topics<K, P> {
    /// Boxed: half of the table's places are empty. So are sessions in theirs.
    topics: FxHashMap<K, Box<Topic<P>>>,
    next_id: u64,
    linger: Duration,
    /// Whose number alone changed.
    changed: FxHashSet<K>,
    /// Empty ones in the order of their ends; an entry counts only if the topic still ends at that time.
    ending: VecDeque<(Instant, K)>,
}

impl<K: Hash + Eq + Clone, P: Default> Topics<K, P> {
    /// With the time that an interest outlives its last session.
    pub fn new(linger: Duration) -> Self {
        Self {
            topics: FxHashMap::default(),
            next_id: 1,
            linger,
            changed: FxHashSet::default(),
            ending: VecDeque::new(),
        }
    }

    /// A session is on its way in. End it with [`Self::settle`] or [`Self::give_up`].
    pub fn enter(&mut self, key: &K) -> (TopicId, Need) {
        if let Some(topic) = self.topics.get_mut(key) {
            topic.entering += 1;
            topic.ends_at = None;
            self.changed.insert(key.clone());
            let need = match topic.phase {
                Phase::Announcing(id) => Need::Wait(id),
                Phase::Announced => Need::Met,
            };
            return (topic.id, need);
        }
        let id = TopicId(self.next_id);
        self.next_id += 1;
        let topic = Topic {
            id,
            payload: P::default(),
            sessions: 0,
            entering: 1,
            told: 1,
            phase: Phase::Announced,
            ends_at: None,
        };
        self.topics.insert(key.clone(), Box::new(topic));
        (id, Need::Announce)
    }

    /// The announcement is under way.
    pub fn announcing(&mut self, key: &K, announcement: AnnouncementId) {
        if let Some(topic) = self.topics.get_mut(key) {
            topic.phase = Phase::Announcing(announcement);
        }
    }

    /// The announcement is over; a topic that was withdrawn and taken up again meanwhile has another one.
    pub fn announced(&mut self, key: &K, announcement: AnnouncementId) {
        if let Some(topic) = self.topics.get_mut(key)
            && topic.phase == Phase::Announcing(announcement)
        {
            topic.phase = Phase::Announced;
        }
    }

    /// The session counts from now on; `None` when the interest it entered was withdrawn by [`Self::remove`].
    pub fn settle(&mut self, key: &K, id: TopicId) -> Option<&mut P> {
        let topic = self.topics.get_mut(key).filter(|topic| topic.id == id)?;
        topic.entering -= 1;
        topic.sessions += 1;
        Some(&mut topic.payload)
    }

    /// The session on its way in does not come.
    pub fn give_up(&mut self, key: &K, id: TopicId, now: Instant) -> Fate {
        match self.topics.get_mut(key).filter(|topic| topic.id == id) {
            Some(topic) => topic.entering -= 1,
            None => return Fate::Stands,
        }
        self.after_decrease(key, now)
    }

    /// A session that counted is gone.
    pub fn leave(&mut self, key: &K, now: Instant) -> Fate {
        match self.topics.get_mut(key) {
            Some(topic) => topic.sessions = topic.sessions.saturating_sub(1),
            None => return Fate::Stands,
        }
        self.after_decrease(key, now)
    }

    fn after_decrease(&mut self, key: &K, now: Instant) -> Fate {
        let Some(topic) = self.topics.get_mut(key) else { return Fate::Stands };
        if topic.number() == 0 {
            if self.linger.is_zero() {
                self.remove(key);
                return Fate::Withdrawn;
            }
            let end = now + self.linger;
            topic.ends_at = Some(end);
            self.ending.push_back((end, key.clone()));
        }
        self.changed.insert(key.clone());
        Fate::Stands
    }

    /// Withdraws an interest whoever needs it; what was kept with it.
    pub fn remove(&mut self, key: &K) -> Option<P> {
        self.changed.remove(key);
        self.topics.remove(key).map(|topic| topic.payload)
    }

    /// Those whose number differs from what the lanes were told; the caller tells them.
    pub fn take_changed(&mut self) -> Vec<(K, u64)> {
        let mut changed = Vec::new();
        for key in self.changed.drain() {
            if let Some(topic) = self.topics.get_mut(&key)
                && topic.told != topic.number()
            {
                topic.told = topic.number();
                changed.push((key, topic.told));
            }
        }
        changed
    }

    /// Whether a number may differ from what the lanes were told.
    pub fn has_changed(&self) -> bool {
        !self.changed.is_empty()
    }

    /// Withdraws those that were empty for long enough.
    pub fn take_ended(&mut self, now: Instant) -> Vec<K> {
        let mut ended = Vec::new();
        while let Some((end, key)) = self.ending.pop_front_if(|(end, _)| *end <= now) {
            if self.topics.get(&key).is_some_and(|topic| topic.ends_at == Some(end)) {
                self.remove(&key);
                ended.push(key);
            }
        }
        ended
    }

    /// When [`Self::take_ended`] may have something next.
    pub fn next_end(&self) -> Option<Instant> {
        self.ending.front().map(|(end, _)| *end)
    }

    /// When [`Self::take_ended`] has everything that is empty now.
    pub fn last_end(&self) -> Option<Instant> {
        self.ending.back().map(|(end, _)| *end)
    }

    /// What is kept with an interest.
    pub fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<&P>
    where
        K: Borrow<Q>,
    {
        self.topics.get(key).map(|topic| &topic.payload)
    }

    /// What is kept with an interest.
    pub fn get_mut<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<&mut P>
    where
        K: Borrow<Q>,
    {
        self.topics.get_mut(key).map(|topic| &mut topic.payload)
    }

    /// The number that a lane is told now, be it in a snapshot or a change.
    pub fn number(&self, key: &K) -> u64 {
        self.topics.get(key).map_or(0, |topic| topic.number())
    }

    /// All of them, each with its number, for a snapshot.
    pub fn iter(&self) -> impl Iterator<Item = (&K, u64, &P)> {
        self.topics.iter().map(|(key, topic)| (key, topic.number(), &topic.payload))
    }

    /// How many interests stand.
    pub fn len(&self) -> usize {
        self.topics.len()
    }
}
