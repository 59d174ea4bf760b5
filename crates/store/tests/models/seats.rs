//! Seats as a state machine: joins, ends of sessions and releases by two controllers, cut into their single steps, which
//! happen in any order.

use std::{collections::BTreeMap, time::Duration};

use futures_util::FutureExt;
use proptest::prelude::*;
use roomcast_store::{MemoryPresence, Presence, presence::Exit};
use roomcast_types::{RoomId, SessionId, StoreTime, UserId};

const USERS: usize = 4;
const SEATS: usize = 2;
const GRACE: Duration = Duration::from_secs(30);

/// The record, as its contract says: each method is one transaction.
#[derive(Default)]
struct Record {
    version: u64,
    seats: BTreeMap<usize, u64>,
}

impl Record {
    fn admit(&mut self, user: usize) -> bool {
        self.version += 1;
        let has_place = self.seats.contains_key(&user) || self.seats.len() < SEATS;
        if has_place {
            self.seats.insert(user, self.version);
        }
        has_place
    }

    fn release(&mut self, user: usize, version: u64) {
        if self.seats.get(&user) == Some(&version) {
            self.seats.remove(&user);
        }
    }
}

/// Something under way, by what comes next.
#[derive(Debug, Clone, Copy)]
enum Job {
    Rejoin { user: usize, session: SessionId },
    Admit { user: usize, session: SessionId },
    Enter { user: usize, session: SessionId },
    Exit { user: usize, session: SessionId },
    FindDue { user: usize },
    ReadVersion { user: usize, began: StoreTime },
    TakeAbsence { user: usize, began: StoreTime, version: Option<u64> },
    Release { user: usize, version: u64 },
}

impl Job {
    fn is_join(&self) -> bool {
        matches!(self, Job::Rejoin { .. } | Job::Admit { .. } | Job::Enter { .. })
    }
}

#[derive(Debug, Clone)]
enum Step {
    Join(usize),
    /// A session of this user that was told `joined` ends.
    End(usize),
    /// A controller looks at the absence of this user.
    Sweep(usize),
    /// A job goes on.
    Go(usize),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..USERS).prop_map(Step::Join),
        3 => (0..USERS).prop_map(Step::End),
        3 => (0..USERS).prop_map(Step::Sweep),
        10 => any::<usize>().prop_map(Step::Go),
        2 => (1..40u64).prop_map(Step::Wait),
    ]
}

#[derive(Default)]
struct World {
    presence: MemoryPresence,
    record: Record,
    jobs: Vec<Job>,
    /// Sessions that were told `joined`.
    joined: Vec<(usize, SessionId)>,
}

fn room() -> RoomId {
    RoomId::new("r").unwrap()
}

fn id(user: usize) -> UserId {
    UserId::new(format!("u{user}")).unwrap()
}

fn now<T>(future: impl Future<Output = roomcast_store::Result<T>>) -> T {
    future.now_or_never().unwrap().unwrap()
}

impl World {
    fn clock(&self) -> StoreTime {
        now(self.presence.now())
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Join(user) => self.jobs.push(Job::Rejoin { user, session: SessionId::random() }),
            Step::End(user) => {
                if let Some(place) = self.joined.iter().position(|(own, _)| *own == user) {
                    let (user, session) = self.joined.remove(place);
                    self.jobs.push(Job::Exit { user, session });
                }
            }
            Step::Sweep(user) => self.jobs.push(Job::FindDue { user }),
            Step::Go(which) if !self.jobs.is_empty() => {
                let job = self.jobs.remove(which % self.jobs.len());
                let next = self.go(job);
                self.jobs.extend(next);
            }
            Step::Go(_) => {}
            Step::Wait(seconds) => {
                // From its first step to its entry a join takes a second at most, far less than the grace.
                while let Some(place) = self.jobs.iter().position(Job::is_join) {
                    let join = self.jobs.remove(place);
                    let next = self.go(join);
                    self.jobs.extend(next);
                }
                self.presence.advance(Duration::from_secs(seconds));
            }
        }
    }

    /// One step of a job, in the order of the controller; what comes next.
    fn go(&mut self, job: Job) -> Option<Job> {
        match job {
            Job::Rejoin { user, session } => {
                if now(self.presence.rejoin(&room(), &id(user), session)) {
                    self.joined.push((user, session));
                    return None;
                }
                Some(Job::Admit { user, session })
            }
            Job::Admit { user, session } => self.record.admit(user).then_some(Job::Enter { user, session }),
            Job::Enter { user, session } => {
                now(self.presence.enter(&room(), &id(user), session));
                self.joined.push((user, session));
                None
            }
            Job::Exit { user, session } => {
                let now_ = self.clock();
                let how = Exit::Away { now: now_, due: Some(now_.plus(GRACE)) };
                now(self.presence.exit(&room(), &id(user), session, how));
                None
            }
            Job::FindDue { user } => {
                let began = self.clock();
                let due = now(self.presence.due_absences(began, USERS));
                due.contains(&(room(), id(user))).then_some(Job::ReadVersion { user, began })
            }
            Job::ReadVersion { user, began } => {
                Some(Job::TakeAbsence { user, began, version: self.record.seats.get(&user).copied() })
            }
            Job::TakeAbsence { user, began, version } => {
                // However late this step is: an absence that began since the sweep did is another one.
                let before = began.minus(Duration::from_millis(1));
                let is_taken = now(self.presence.take_absence(&room(), &id(user), before));
                is_taken.then_some(version).flatten().map(|version| Job::Release { user, version })
            }
            Job::Release { user, version } => {
                self.record.release(user, version);
                None
            }
        }
    }

    fn check(&self) -> Result<(), TestCaseError> {
        prop_assert!(self.record.seats.len() <= SEATS, "more seats than the room has");
        let releasing = |user: usize| {
            self.jobs.iter().any(|job| {
                matches!(job, Job::Release { user: own, version } if *own == user
                    && self.record.seats.get(&user) == Some(version))
            })
        };
        for (user, _) in &self.joined {
            prop_assert!(self.record.seats.contains_key(user), "user {user} is in without a seat");
            prop_assert!(!releasing(*user), "the seat of user {user}, who is in, is about to be released");
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn whoever_is_in_keeps_his_seat_and_nobody_is_one_too_many(
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let mut world = World::default();
        for step in steps {
            world.take(step);
            world.check()?;
        }
        while let Some(job) = world.jobs.pop() {
            let next = world.go(job);
            world.jobs.extend(next);
            world.check()?;
        }
        // Everybody goes, and the grace passes: no seat is left behind.
        for (user, session) in std::mem::take(&mut world.joined) {
            world.go(Job::Exit { user, session });
        }
        world.presence.advance(GRACE * 2);
        for user in 0..USERS {
            let mut job = Some(Job::FindDue { user });
            while let Some(next) = job {
                job = world.go(next);
            }
        }
        prop_assert!(world.record.seats.is_empty(), "seats without users: {:?}", world.record.seats);
    }
}
