//! The suite for [`Rooms`].

mod admission;
mod life;
mod paging;
mod seats;
mod together;

use std::{any::Any, sync::Arc};

use roomcast_types::{LogPolicy, Membership, OnLogFailure, RoomId, StoreTime, UserId};

pub use self::{admission::*, life::*, paging::*, seats::*, together::*};
use super::{LOOK_ALIKES, suite};
use crate::rooms::{NewRoom, Rooms, SeatRequest};

/// A fresh, empty record with one or more handles to it: rules that race spread over all of them.
pub struct Record {
    handles: Vec<Arc<dyn Rooms>>,
    _guard: Box<dyn Any + Send + Sync>,
}

impl Record {
    /// At least one handle; all of them open the same record.
    pub fn new(handles: Vec<Arc<dyn Rooms>>) -> Self {
        assert!(!handles.is_empty(), "a record needs a handle");
        Self { handles, _guard: Box::new(()) }
    }

    /// Keeps something, such as a temporary folder, for as long as the record is used.
    pub fn guarded_by(self, guard: impl Any + Send + Sync) -> Self {
        Self { _guard: Box::new(guard), ..self }
    }

    fn rooms(&self) -> &dyn Rooms {
        &*self.handles[0]
    }

    fn handle(&self, number: usize) -> Arc<dyn Rooms> {
        self.handles[number % self.handles.len()].clone()
    }
}

suite! {
    $,
    /// One test per rule for a backend of [`Rooms`](crate::Rooms); takes a future of a
    /// [`Record`](crate::conformance::rooms::Record).
    rooms_conformance in rooms on Record {
        a_first_join_creates_the_room
        without_create_an_unknown_room_is_no_such_room
        racing_joins_never_exceed_the_limit
        racing_first_joins_create_one_room
        holders_are_admitted_when_full
        the_first_of_a_batch_get_the_places
        a_repeated_user_counts_once
        an_admitted_seat_carries_the_new_seat_version
        joining_again_keeps_when_the_seat_was_taken
        an_empty_name_keeps_the_one_known
        admission_leaves_the_card_alone
        an_admission_of_nobody_answers_the_card
        a_batch_of_thousands_is_admitted_whole
        rooms_admitted_together_have_outcomes_of_their_own
        a_seat_given_together_is_as_one_given_alone
        racing_admissions_of_many_rooms_never_exceed_a_limit
        a_created_room_reads_as_given
        a_room_cannot_be_created_twice
        an_update_changes_what_it_names_and_the_version
        an_update_of_an_unknown_room_is_no_such_room
        lowering_the_limit_removes_nobody
        a_deleted_room_is_gone_with_its_seats
        a_room_created_anew_starts_above_its_former_versions
        empty_since_follows_the_seats
        only_an_empty_auto_created_room_is_deleted_as_empty
        empty_rooms_are_found_oldest_or_not_at_all
        a_join_that_races_a_sweep_of_empty_rooms_has_its_seat
        rooms_are_listed_by_page_in_order_of_bytes
        seats_are_listed_by_page_in_order_of_bytes
        totals_sum_over_rooms
        room_ids_that_look_alike_are_different_rooms
        user_ids_that_look_alike_are_different_users
        ids_and_names_of_any_characters_read_as_written
        it_answers
        a_released_seat_gives_its_place_back
        releasing_what_is_not_there_releases_nothing
        a_seat_admitted_again_outlives_its_release
        a_release_without_a_version_takes_any_seat
        a_release_of_many_takes_each_once
        a_seat_taken_anew_is_a_new_seat
        racing_releases_and_joins_keep_the_count
        what_was_read_moves_up_or_into_another_epoch
        only_holders_of_seats_have_read
    }
}

fn room(id: &str) -> RoomId {
    RoomId::new(id).unwrap()
}

fn user(id: &str) -> UserId {
    UserId::new(id).unwrap()
}

fn at(millis: i64) -> StoreTime {
    StoreTime::from_millis(millis)
}

fn seat(id: &str) -> SeatRequest {
    SeatRequest { user_id: user(id), user_name: String::new() }
}

/// `count` requests of users `{prefix}0000`, `{prefix}0001` and so on.
fn seats(prefix: &str, count: usize) -> Vec<SeatRequest> {
    (0..count).map(|number| seat(&format!("{prefix}{number:04}"))).collect()
}

fn new_room(max_users: u32) -> NewRoom {
    NewRoom {
        max_users,
        membership: Membership::Follow,
        log: LogPolicy::Recent,
        on_log_failure: OnLogFailure::Degrade,
        is_auto_created: true,
    }
}

/// Gives seats to these users, in a room of 100 that is created if need be.
async fn join(rooms: &dyn Rooms, id: &RoomId, users: &[&str]) -> Vec<bool> {
    let requests: Vec<SeatRequest> = users.iter().map(|user| seat(user)).collect();
    rooms.admit(id, &requests, Some(new_room(100)), at(1_000)).await.unwrap().admitted
}

async fn members(rooms: &dyn Rooms, id: &RoomId) -> u64 {
    rooms.room(id).await.unwrap().unwrap().members
}

async fn holders(rooms: &dyn Rooms, id: &RoomId) -> Vec<String> {
    let seats = rooms.seats(id, None, 100_000).await.unwrap();
    seats.into_iter().map(|seat| seat.user_id.into()).collect()
}

async fn seat_version(rooms: &dyn Rooms, id: &RoomId, user_id: &str) -> u64 {
    rooms.seat(id, &user(user_id)).await.unwrap().unwrap().version
}
