//! How many members of a DURABLE room are away: asked of a controller beside the fan-out, so that no push is sent later
//! for it.
//!
//! Pushes that come while a question is under way share its answer, and so do those that come shortly after, unless the
//! sessions in the room changed.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Weak},
    time::Duration,
};

use roomcast_types::RoomId;
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep_until},
};

use super::{plan::Absent, record::Record};
use crate::cards::Cards;

/// How old an answer may be: as late as nodes tell that the number of sessions in a room changed.
const FRESH: Duration = Duration::from_millis(100);
/// Pushes on their way to the task; for one more it is unknown.
const PUSHES_WAITING_MAX: usize = 4_096;
/// Rooms asked for at once; for one more it is unknown.
const QUESTIONS_MAX: usize = 1_024;

/// A push that wants to know.
#[derive(Debug)]
struct Wanted {
    about: About,
    record: Weak<Record>,
}

/// A room as one push saw it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct About {
    room_id: RoomId,
    /// In the room as announced: an answer from before a join or a leave is not reused after it.
    sessions: u64,
}

/// Where pushes ask.
#[derive(Debug)]
pub struct Absences {
    /// Receiver: [`Asker`].
    wanted: mpsc::Sender<Wanted>,
}

/// The task that asks.
#[derive(Debug)]
pub struct Asker {
    cards: Arc<Cards>,
    wanted: mpsc::Receiver<Wanted>,
    asked: HashMap<About, Asked>,
    /// What was answered, the oldest first.
    answered: VecDeque<(Instant, About)>,
    questions: JoinSet<(About, Absent)>,
}

#[derive(Debug)]
enum Asked {
    /// These wait for the answer.
    UnderWay(Vec<Weak<Record>>),
    /// The answer.
    Known(Absent),
}

/// Where pushes ask, and the task that does.
pub fn absences(cards: Arc<Cards>) -> (Absences, Asker) {
    let (sender, wanted) = mpsc::channel(PUSHES_WAITING_MAX);
    let asker =
        Asker { cards, wanted, asked: HashMap::new(), answered: VecDeque::new(), questions: JoinSet::new() };
    (Absences { wanted: sender }, asker)
}

impl Absences {
    /// Fills the absent members of `room_id` in as soon as they are known, or known not to be.
    pub fn ask(&self, room_id: &RoomId, sessions: u64, record: &Arc<Record>) {
        let about = About { room_id: room_id.clone(), sessions };
        if self.wanted.try_send(Wanted { about, record: Arc::downgrade(record) }).is_err() {
            record.tell_absent(Absent::Unknown);
        }
    }
}

impl Asker {
    /// Answers until nobody can ask any more.
    pub async fn run(mut self) -> String {
        loop {
            let oldest = self.answered.front().map(|(at, _)| *at + FRESH);
            tokio::select! {
                wanted = self.wanted.recv() => match wanted {
                    Some(wanted) => self.want(wanted),
                    None => return "nobody asks for absent members any more".to_owned(),
                },
                Some(answer) = self.questions.join_next() => match answer {
                    Ok((about, absent)) => self.answer(about, absent),
                    Err(error) => return format!("a question about absent members ended: {error}"),
                },
                () = sleep_until(oldest.unwrap_or_else(Instant::now)), if oldest.is_some() => self.forget_old(),
            }
        }
    }

    fn want(&mut self, wanted: Wanted) {
        self.forget_old();
        let Wanted { about, record } = wanted;
        match self.asked.get_mut(&about) {
            Some(Asked::Known(absent)) => tell(&record, *absent),
            Some(Asked::UnderWay(waiting)) => waiting.push(record),
            None if self.questions.len() >= QUESTIONS_MAX => tell(&record, Absent::Unknown),
            None => {
                self.asked.insert(about.clone(), Asked::UnderWay(vec![record]));
                let cards = self.cards.clone();
                self.questions.spawn(async move {
                    let absent =
                        cards.ask(&about.room_id).await.map_or(Absent::Unknown, |answer| answer.absent);
                    (about, absent)
                });
            }
        }
    }

    fn answer(&mut self, about: About, absent: Absent) {
        let waited = self.asked.insert(about.clone(), Asked::Known(absent));
        self.answered.push_back((Instant::now(), about));
        if let Some(Asked::UnderWay(waiting)) = waited {
            for record in waiting {
                tell(&record, absent);
            }
        }
    }

    fn forget_old(&mut self) {
        while let Some((at, about)) = self.answered.front()
            && at.elapsed() >= FRESH
        {
            self.asked.remove(about);
            self.answered.pop_front();
        }
    }
}

fn tell(record: &Weak<Record>, absent: Absent) {
    if let Some(record) = record.upgrade() {
        record.tell_absent(absent);
    }
}
