//! Who waits for whom: a push behind those to the same target that have not come as far as the lanes.

use std::collections::{HashMap, VecDeque};

use roomcast_types::{RoomId, UserId};

use crate::push::request::{Push, Target};

/// What goes out in order.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Place {
    Room(RoomId),
    User(UserId),
    All,
}

impl Place {
    /// Of a push; those to several users have none.
    pub fn of(push: &Push) -> Option<Self> {
        match &push.target {
            Target::Room(room_id) => Some(Self::Room(room_id.clone())),
            Target::Users(users) => match users.as_slice() {
                [one] => Some(Self::User(one.clone())),
                _ => None,
            },
            Target::All => Some(Self::All),
        }
    }
}

/// The places that somebody has, each with those that wait for it, in their order. Its caller bounds how many.
#[derive(Debug)]
pub struct Turns<T> {
    places: HashMap<Place, VecDeque<T>>,
    waiting: usize,
}

impl<T> Default for Turns<T> {
    fn default() -> Self {
        Self { places: HashMap::new(), waiting: 0 }
    }
}

impl<T> Turns<T> {
    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// Has `one` wait for its place; gives it back when nobody has it.
    pub fn wait(&mut self, one: T, place_of: impl FnOnce(&T) -> Option<Place>) -> Option<T> {
        if self.places.is_empty() {
            return Some(one);
        }
        match place_of(&one).and_then(|place| self.places.get_mut(&place)) {
            Some(queue) => {
                queue.push_back(one);
                self.waiting += 1;
                None
            }
            None => Some(one),
        }
    }

    /// Somebody has this place, until [`Self::next`].
    pub fn begin(&mut self, place: Place) {
        self.places.entry(place).or_default();
    }

    /// Who had the place is through: the one whose turn it is now, if somebody waits.
    pub fn next(&mut self, place: &Place) -> Option<T> {
        let next = self.places.get_mut(place)?.pop_front();
        match &next {
            Some(_) => self.waiting -= 1,
            None => {
                self.places.remove(place);
            }
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_behind_one_that_waits_follow_in_their_order_and_others_pass_by() {
        let place = |id: &str| Place::Room(RoomId::new(id).unwrap());
        let mut turns = Turns::default();
        let come = |turns: &mut Turns<(&'static str, u8)>, id, number| {
            turns.wait((id, number), |(id, _)| Some(place(id))).is_some()
        };
        assert!(come(&mut turns, "blue", 1));
        turns.begin(place("blue"));
        assert!(!come(&mut turns, "blue", 2) && !come(&mut turns, "blue", 3));
        assert!(come(&mut turns, "red", 4));
        assert_eq!(turns.waiting(), 2);
        assert_eq!(turns.next(&place("blue")), Some(("blue", 2)));
        // It has to wait, too.
        turns.begin(place("blue"));
        assert!(!come(&mut turns, "blue", 5));
        assert_eq!(turns.next(&place("blue")), Some(("blue", 3)));
        assert_eq!(turns.next(&place("blue")), Some(("blue", 5)));
        assert_eq!((turns.next(&place("blue")), turns.waiting()), (None, 0));
        assert!(come(&mut turns, "blue", 6));
    }
}
