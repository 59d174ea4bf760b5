//! Acknowledgements: asked for by pushes, given on receipt or by hand, sent together on the session that asked.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

use super::frame::ClientFrame;

/// Most message ids in one frame; the protocol's limit.
const FRAME_IDS_MAX: usize = 256;
/// They wait this long for company.
const DELAY: Duration = Duration::from_millis(50);
/// Between two frames of one session: at most 40 a second of the 50 that it may send.
const GAP: Duration = Duration::from_millis(25);
/// Acknowledgements that wait for one session, and messages that may be acknowledged by hand; past that the oldest are
/// given up and their pushes stay WRITTEN.
const KEPT_MAX: usize = 4_096;

/// When pushes that want it are acknowledged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Acknowledge {
    /// When they were received: they may still wait for [`super::Subscriber::next`].
    #[default]
    OnReceipt,
    /// When the application calls [`super::Push::ack`].
    ByHand,
}

/// Acknowledgements that wait for one session.
#[derive(Debug, Default)]
pub struct Batch {
    waiting: VecDeque<String>,
    due: Option<Instant>,
    sent_at: Option<Instant>,
}

impl Batch {
    /// Acknowledges a message of this session.
    pub fn add(&mut self, message_id: String, now: Instant) {
        // A message that is repeated at once; mostly the newest are new.
        if self.waiting.contains(&message_id) {
            return;
        }
        if self.waiting.len() == KEPT_MAX {
            self.waiting.pop_front();
        }
        self.waiting.push_back(message_id);
        self.schedule(now);
    }

    /// When [`Self::take`] has something.
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// The frame that is due.
    pub fn take(&mut self, now: Instant) -> Option<ClientFrame> {
        self.due.filter(|due| *due <= now)?;
        let frame = self.take_all();
        self.sent_at = Some(now);
        self.due = None;
        self.schedule(now);
        frame
    }

    /// The next frame, due or not: the session is about to end, or to leave a room.
    pub fn take_all(&mut self) -> Option<ClientFrame> {
        let some = self.waiting.len().min(FRAME_IDS_MAX);
        if some == self.waiting.len() {
            self.due = None;
        }
        (some > 0).then(|| ClientFrame::Ack { message_ids: self.waiting.drain(..some).collect() })
    }

    fn schedule(&mut self, now: Instant) {
        if self.waiting.is_empty() {
            return;
        }
        let company = if self.waiting.len() >= FRAME_IDS_MAX { now } else { now + DELAY };
        let due = self.sent_at.map_or(company, |at| company.max(at + GAP));
        self.due = Some(self.due.map_or(due, |earlier| earlier.min(due)));
    }
}

/// What the application acknowledged and the subscriber's task has not seen.
#[derive(Debug, Default)]
struct Given {
    message_ids: Mutex<VecDeque<String>>,
    news: Notify,
}

impl Given {
    fn lock(&self) -> MutexGuard<'_, VecDeque<String>> {
        self.message_ids.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to acknowledge one message.
#[derive(Debug, Clone)]
pub struct Asked(Arc<Given>);

impl Asked {
    /// Uses it.
    pub fn give(&self, message_id: &str) {
        let mut given = self.0.lock();
        if given.len() == KEPT_MAX {
            given.pop_front();
        }
        given.push_back(message_id.to_owned());
        drop(given);
        self.0.news.notify_one();
    }
}

impl PartialEq for Asked {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// A message that is acknowledged by hand.
#[derive(Debug, Clone, Copy)]
struct Origin {
    /// Which session brought it last.
    session: u64,
    is_given: bool,
}

/// Which messages are to be acknowledged when, and on which session.
#[derive(Debug, Default)]
pub struct Acks {
    mode: Acknowledge,
    given: Arc<Given>,
    origins: HashMap<String, Origin>,
    oldest_first: VecDeque<String>,
}

/// What to do about a message that wants to be acknowledged.
#[derive(Debug, PartialEq)]
pub enum Duty {
    /// Acknowledge it on the session that brought it.
    Now,
    /// The application does.
    Later(Asked),
    /// Nothing: it is a repeat of one that the application has not acknowledged.
    None,
}

impl Acks {
    /// In this mode.
    pub fn new(mode: Acknowledge) -> Self {
        Self { mode, ..Self::default() }
    }

