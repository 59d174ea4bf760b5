//! What one node said it holds, and how that becomes routes.

use std::collections::HashSet;

use roomcast_proto::pubsub::{Interest, interest::Snapshot};
use roomcast_types::{CardMark, RoomId, UserId};

use crate::routes::{NodeIndex, RoomShare, Routes, UserShare};

/// Rooms and users.
#[derive(Debug, Default)]
struct Keys {
    rooms: HashSet<RoomId>,
    users: HashSet<UserId>,
}

/// The keys that have a route to this node.
///
/// A snapshot adds routes as its parts come and removes what it does not name with its last part: a route that the
/// node still holds never disappears in between, and one too many costs a message and no more.
#[derive(Debug, Default)]
pub struct Held {
    keys: Keys,
    /// What the snapshot under way named so far. It lives through a break: the node goes on where it stopped.
    snapshot: Option<Keys>,
}

impl Held {
    /// Users that have a route to this node.
    pub fn users(&self) -> usize {
        self.keys.users.len()
    }

    /// Applies one item; whether it completed a snapshot. Ids that are none are left out.
    pub fn apply(&mut self, interest: &Interest, node: NodeIndex, routes: &Routes) -> bool {
        let kind = interest.snapshot();
        if kind != Snapshot::None {
            self.snapshot.get_or_insert_default();
        }
        for room in &interest.rooms {
            let Ok(room_id) = RoomId::new(&room.room_id) else { continue };
            if room.withdrawn {
                self.withdraw_room(&room_id, node, routes);
                continue;
            }
            let sessions = clamp(room.sessions);
            let card = CardMark {
                version: room.card_version,
                membership: room.membership().into(),
                log: room.log().into(),
                on_log_failure: room.on_log_failure().into(),
            };
            routes.rooms.set(&room_id, RoomShare { node, sessions, card });
            if let Some(snapshot) = &mut self.snapshot {
                snapshot.rooms.insert(room_id.clone());
            }
            self.keys.rooms.insert(room_id);
        }
        for user in &interest.users {
            let Ok(user_id) = UserId::new(&user.user_id) else { continue };
            if user.sessions == 0 {
                self.withdraw_user(&user_id, node, routes);
                continue;
            }
            routes.users.set(&user_id, UserShare { node, sessions: clamp(user.sessions) });
            if let Some(snapshot) = &mut self.snapshot {
                snapshot.users.insert(user_id.clone());
            }
            self.keys.users.insert(user_id);
        }
        if kind == Snapshot::Last
            && let Some(named) = self.snapshot.take()
        {
            self.replace(named, node, routes);
            return true;
        }
        false
    }

    /// The node is dead: its routes go. What they were.
    pub fn clear(&mut self, node: NodeIndex, routes: &Routes) -> (HashSet<RoomId>, HashSet<UserId>) {
        self.snapshot = None;
        let Keys { rooms, users } = self.replace(Keys::default(), node, routes);
        (rooms, users)
    }

    /// The node begins its numbers anew: what is known stands until its snapshot is complete.
    pub fn forget_snapshot(&mut self) {
        self.snapshot = None;
    }

    fn withdraw_room(&mut self, room_id: &RoomId, node: NodeIndex, routes: &Routes) {
        routes.rooms.remove(room_id, node);
        self.keys.rooms.remove(room_id);
        if let Some(snapshot) = &mut self.snapshot {
            snapshot.rooms.remove(room_id);
        }
    }

    fn withdraw_user(&mut self, user_id: &UserId, node: NodeIndex, routes: &Routes) {
        routes.users.remove(user_id, node);
        self.keys.users.remove(user_id);
        if let Some(snapshot) = &mut self.snapshot {
            snapshot.users.remove(user_id);
        }
    }

    fn replace(&mut self, keys: Keys, node: NodeIndex, routes: &Routes) -> Keys {
        for room_id in self.keys.rooms.difference(&keys.rooms) {
            routes.rooms.remove(room_id, node);
        }
        for user_id in self.keys.users.difference(&keys.users) {
            routes.users.remove(user_id, node);
        }
        std::mem::replace(&mut self.keys, keys)
    }
}

fn clamp(sessions: u64) -> u32 {
    u32::try_from(sessions).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use roomcast_proto::pubsub::{RoomInterest, UserInterest};

    use super::*;

    fn rooms(snapshot: Snapshot, names: &[&str]) -> Interest {
        let room = |name: &&str| RoomInterest {
            room_id: (*name).to_owned(),
            sessions: 1,
            card_version: 1,
            ..RoomInterest::default()
        };
        Interest { snapshot: snapshot.into(), rooms: names.iter().map(room).collect(), ..Interest::default() }
    }

    fn withdrawn(name: &str) -> Interest {
        let mut interest = rooms(Snapshot::None, &[name]);
        interest.rooms[0].withdrawn = true;
        interest
    }

    fn known(routes: &Routes, names: &[&str]) -> Vec<bool> {
        names.iter().map(|name| routes.rooms.read(name, |shares| !shares.is_empty())).collect()
    }

    #[test]
    fn a_snapshot_never_takes_a_route_away_that_it_names() {
        let (mut held, routes) = (Held::default(), Routes::new());
        assert!(held.apply(&rooms(Snapshot::Last, &["a", "b"]), 1, &routes));
        assert!(!held.apply(&rooms(Snapshot::Part, &["c"]), 1, &routes));
        assert_eq!(known(&routes, &["a", "b", "c"]), [true; 3], "the old ones stand until the last part");
        assert!(held.apply(&rooms(Snapshot::Last, &["a"]), 1, &routes));
        assert_eq!(known(&routes, &["a", "b", "c"]), [true, false, true]);
    }

    #[test]
    fn changes_between_the_parts_of_a_snapshot_count() {
        let (mut held, routes) = (Held::default(), Routes::new());
        held.apply(&rooms(Snapshot::Part, &["a"]), 1, &routes);
        held.apply(&withdrawn("a"), 1, &routes);
        held.apply(&rooms(Snapshot::None, &["b"]), 1, &routes);
        assert!(held.apply(&rooms(Snapshot::Last, &["c"]), 1, &routes));
        assert_eq!(known(&routes, &["a", "b", "c"]), [false, true, true]);
    }

    #[test]
    fn a_dead_node_takes_only_its_own_routes_along() {
        let (mut one, mut two, routes) = (Held::default(), Held::default(), Routes::new());
        one.apply(&rooms(Snapshot::Last, &["a", "b"]), 1, &routes);
        two.apply(&rooms(Snapshot::Last, &["b"]), 2, &routes);
        let user = UserInterest { user_id: "ann".into(), sessions: 2 };
        one.apply(&Interest { users: vec![user], ..Interest::default() }, 1, &routes);
        assert_eq!(one.users(), 1);
        one.clear(1, &routes);
        assert_eq!(known(&routes, &["a", "b"]), [false, true]);
        assert_eq!((routes.rooms.len(), routes.users.len(), one.users()), (1, 0, 0));
    }
}
