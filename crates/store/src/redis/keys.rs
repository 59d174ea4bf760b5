//! Names of the keys: one hash tag per thing, so that what a script touches lies on one slot of a cluster.

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use redis::cluster_routing::Slot;
use roomcast_types::{RoomId, UserId};

use crate::{
    log::LogKey,
    presence::{NodeRef, SLICES},
};

/// What would end a tag or a part of a key.
const RESERVED: &AsciiSet = &CONTROLS.add(b'%').add(b'{').add(b'}').add(b':');

/// The due list is spread, so that no slot of a cluster carries all of it.
pub(super) const DUE_SHARDS: usize = 16;

/// A generation key in each of so many equal parts of a cluster's slots.
const GENERATION_PARTS: usize = 64;
const SLOTS: usize = 16_384;

/// Begins every key.
#[derive(Debug)]
pub(super) struct Keys {
    prefix: String,
}

/// Keys of one room.
pub(super) struct RoomKeys {
    /// Hash: user -> its session ids, 16 bytes each.
    pub online: String,
    /// Hash: user -> `SINCE` or `SINCE DUE`.
    pub absent: String,
    /// Sessions online beyond the first of their user; absent while there are none, so in most rooms.
    pub extra: String,
    /// Hash: `version`, `members`, `card`.
    pub card: String,
    /// Version of the deletion; expires.
    pub buried: String,
}

/// Keys of one log.
pub(super) struct LogKeys {
    /// Stream: `OFFSET-0` -> `m` message id, `t` time, `p` payload.
    pub log: String,
    /// Hash: its position, and what of it is kept.
    pub head: String,
}

impl Keys {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    /// Hash: session id -> its entry.
    pub(super) fn sessions(&self, user: &UserId) -> String {
        format!("{}{{u:{}}}:sessions", self.prefix, encoded(user.as_str()))
    }

    pub(super) fn room(&self, room: &RoomId) -> RoomKeys {
        let tag = format!("{}{{r:{}}}", self.prefix, encoded(room.as_str()));
        RoomKeys {
            online: format!("{tag}:online"),
            absent: format!("{tag}:absent"),
            extra: format!("{tag}:extra"),
            card: format!("{tag}:card"),
            buried: format!("{tag}:buried"),
        }
    }

    pub(super) fn log(&self, log: &LogKey) -> LogKeys {
        let tag = self.log_tag(log);
        LogKeys { log: format!("{tag}:log"), head: format!("{tag}:log:head") }
    }

    /// What an idempotency key was used for in a log; expires.
    pub(super) fn used(&self, log: &LogKey, key: &str) -> String {
        format!("{}:log:key:{}", self.log_tag(log), encoded(key))
    }

    /// As [`Self::used`] for a push to no one in particular: each on a slot of its own.
    pub(super) fn unaddressed(&self, key: &str) -> String {
        format!("{}{{k:{}}}:key", self.prefix, encoded(key))
    }

    fn log_tag(&self, log: &LogKey) -> String {
        match log {
            LogKey::Room(room) => format!("{}{{r:{}}}", self.prefix, encoded(room.as_str())),
            LogKey::User(user) => format!("{}{{u:{}}}", self.prefix, encoded(user.as_str())),
            LogKey::Unaddressed => format!("{}{{k:}}", self.prefix),
        }
    }

    /// Hash: slice -> version; exists as long as this life of the node has an index.
    pub(super) fn versions(&self, node: &NodeRef) -> String {
        format!("{}:versions", self.node(node))
    }

    /// How full this life of the node is; expires.
    pub(super) fn load(&self, node: &NodeRef) -> String {
        format!("{}:load", self.node(node))
    }

    /// Hash: session id -> indexed session.
    pub(super) fn slice(&self, node: &NodeRef, slice: usize) -> String {
        format!("{}:{slice}", self.node(node))
    }

    /// Everything of one life of a node.
    pub(super) fn all_of(&self, node: &NodeRef) -> Vec<String> {
        let slices = (0..SLICES).map(|slice| self.slice(node, slice));
        slices.chain([self.versions(node), self.load(node)]).collect()
    }

    fn node(&self, node: &NodeRef) -> String {
        format!("{}{{n:{}:{}}}", self.prefix, encoded(node.node_id.as_str()), node.incarnation)
    }

    /// Set of the lives of nodes that may have an index.
    pub(super) fn nodes(&self) -> String {
        format!("{}nodes", self.prefix)
    }

    /// Sorted set of absences by due time: the part of the list that the room belongs to.
    pub(super) fn due_of(&self, room: &RoomId) -> String {
        self.due((fnv([room.as_str()]) % DUE_SHARDS as u64) as usize)
    }

    pub(super) fn due(&self, shard: usize) -> String {
        format!("{}{{due:{shard}}}", self.prefix)
    }

    /// Never written: it names the master whose clock is the store's.
    pub(super) fn clock(&self) -> String {
        format!("{}clock", self.prefix)
    }

    /// One for a single server; for a cluster so many and so spread that each master with a fair share of the slots
    /// holds one.
    pub(super) fn generations(&self, is_cluster: bool) -> Vec<String> {
        let key = |tag: usize| format!("{}{{generation:{tag}}}", self.prefix);
        if !is_cluster {
            return vec![key(0)];
        }
        let part: std::collections::HashMap<Slot, usize> = (0..SLOTS)
            .filter_map(|slot| Some((Slot::new(slot as u16)?, slot * GENERATION_PARTS / SLOTS)))
            .collect();
        let mut found = vec![None; GENERATION_PARTS];
        for tag in 0.. {
            let key = key(tag);
            found[part[&Slot::for_key(&key)]].get_or_insert(key);
            if found.iter().all(Option::is_some) {
                break;
            }
        }
        found.into_iter().flatten().collect()
    }
}

fn encoded(id: &str) -> impl std::fmt::Display {
    utf8_percent_encode(id, RESERVED)
}

/// FNV-1a: the same in every process and every build, which the standard library's hasher does not promise.
pub(super) fn fnv<'a>(parts: impl IntoIterator<Item = &'a str>) -> u64 {
    let bytes = parts.into_iter().flat_map(|part| part.bytes().chain([0]));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use roomcast_types::{Incarnation, NodeId};

    use super::*;

    #[test]
    fn an_id_cannot_break_its_tag_nor_be_taken_for_another() {
        let keys = Keys::new("p:");
        let (open, plain) = (RoomId::new("a}b{:%").unwrap(), RoomId::new("a").unwrap());
        assert_eq!(keys.room(&open).card, "p:{r:a%7Db%7B%3A%25}:card");
        let node =
            |id: &str| NodeRef { node_id: NodeId::new(id).unwrap(), incarnation: Incarnation::random() };
        assert!(keys.versions(&node("n:1")).starts_with("p:{n:n%3A1:"));
        let RoomKeys { online, absent, extra, card, buried } = keys.room(&plain);
        let slot = Slot::for_key(&online);
        assert!([absent, extra, card, buried].iter().all(|key| Slot::for_key(key) == slot));
    }

    #[test]
    fn each_part_of_a_cluster_has_its_generation_key() {
        let keys = Keys::new("").generations(true);
        let slots: std::collections::HashSet<Slot> = keys.iter().map(Slot::for_key).collect();
        for part in 0..GENERATION_PARTS {
            let mut range = (part * SLOTS / GENERATION_PARTS)..((part + 1) * SLOTS / GENERATION_PARTS);
            assert!(range.any(|slot| slots.contains(&Slot::new(slot as u16).unwrap())), "part {part}");
        }
        assert_eq!(Keys::new("").generations(false).len(), 1);
    }
}
