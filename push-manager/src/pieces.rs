//! Inner pieces with nothing around them, so that `benches/pieces.rs` can tell what each of them costs.

use std::time::Duration;

use bytes::Bytes;
use metrics::Gauge;
use prost::Message as _;
use roomcast_proto::{
    lane::encoded,
    pubsub::{Content, Deliver, Interest, RoomInterest, UserInterest, deliver::Target, down_item::Item},
};
use roomcast_types::{CardMark, Incarnation, MessageId, NodeId, RoomId, UserId};

use crate::{
    lane::{Bounds, Held, Outgoing, Parcel},
    ledger::{Book, Ledger},
    metrics::Metrics,
    push::Ticket,
    routes::{RoomShare, Routes, UserShare},
};

/// The node of everything here.
const NODE: u32 = 1;
/// What may wait in a [`Queue`].
const BOUNDS: Bounds = Bounds { messages: 100_000, bytes: 64 << 20 };

/// A route table of users `user-0000000` and on, and rooms `room-0000000` and on, all on one node.
#[derive(Debug)]
pub struct Table {
    routes: Routes,
    /// What the node's lane remembers of them.
    held: Held,
}

impl Table {
    /// An empty one.
    #[expect(clippy::new_without_default, reason = "nobody asks for a default one")]
    pub fn new() -> Self {
        Self { routes: Routes::new(), held: Held::default() }
    }

    /// Adds routes to so many users.
    pub fn add_users(&self, count: u32) {
        for user_id in (0..count).filter_map(|number| UserId::new(user(number)).ok()) {
            self.routes.users.set(&user_id, UserShare { node: NODE, sessions: 1 });
        }
    }

    /// Adds routes to so many rooms.
    pub fn add_rooms(&self, count: u32) {
        for room_id in (0..count).filter_map(|number| RoomId::new(room(number)).ok()) {
            let card = CardMark { version: 1, ..CardMark::default() };
            self.routes.rooms.set(&room_id, RoomShare { node: NODE, sessions: 10, card });
        }
    }

    /// The same for users as the interest of a node brings them: the lane remembers them, too.
    pub fn learn_users(&mut self, count: u32) {
        for number in 0..count {
            let users = vec![UserInterest { user_id: user(number), sessions: 1 }];
            self.held.apply(&Interest { users, ..Interest::default() }, NODE, &self.routes);
        }
    }

    /// The same for rooms.
    pub fn learn_rooms(&mut self, count: u32) {
        for number in 0..count {
            let room = RoomInterest {
                room_id: room(number),
                sessions: 10,
                card_version: 1,
                ..RoomInterest::default()
            };
            self.held.apply(&Interest { rooms: vec![room], ..Interest::default() }, NODE, &self.routes);
        }
    }

    /// On how many nodes a user is.
    pub fn find_user(&self, user_id: &str) -> usize {
        self.routes.users.read(user_id, <[_]>::len)
    }

    /// On how many nodes a room is.
    pub fn find_room(&self, room_id: &str) -> usize {
        self.routes.rooms.read(room_id, <[_]>::len)
    }
}

/// Name of a user of [`Table`].
pub fn user(number: u32) -> String {
    format!("user-{number:07}")
}

/// Name of a room of [`Table`].
pub fn room(number: u32) -> String {
    format!("room-{number:07}")
}

/// The queue of one lane, linked, and messages of one content for it.
#[derive(Debug)]
pub struct Queue {
    outgoing: Outgoing,
    item: Bytes,
    life: Incarnation,
    pushed: u64,
    acked: u64,
}

impl Queue {
    /// Empty; its messages carry so many bytes to a room.
    pub fn new(content_bytes: usize) -> Self {
        let second = Duration::from_secs(1);
        let node_id = NodeId::new("node-1").expect("it is one");
        let book = Book::new(Ledger::new(Gauge::noop(), second), node_id);
        let mut outgoing = Outgoing::new(BOUNDS, u64::MAX, Metrics::new().queue.clone(), book);
        outgoing.restart(0, true);
        let life = Incarnation::random();
        let deliver = Deliver {
            message_id: MessageId::new(1, life, 1).to_string(),
            target: Some(Target::RoomId(room(1))),
            content: Some(Content { data: vec![b'x'; content_bytes].into(), ..Content::default() }),
            timestamp_ms: 1_700_000_000_000,
            ..Deliver::default()
        };
        let item = encoded(Item::Deliver(deliver));
        Self { outgoing, item, life, pushed: 0, acked: 0 }
    }

    /// One more message waits. False when the queue is full.
    pub fn push(&mut self) -> bool {
        self.pushed += 1;
        let message_id = MessageId::new(1, self.life, self.pushed);
        let ticket = Some((message_id, Ticket::nobody(false)));
        let parcel = Parcel { item: self.item.clone(), ticket, was_trusted: true, expires_us: None };
        self.outgoing.push(parcel, 256, 0).is_ok()
    }

    /// What waits leaves as one message and is acknowledged. Its encoded length in bytes; 0 when nothing waits.
    pub fn leave(&mut self) -> usize {
        let Some(down) = self.outgoing.compose(0) else { return 0 };
        self.acked += down.items.len() as u64;
        self.outgoing.acked(self.acked);
        down.encode_to_vec().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_do_what_is_counted() {
        let mut table = Table::new();
        table.add_users(10);
        table.learn_rooms(10);
        assert_eq!((table.find_user(&user(9)), table.find_user(&user(10))), (1, 0));
        assert_eq!((table.find_room(&room(9)), table.find_room(&room(10))), (1, 0));
        let mut queue = Queue::new(128);
        assert!((0..64).all(|_| queue.push()));
        assert!(queue.leave() > 64 * 128, "the contents travel");
        assert_eq!((queue.leave(), queue.outgoing.queued()), (0, 0));
    }
}
