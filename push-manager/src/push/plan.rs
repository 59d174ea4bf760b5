//! Who is addressed by one push, decided from what every lane knows at one moment.

use std::{iter::Peekable, slice::Iter, sync::Arc};

use roomcast_types::{CardMark, RoomId, UserId};
use smallvec::SmallVec;

use crate::{
    fleet::Lanes,
    lane::{Context, Stance},
    routes::{NodeIndex, RoomShare, Share, UserShare},
};

/// One user on the way to one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LegUser {
    /// Its place in the push.
    pub position: usize,
    /// Its sessions there as last announced; 0 when none were.
    pub announced: u64,
}

/// Users of one leg: most pushes to users name one.
pub type LegUsers = SmallVec<[LegUser; 1]>;

/// One node that gets the message.
#[derive(Debug)]
pub struct Leg {
    /// Place in [`Plan::lanes`].
    pub lane: usize,
    /// Whether the node's absence of a route would have counted.
    pub is_trusted: bool,
    /// Whether its announced interest holds a target.
    pub is_known: bool,
    /// Whether the push waits for it: never for a node that may not answer.
    pub is_awaited: bool,
    /// Targets there as last announced.
    pub announced: u64,
    /// For pushes to users: whom the message names, in its order.
    pub users: LegUsers,
}

/// Who is addressed.
#[derive(Debug)]
pub struct Plan {
    /// The lanes at that moment.
    pub lanes: Arc<Lanes>,
    /// Nodes that get the message.
    pub legs: SmallVec<[Leg; 1]>,
    /// Whether some node's interest names the room.
    pub has_route: bool,
    /// Of the youngest card of the room that a node knows; version 0 without a route.
    pub card: CardMark,
    /// Trusted nodes that hold a target.
    pub addressed: u32,
    /// Registered nodes that are dead.
    pub unreachable: u32,
    /// Nodes that get it without being waited for.
    pub blind: u32,
    /// Members of a DURABLE room who are away.
    pub absent: Absent,
}

/// How many members of a DURABLE room are away; those of other rooms lose their seats instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Absent {
    /// The push counts no such members.
    #[default]
    None,
    /// So many.
    Count(u64),
    /// A controller has to be asked, or is being asked.
    Asked,
    /// No controller said it.
    Unknown,
}

impl Plan {
    /// Nobody.
    pub fn new(lanes: Arc<Lanes>) -> Self {
        Self {
            lanes,
            legs: SmallVec::new(),
            has_route: false,
            card: CardMark::default(),
            addressed: 0,
            unreachable: 0,
            blind: 0,
            absent: Absent::None,
        }
    }

    /// Sessions in a room.
    pub fn room(lanes: Arc<Lanes>, context: &Context, room_id: &RoomId) -> Self {
        let stances = stances(&lanes, context);
        let mut plan = Self::new(lanes);
        context.routes.rooms.read(room_id.as_str(), |shares: &[RoomShare]| {
            plan.has_route = !shares.is_empty();
            plan.card = shares.iter().fold(plan.card, |card, share| card.or_younger(share.card));
            let mut shares = shares.iter().peekable();
            for (place, stance) in stances.iter().enumerate() {
                let own = share_of(&mut shares, plan.lanes[place].index());
                let announced = own.map_or(0, |share| u64::from(share.sessions));
                plan.add(place, *stance, own.is_some(), announced, LegUsers::new());
            }
        });
        plan
    }

    /// Sessions of users.
    pub fn users(lanes: Arc<Lanes>, context: &Context, users: &[UserId]) -> Self {
        let stances = stances(&lanes, context);
        let mut plan = Self::new(lanes);
        let mut found: SmallVec<[LegUsers; 2]> = plan.lanes.iter().map(|_| LegUsers::new()).collect();
        for (position, user_id) in users.iter().enumerate() {
            context.routes.users.read(user_id.as_str(), |shares: &[UserShare]| {
                let mut shares = shares.iter().peekable();
                for (place, lane) in plan.lanes.iter().enumerate() {
                    let own = share_of(&mut shares, lane.index());
                    let announced = own.map_or(0, |share| u64::from(share.sessions));
                    // A node that may hold more than it said is told of every user.
                    if own.is_some() || stances[place] == Stance::Untrusted {
                        found[place].push(LegUser { position, announced });
                    }
                }
            });
        }
        for (place, users) in found.into_iter().enumerate() {
            let announced = users.iter().map(|user| user.announced).sum();
            plan.add(place, stances[place], announced > 0, announced, users);
        }
        plan
    }

    /// Every session.
    pub fn all(lanes: Arc<Lanes>, context: &Context) -> Self {
        let stances = stances(&lanes, context);
        let mut plan = Self::new(lanes);
        for (place, stance) in stances.into_iter().enumerate() {
            let lane = &plan.lanes[place];
            let announced = lane.sessions();
            // The number may lag behind the users, which are announced before their `welcome`.
            plan.add(place, stance, announced > 0 || lane.holds_users(), announced, LegUsers::new());
        }
        plan
    }

    /// Sessions it reaches, as last announced.
    pub fn announced(&self) -> u64 {
        self.legs.iter().map(|leg| leg.announced).sum()
    }

    fn add(&mut self, lane: usize, stance: Stance, is_known: bool, announced: u64, users: LegUsers) {
        let is_trusted = match stance {
            Stance::Refused(is_listed) => {
                self.unreachable += u32::from(is_listed);
                return;
            }
            Stance::Trusted if !is_known => return,
            Stance::Trusted => true,
            Stance::Untrusted => false,
        };
        if is_trusted {
            self.addressed += 1;
        } else {
            self.blind += 1;
        }
        self.legs.push(Leg { lane, is_trusted, is_known, is_awaited: is_trusted, announced, users });
    }
}

/// The share of one node, where lanes and shares are walked together: both are in the order of the nodes' indexes.
fn share_of<'a, S: Share>(shares: &mut Peekable<Iter<'a, S>>, node: NodeIndex) -> Option<&'a S> {
    while shares.next_if(|share| share.node() < node).is_some() {}
    shares.next_if(|share| share.node() == node)
}

/// The clock first, then the echoes, and only then, by the caller, the routes: what a node said before the echo that
/// makes it trusted is in the routes by then, and a standstill of ours in between does no harm.
fn stances(lanes: &Lanes, context: &Context) -> SmallVec<[Stance; 8]> {
    let now_us = context.clock.now_us();
    lanes.iter().map(|lane| lane.stance(now_us)).collect()
}
