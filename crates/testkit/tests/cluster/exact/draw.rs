//! What a seed decides of one round.

use std::{collections::HashSet, time::Duration};

use roomcast_client::{Class, Content, ContentType, PushOptions, Wait};

use super::{HEALTHY, STOPPED};

/// Numbers that look random and are the same for the same seed (splitmix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((word ^ (word >> 31)) % bound as u64) as usize
    }
}

/// How the node dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doom {
    /// Its hub stands still when the message is accepted: it never gets it.
    Frozen,
    /// It holds the message in front of readers that stopped.
    Holding,
    /// Beside the push, whichever is faster.
    Racing,
}

/// What becomes of a reader that stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    ReadsOn,
    Vanishes,
    /// More is pushed to it than its queue holds.
    TooSlow,
}

/// What a seed decides.
#[derive(Debug)]
pub struct Draw {
    pub seed: u64,
    pub doom: Doom,
    pub class: Class,
    pub wants_ack: bool,
    /// Of the healthy.
    pub excluded: HashSet<usize>,
    /// A state that a later one replaces, or audio that grows old, before anybody reads on.
    pub is_outlived: bool,
    pub fates: Vec<Fate>,
    /// The node of the first reader that stopped; the others take turns.
    pub first: usize,
}

impl Draw {
    pub fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let class = [Class::Ordered, Class::Expiring, Class::Latest][dice.below(3)];
        let fate = |dice: &mut Dice| [Fate::ReadsOn, Fate::Vanishes, Fate::TooSlow][dice.below(3)];
        Self {
            seed,
            doom: [Doom::Frozen, Doom::Holding, Doom::Racing][dice.below(3)],
            class,
            wants_ack: dice.below(2) == 0,
            excluded: (0..dice.below(6)).map(|_| dice.below(HEALTHY)).collect(),
            is_outlived: class != Class::Ordered && dice.below(2) == 0,
            fates: (0..STOPPED).map(|_| fate(&mut dice)).collect(),
            first: dice.below(2),
        }
    }

    pub fn content(&self) -> Content {
        Content::text(ContentType::Text, format!("round {}", self.seed))
    }

    pub fn options(&self) -> PushOptions {
        let ttl = Duration::from_millis(if self.is_outlived { 500 } else { 600_000 });
        PushOptions {
            wait: if self.doom == Doom::Racing { Wait::Accepted } else { Wait::Written },
            // Nobody waits for a node that stands still.
            wait_for: (self.doom == Doom::Frozen).then_some(Duration::from_millis(1)),
            ack: self.wants_ack,
            class: self.class,
            key: if self.class == Class::Latest { "state".to_owned() } else { String::new() },
            ttl: (self.class == Class::Expiring).then_some(ttl),
            exclude_user_ids: self.excluded.iter().map(|number| format!("healthy-{number}")).collect(),
            ..PushOptions::default()
        }
    }
}