    /// A message came. A repeat is acknowledged again: the first acknowledgement may be lost, and this may be another
    /// session.
    pub fn came(&mut self, message_id: &str, session: u64, is_new: bool) -> Duty {
        if self.mode == Acknowledge::OnReceipt {
            return Duty::Now;
        }
        if is_new {
            self.remember(message_id, session);
            return Duty::Later(Asked(self.given.clone()));
        }
        match self.origins.get_mut(message_id) {
            Some(origin) => {
                origin.session = session;
                if origin.is_given { Duty::Now } else { Duty::None }
            }
            None => Duty::None,
        }
    }

    fn remember(&mut self, message_id: &str, session: u64) {
        let origin = Origin { session, is_given: false };
        if self.origins.insert(message_id.to_owned(), origin).is_none() {
            self.oldest_first.push_back(message_id.to_owned());
        }
        if self.oldest_first.len() > KEPT_MAX
            && let Some(oldest) = self.oldest_first.pop_front()
        {
            self.origins.remove(&oldest);
        }
    }

    /// Waits until the application has acknowledged something.
    pub async fn given(&self) {
        self.given.news.notified().await;
    }

    /// What it acknowledged since, each with the session that brought it last.
    pub fn take_given(&mut self) -> Vec<(u64, String)> {
        let given = std::mem::take(&mut *self.given.lock());
        let known = |message_id: String| {
            let origin = self.origins.get_mut(&message_id).filter(|origin| !origin.is_given)?;
            origin.is_given = true;
            Some((origin.session, message_id))
        };
        given.into_iter().filter_map(known).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(frame: Option<ClientFrame>) -> usize {
        match frame {
            Some(ClientFrame::Ack { message_ids }) => message_ids.len(),
            _ => 0,
        }
    }

    #[test]
    fn acknowledgements_wait_for_company_and_full_frames_do_not() {
        let start = Instant::now();
        let mut batch = Batch::default();
        batch.add("a".into(), start);
        batch.add("b".into(), start + DELAY / 2);
        batch.add("a".into(), start + DELAY / 2);
        assert_eq!(batch.due(), Some(start + DELAY));
        assert_eq!(ids(batch.take(start + DELAY / 2)), 0);
        assert_eq!((ids(batch.take(start + DELAY)), batch.due()), (2, None));
        let later = start + Duration::from_secs(1);
        (0..=FRAME_IDS_MAX).for_each(|n| batch.add(n.to_string(), later));
        assert_eq!(ids(batch.take(later)), FRAME_IDS_MAX);
        assert_eq!(batch.due(), Some(later + DELAY));
        assert_eq!((ids(batch.take_all()), batch.due()), (1, None));
    }

    #[test]
    fn no_flood_makes_more_frames_than_a_session_may_send() {
        let start = Instant::now();
        let (mut batch, mut frames, mut acknowledged) = (Batch::default(), 0, 0);
        for ms in 0..2_000 {
            let now = start + Duration::from_millis(ms);
            (0..9).for_each(|n| batch.add(format!("{ms}-{n}"), now));
            if let Some(frame) = batch.take(now) {
                frames += 1;
                acknowledged += ids(Some(frame));
            }
        }
        assert!(frames <= 80, "{frames} frames in two seconds");
        assert!(acknowledged > 9 * 1_900, "{acknowledged}");
    }

    #[test]
    fn a_message_is_acknowledged_by_hand_on_the_session_that_brought_it_last() {
        let mut acks = Acks::new(Acknowledge::ByHand);
        let Duty::Later(asked) = acks.came("m", 1, true) else { panic!() };
        assert_eq!(acks.came("m", 2, false), Duty::None);
        asked.give("m");
        asked.give("m");
        assert_eq!(acks.take_given(), [(2, "m".to_owned())]);
        assert_eq!(acks.came("m", 3, false), Duty::Now);
    }
}
