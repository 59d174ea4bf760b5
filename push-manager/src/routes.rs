//! The route table: which nodes hold a room or a user, as their interest says. Reads take no lock and allocate nothing.

mod departed;

use std::{borrow::Borrow, fmt, hash::Hash};

use foldhash::fast::RandomState;
use papaya::{HashMap, Operation};
use roomcast_types::{CardMark, RoomId, UserId};

use departed::Departed;
pub use departed::Departure;

/// Names a node in this process; given once per lane and never reused.
pub type NodeIndex = u32;

/// What one node holds of a room or user.
pub trait Share: Copy {
    /// The node.
    fn node(&self) -> NodeIndex;
}

/// What one node holds of a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoomShare {
    /// The node.
    pub node: NodeIndex,
    /// Its sessions in the room; may be 0 while the interest stands.
    pub sessions: u32,
    /// Of the card that the node knows.
    pub card: CardMark,
}

/// What one node holds of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UserShare {
    /// The node.
    pub node: NodeIndex,
    /// Its sessions of the user.
    pub sessions: u32,
}

impl Share for RoomShare {
    fn node(&self) -> NodeIndex {
        self.node
    }
}

impl Share for UserShare {
    fn node(&self) -> NodeIndex {
        self.node
    }
}

/// The shares of all nodes that hold one key, by node. Most users are on one node: that costs no allocation.
#[derive(Debug, Clone)]
enum Holders<S> {
    One([S; 1]),
    Many(Box<[S]>),
}

impl<S: Share> Holders<S> {
    fn shares(&self) -> &[S] {
        match self {
            Self::One(one) => one,
            Self::Many(many) => many,
        }
    }

    fn with(&self, share: S) -> Self {
        let mut shares = self.shares().to_vec();
        match shares.binary_search_by_key(&share.node(), Share::node) {
            Ok(place) => shares[place] = share,
            Err(place) => shares.insert(place, share),
        }
        Self::of(&shares).unwrap_or(Self::One([share]))
    }

    fn of(shares: &[S]) -> Option<Self> {
        match shares {
            [] => None,
            [one] => Some(Self::One([*one])),
            many => Some(Self::Many(many.into())),
        }
    }
}

/// One half of the table.
pub struct Table<K, S> {
    holders: HashMap<K, Holders<S>, RandomState>,
}

impl<K: Hash + Eq + Clone + Borrow<str>, S: Share> Table<K, S> {
    fn new() -> Self {
        Self { holders: HashMap::with_hasher(RandomState::default()) }
    }

    /// Shows the shares of a key, by node; none when nobody holds it.
    pub fn read<R>(&self, key: &str, see: impl FnOnce(&[S]) -> R) -> R {
        match self.holders.pin().get(key) {
            Some(holders) => see(holders.shares()),
            None => see(&[]),
        }
    }

    /// Adds or replaces one node's share.
    pub fn set(&self, key: &K, share: S) {
        self.holders.pin().update_or_insert(
            key.clone(),
            |holders| holders.with(share),
            Holders::One([share]),
        );
    }

    /// Removes one node's share.
    pub fn remove(&self, key: &K, node: NodeIndex) {
        self.holders.pin().compute(key.clone(), |held| {
            let Some((_, holders)) = held else { return Operation::Abort(()) };
            let left: Vec<S> =
                holders.shares().iter().copied().filter(|share| share.node() != node).collect();
            match Holders::of(&left) {
                Some(holders) => Operation::Insert(holders),
                None => Operation::Remove,
            }
        });
    }

    /// Keys that somebody holds.
    pub fn len(&self) -> usize {
        self.holders.len()
    }
}

impl<K, S> fmt::Debug for Table<K, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table").finish_non_exhaustive()
    }
}

/// The table.
#[derive(Debug)]
pub struct Routes {
    /// Rooms.
    pub rooms: Table<RoomId, RoomShare>,
    /// Users.
    pub users: Table<UserId, UserShare>,
    /// What dead nodes held.
    pub departed: Departed,
}

impl Routes {
    /// An empty table.
    pub fn new() -> Self {
        Self { rooms: Table::new(), users: Table::new(), departed: Departed::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(node: NodeIndex, sessions: u32) -> UserShare {
        UserShare { node, sessions }
    }

    #[test]
    fn a_key_lists_its_nodes_in_order_and_goes_with_the_last() {
        let routes = Routes::new();
        let ann = UserId::new("ann").unwrap();
        for node in [3, 1, 2] {
            routes.users.set(&ann, share(node, node));
        }
        routes.users.set(&ann, share(2, 9));
        assert_eq!(routes.users.read("ann", <[_]>::to_vec), [share(1, 1), share(2, 9), share(3, 3)]);
        for node in [1, 3, 3] {
            routes.users.remove(&ann, node);
        }
        assert_eq!(routes.users.read("ann", <[_]>::to_vec), [share(2, 9)]);
        routes.users.remove(&ann, 2);
        assert_eq!(routes.users.len(), 0);
        assert!(routes.users.read("ann", <[_]>::is_empty));
    }

    #[test]
    fn ids_that_look_alike_have_routes_of_their_own() {
        let routes = Routes::new();
        routes.users.set(&UserId::new("Ann").unwrap(), share(1, 1));
        for other in ["ann", "Ann ", "Änn"] {
            assert!(routes.users.read(other, <[_]>::is_empty), "{other}");
        }
    }
}
