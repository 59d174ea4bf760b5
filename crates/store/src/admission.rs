//! Who of those that ask gets a seat: the decision that every SQL record takes under the room's lock.

use std::collections::HashMap;

use roomcast_types::UserId;

use crate::rooms::{RoomRow, SeatRequest};

/// What one admission does to a room.
pub(crate) struct Decision<'a> {
    /// One per request.
    pub(crate) admitted: Vec<bool>,
    /// (user, name) of those who hold a seat now, each once.
    pub(crate) seats: Vec<(&'a str, &'a str)>,
    /// How many of them took it now.
    pub(crate) new_seats: u64,
}

/// `holders` and `room` are as read under the room's lock.
pub(crate) fn decide<'a>(
    requests: &'a [SeatRequest],
    holders: &HashMap<UserId, u64>,
    room: &RoomRow,
) -> Decision<'a> {
    let free = u64::from(room.card.max_users).saturating_sub(room.members);
    let mut answers: HashMap<&str, bool> = HashMap::with_capacity(requests.len());
    let mut decision =
        Decision { admitted: Vec::with_capacity(requests.len()), seats: Vec::new(), new_seats: 0 };
    for request in requests {
        let user = request.user_id.as_str();
        let is_admitted = *answers.entry(user).or_insert_with(|| {
            let is_holder = holders.contains_key(user);
            let is_admitted = is_holder || decision.new_seats < free;
            if is_admitted {
                decision.seats.push((user, &request.user_name));
                decision.new_seats += u64::from(!is_holder);
            }
            is_admitted
        });
        decision.admitted.push(is_admitted);
    }
    decision
}
