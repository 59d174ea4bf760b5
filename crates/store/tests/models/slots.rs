//! Slots as a state machine: sessions open on any node, their claims and leaves come late, twice and in any order.

use std::collections::{BTreeMap, VecDeque};

use futures_util::FutureExt;
use proptest::prelude::*;
use roomcast_store::{
    MemoryPresence, Presence,
    presence::{Claim, NodeRef, SessionEntry},
};
use roomcast_types::{ClientId, Incarnation, NodeId, SessionId, SessionPolicy, StoreTime, UserId};

/// What happens next; the number chooses among what there is.
#[derive(Debug, Clone)]
enum Step {
    /// A socket of this client opens.
    Open(u8),
    /// Its node claims the slot, be it for the first time or with a slice.
    Claim(usize),
    /// The client goes.
    Close(usize),
    /// A message under way arrives: one of those that were sent, not the oldest.
    Arrive(usize),
    /// The last message that arrived arrives once more.
    Again,
    /// The store forgets everything.
    Flush,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..3u8).prop_map(Step::Open),
        3 => any::<usize>().prop_map(Step::Claim),
        2 => any::<usize>().prop_map(Step::Close),
        8 => any::<usize>().prop_map(Step::Arrive),
        1 => Just(Step::Again),
        1 => Just(Step::Flush),
    ]
}

#[derive(Debug, Clone, PartialEq)]
enum Message {
    Claim(usize),
    Leave(usize),
}

struct Session {
    entry: SessionEntry,
    is_alive: bool,
    /// By the server, for another one.
    was_displaced: bool,
}

struct World {
    presence: MemoryPresence,
    policy: SessionPolicy,
    sessions: Vec<Session>,
    under_way: VecDeque<Message>,
    last: Option<Message>,
}

fn user() -> UserId {
    UserId::new("u").unwrap()
}

/// Process memory never waits.
fn now<T>(future: impl Future<Output = roomcast_store::Result<T>>) -> T {
    future.now_or_never().unwrap().unwrap()
}

impl World {
    fn new(policy: SessionPolicy) -> Self {
        let presence = MemoryPresence::new();
        Self { presence, policy, sessions: Vec::new(), under_way: VecDeque::new(), last: None }
    }

    fn open(&mut self, client: u8) {
        let number = self.sessions.len();
        let entry = SessionEntry {
            session_id: SessionId::random(),
            node: NodeRef {
                node_id: NodeId::new(format!("n{}", number % 3)).unwrap(),
                incarnation: Incarnation::from_u64(1).unwrap(),
            },
            client_id: ClientId::new(format!("c{client}")).unwrap(),
            stamp: StoreTime::from_millis(1_000 + number as i64),
        };
        self.sessions.push(Session { entry, is_alive: true, was_displaced: false });
        self.under_way.push_back(Message::Claim(number));
    }

    fn displace(&mut self, session: SessionId) {
        let found = self.sessions.iter().position(|own| own.entry.session_id == session);
        if let Some(number) = found.filter(|number| self.sessions[*number].is_alive) {
            self.sessions[number].is_alive = false;
            self.sessions[number].was_displaced = true;
            self.under_way.push_back(Message::Leave(number));
        }
    }

    fn arrive(&mut self, message: &Message) {
        self.last = Some(message.clone());
        match *message {
            Message::Claim(number) => {
                let entry = self.sessions[number].entry.clone();
                match now(self.presence.claim(&user(), &entry, self.policy)) {
                    Claim::Held { displaced } => {
                        displaced.iter().for_each(|other| self.displace(other.session_id));
                        if !self.sessions[number].is_alive {
                            // Its node hears that it holds a slot for a session that is gone, and says so.
                            self.under_way.push_back(Message::Leave(number));
                        }
                    }
                    Claim::Lost { .. } => self.displace(entry.session_id),
                }
            }
            Message::Leave(number) => {
                now(self.presence.drop_session(&user(), self.sessions[number].entry.session_id));
            }
        }
    }

    fn take(&mut self, step: Step) {
        let count = self.sessions.len().max(1);
        match step {
            Step::Open(client) => self.open(client),
            Step::Claim(which) if self.sessions.get(which % count).is_some_and(|own| own.is_alive) => {
                self.under_way.push_back(Message::Claim(which % count));
            }
            Step::Close(which) if self.sessions.get(which % count).is_some_and(|own| own.is_alive) => {
                self.sessions[which % count].is_alive = false;
                self.under_way.push_back(Message::Leave(which % count));
            }
            Step::Arrive(which) if !self.under_way.is_empty() => {
                let place = which % self.under_way.len();
                if let Some(message) = self.under_way.remove(place) {
                    self.arrive(&message);
                }
            }
            Step::Again => {
                if let Some(message) = self.last.clone() {
                    self.arrive(&message);
                }
            }
            Step::Flush => self.presence.flush(),
            Step::Claim(_) | Step::Close(_) | Step::Arrive(_) => {}
        }
    }

    /// Everything arrives, and the nodes tell their slices, until nothing changes any more.
    fn settle(&mut self) {
        for _ in 0..3 {
            let alive = (0..self.sessions.len()).filter(|number| self.sessions[*number].is_alive);
            self.under_way.extend(alive.map(Message::Claim).collect::<Vec<_>>());
            while let Some(message) = self.under_way.pop_front() {
                self.arrive(&message);
            }
        }
    }

    fn slot(&self, session: &Session) -> String {
        match self.policy {
            SessionPolicy::Single => String::new(),
            SessionPolicy::Multi => session.entry.client_id.to_string(),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn each_slot_ends_with_one_session_the_store_knows_it_and_nobody_fell_to_an_earlier_login(
        steps in prop::collection::vec(step(), 1..80),
        is_single in any::<bool>(),
    ) {
        let mut world = World::new(if is_single { SessionPolicy::Single } else { SessionPolicy::Multi });
        for step in steps {
            world.take(step);
        }
        world.settle();
        let mut holders: BTreeMap<String, SessionId> = BTreeMap::new();
        for session in world.sessions.iter().filter(|session| session.is_alive) {
            let slot = world.slot(session);
            prop_assert!(holders.insert(slot.clone(), session.entry.session_id).is_none(), "two in slot {slot:?}");
        }
        for (number, session) in world.sessions.iter().enumerate().filter(|(_, own)| own.was_displaced) {
            let slot = world.slot(session);
            let is_later = |other: &Session| world.slot(other) == slot;
            prop_assert!(world.sessions[number + 1..].iter().any(is_later), "the newest login of {slot:?} was closed");
        }
        let known = now(world.presence.sessions(&user()));
        let mut known: Vec<_> = known.into_iter().map(|entry| entry.session_id).collect();
        let mut alive: Vec<_> = holders.into_values().collect();
        known.sort();
        alive.sort();
        prop_assert_eq!(known, alive, "the map is the truth");
    }
}
