//! How far members of DURABLE rooms have read, as their acknowledgements say: told with the next heartbeat.

use std::collections::hash_map::Entry;

use roomcast_proto::pubsub::ReadMark;
use roomcast_types::{Position, RoomId, UserId};
use rustc_hash::FxHashMap;

/// Members whose mark waits; a further one is dropped, and made up for by the member's next acknowledgement.
const WAITING_MAX: usize = 16_384;
/// Marks in one message.
pub const PER_MESSAGE: usize = 512;

/// Marks that no controller was told yet. One that is lost on its way is made up for in the same way.
#[derive(Debug, Default)]
pub struct Reads(FxHashMap<(RoomId, UserId), Position>);

impl Reads {
    /// A member acknowledged the message at this position.
    pub fn note(&mut self, room: RoomId, user: UserId, position: Position) {
        let is_full = self.0.len() >= WAITING_MAX;
        match self.0.entry((room, user)) {
            Entry::Vacant(_) if is_full => {}
            Entry::Vacant(place) => drop(place.insert(position)),
            // What is acknowledged late does not move it down.
            Entry::Occupied(known)
                if known.get().epoch == position.epoch && known.get().offset >= position.offset => {}
            Entry::Occupied(mut known) => drop(known.insert(position)),
        }
    }

    /// As many as fit one message, to be told.
    pub fn take(&mut self) -> Vec<ReadMark> {
        let keys: Vec<(RoomId, UserId)> = self.0.keys().take(PER_MESSAGE).cloned().collect();
        let mark = |key: (RoomId, UserId)| {
            let position = self.0.remove(&key)?;
            Some(ReadMark {
                room_id: key.0.to_string(),
                user_id: key.1.to_string(),
                epoch: position.epoch.as_u64(),
                offset: position.offset,
            })
        };
        keys.into_iter().filter_map(mark).collect()
    }
}

#[cfg(test)]
mod tests {
    use roomcast_types::Epoch;

    use super::*;

    #[test]
    fn the_furthest_of_an_epoch_is_told_once() {
        let (room, user) = (RoomId::new("r").unwrap(), UserId::new("u").unwrap());
        let (epoch, later) = (Epoch::random(), Epoch::random());
        let mut reads = Reads::default();
        for (epoch, offset, wanted) in [(epoch, 7, 7), (epoch, 5, 7), (epoch, 9, 9), (later, 2, 2)] {
            reads.note(room.clone(), user.clone(), Position { epoch, offset });
            assert_eq!(reads.0.values().next().unwrap().offset, wanted);
        }
        let told = reads.take();
        assert_eq!((told.len(), told[0].epoch, told[0].offset), (1, later.as_u64(), 2));
        assert!(reads.take().is_empty());
    }

    #[test]
    fn more_than_a_message_holds_is_told_in_several() {
        let mut reads = Reads::default();
        let position = Position { epoch: Epoch::random(), offset: 1 };
        for number in 0..PER_MESSAGE + 1 {
            let user = UserId::new(format!("u{number}")).unwrap();
            reads.note(RoomId::new("r").unwrap(), user, position);
        }
        assert_eq!((reads.take().len(), reads.take().len(), reads.take().len()), (PER_MESSAGE, 1, 0));
    }
}
