//! The suite for [`Presence`].

mod cards;
mod memory;
mod nodes;
mod rooms;
mod slots;

use std::{any::Any, sync::Arc};

use futures_util::future::BoxFuture;
use roomcast_types::{
    ClientId, Incarnation, LogPolicy, Membership, NodeId, OnLogFailure, RoomCard, RoomId, RoomState,
    SessionId, StoreTime, UserId,
};

pub use self::{cards::*, memory::*, nodes::*, rooms::*, slots::*};
use super::{LOOK_ALIKES, suite, wait_until};
use crate::presence::{Exit, NodeRef, Presence, SessionEntry};

/// A fresh, empty memory, and the way to make it lose everything as a fault would.
pub struct Memory {
    presence: Arc<dyn Presence>,
    flush: Box<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>,
    _guard: Box<dyn Any + Send + Sync>,
}

impl Memory {
    /// `flush` loses everything, as FLUSHALL does.
    pub fn new(
        presence: Arc<dyn Presence>,
        flush: impl Fn() -> BoxFuture<'static, ()> + Send + Sync + 'static,
    ) -> Self {
        Self { presence, flush: Box::new(flush), _guard: Box::new(()) }
    }

    /// Keeps something, such as a server's process, for as long as the memory is used.
    pub fn guarded_by(self, guard: impl Any + Send + Sync) -> Self {
        Self { _guard: Box::new(guard), ..self }
    }
}

suite! {
    $,
    /// One test per rule for a backend of [`Presence`](crate::Presence); takes a future of a
    /// [`Memory`](crate::conformance::presence::Memory).
    presence_conformance in presence on Memory {
        a_later_stamp_displaces_the_earlier
        the_later_stamp_wins_whatever_arrives_first
        equal_stamps_are_decided_by_the_greater_session_id
        under_multi_other_clients_keep_their_slots
        under_single_one_session_holds_the_user
        under_single_the_latest_of_all_holds_the_user
        repeating_a_claim_that_is_held_displaces_nobody
        a_claim_that_turns_out_lost_is_taken_back
        racing_claims_leave_the_latest
        a_late_drop_removes_its_own_session_only
        sessions_are_listed_newest_first
        users_that_look_alike_have_their_own_sessions
        a_rejoin_needs_a_seat_in_the_memory
        a_rejoin_ends_the_absence
        entering_puts_online_whatever_was_known
        entering_twice_counts_once
        only_the_last_session_makes_its_user_absent
        leaving_is_neither_online_nor_absent
        a_late_exit_changes_nothing
        an_absence_is_marked_only_where_nothing_is_known
        an_absence_is_taken_after_its_grace_only
        an_absence_that_ended_cannot_be_taken
        taking_an_absence_and_a_rejoin_exclude_each_other
        absences_become_due_oldest_first
        a_durable_absence_is_never_due
        a_newer_absence_has_its_own_due_time
        an_evicted_user_is_unknown
        rooms_that_look_alike_have_their_own_presence
        a_card_is_known_once_written
        an_older_card_does_not_replace_a_newer_one
        a_buried_room_answers_so_and_forgets_its_presence
        only_a_newer_active_card_unburies
        a_burial_ends
        a_late_burial_spares_a_room_created_anew
        a_forgotten_room_is_unknown
        a_late_forgetting_spares_a_room_created_anew
        nothing_is_known_of_a_life_that_never_reported
        slice_versions_never_go_down
        lives_of_a_node_have_their_own_index
        a_session_is_indexed_in_its_slice
        a_session_is_indexed_once
        a_load_is_what_was_written_last
        a_load_ends
        a_forgotten_node_is_unknown
        the_clock_never_goes_backward
        the_generation_changes_when_everything_was_lost
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

/// Away since `now`, due `grace` later.
fn away(now: i64, grace: i64) -> Exit {
    Exit::Away { now: at(now), due: Some(at(now + grace)) }
}

fn node(id: &str) -> NodeRef {
    NodeRef { node_id: NodeId::new(id).unwrap(), incarnation: Incarnation::random() }
}

fn session(client: &str, stamp: i64) -> SessionEntry {
    SessionEntry {
        session_id: SessionId::random(),
        node: node("node"),
        client_id: ClientId::new(client).unwrap(),
        stamp: at(stamp),
    }
}

fn card(id: &str, version: u64) -> RoomCard {
    RoomCard {
        room_id: room(id),
        version,
        state: RoomState::Active,
        membership: Membership::Durable,
        max_users: 7,
        log: LogPolicy::Durable,
        on_log_failure: OnLogFailure::Refuse,
    }
}

/// Whether the user is (online, absent).
async fn whereabouts(presence: &dyn Presence, id: &RoomId, who: &UserId) -> (bool, bool) {
    let occupancy = presence.occupancy(id).await.unwrap();
    let is_online = occupancy.online.iter().any(|(user, _)| user == who);
    (is_online, occupancy.absent.iter().any(|(user, _)| user == who))
}

const ONLINE: (bool, bool) = (true, false);
const ABSENT: (bool, bool) = (false, true);
const UNKNOWN: (bool, bool) = (false, false);
