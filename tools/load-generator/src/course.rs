//! What a scenario comes down to: rooms, sessions, who gets the pushes, and how many of them there are.

use std::{net::Ipv4Addr, time::Duration};

use anyhow::{Context, Result, bail};
use futures_util::{StreamExt, TryStreamExt, stream};
use roomcast_client::Controller;
use roomcast_proto::pubsub::{CreateRoomRequest, DeleteRoomRequest};

use crate::{
    args::{Common, Load, Mixed, Scenario, Way},
    schedule::Target,
    session::{Plan, Reading},
    target::Node,
};

/// Most pushes of a run: what their counters may take of memory.
pub const PUSHES_MAX: u32 = 1_000_000;
/// Rooms that are created or deleted at the same time.
const ROOMS_AT_ONCE: usize = 16;
/// Until nothing of the opening is under way any more.
const SETTLES_WITHIN: Duration = Duration::from_secs(2);

/// What a scenario comes down to.
pub struct Course {
    pub name: &'static str,
    pub load: Load,
    pub target: Target,
    /// Sessions that count; slow ones come on top.
    pub sessions: u32,
    /// 0: the sessions are in no room.
    pub rooms: u32,
    pub joins_later: bool,
    pub slow: u32,
    /// How these read.
    pub slow_reading: Reading,
    /// Between the last session's opening and the first push.
    pub hold: Duration,
    /// How long nothing is pushed, looked at as pushes are otherwise.
    pub quiet: Duration,
    /// How many sessions get each push.
    pub receivers: u32,
    pushes: Option<u32>,
    user_prefix: String,
    room_prefix: String,
}

impl Course {
    /// As a scenario says.
    pub fn new(scenario: &Scenario, sessions: u32, run: u32) -> Self {
        let in_rooms = |name, rooms, load: &Load| Self::in_rooms(name, sessions, rooms, load, run);
        let seconds = |seconds: u32| Duration::from_secs(u64::from(seconds));
        match scenario {
            Scenario::Room { load, rooms } => in_rooms("room", rooms.rooms, load),
            Scenario::Join { rooms } => {
                Self { joins_later: true, ..in_rooms("join", rooms.rooms, &once(rooms.rooms)) }
            }
            Scenario::User(load) => {
                let course = in_rooms("user", 0, load);
                let target = Target::Users { prefix: course.user_prefix.clone(), count: sessions };
                Self { target, receivers: 1, ..course }
            }
            Scenario::Broadcast(load) => Self { target: Target::All, ..in_rooms("broadcast", 0, load) },
            Scenario::Connect { hold, rooms } => {
                Self { hold: seconds(*hold), ..in_rooms("connect", rooms.rooms, &once(rooms.rooms)) }
            }
            Scenario::Idle { seconds: quiet, rooms } => {
                let (hold, quiet) = (SETTLES_WITHIN, seconds(*quiet));
                Self { hold, quiet, pushes: Some(0), ..in_rooms("idle", rooms.rooms, &once(0)) }
            }
            Scenario::Slow { load, readers } => {
                let slow_reading = match readers.read_rate {
                    0 => Reading::Stopped,
                    bytes_a_second => Reading::Slow(bytes_a_second),
                };
                Self { slow: readers.count(sessions), slow_reading, ..in_rooms("slow", 1, load) }
            }
        }
    }

    /// One of the two rooms of a mixed run.
    pub fn of_mixed(mixed: &Mixed, name: &'static str, sessions: u32, rate: u32, run: u32) -> Self {
        let (seconds, bytes, way) = (mixed.seconds, mixed.bytes, mixed.way);
        Self::in_rooms(name, sessions, 1, &Load { seconds, bytes, way, ..once(rate) }, run)
    }

    /// Rooms 0: no rooms, and nothing is pushed to them.
    fn in_rooms(name: &'static str, sessions: u32, rooms: u32, load: &Load, run: u32) -> Self {
        let room_prefix = format!("load-{run:08x}-room-");
        Self {
            name,
            load: load.clone(),
            target: Target::Rooms { prefix: room_prefix.clone(), count: rooms },
            sessions,
            rooms,
            joins_later: false,
            slow: 0,
            slow_reading: Reading::Stopped,
            hold: Duration::ZERO,
            quiet: Duration::ZERO,
            receivers: sessions / rooms.max(1),
            pushes: None,
            user_prefix: format!("load-{run:08x}-"),
            room_prefix,
        }
    }

    /// Whether it can be run.
    pub fn check(&self) -> Result<()> {
        let pushes = self.load.rate.saturating_mul(self.load.seconds);
        if pushes > PUSHES_MAX && self.load.window.is_none() {
            bail!("{pushes} pushes are too many for one run; at most {PUSHES_MAX} are allowed");
        }
        if self.rooms > 0 && self.receivers * self.rooms != self.sessions {
            bail!("{} sessions do not come out even in {} rooms", self.sessions, self.rooms);
        }
        Ok(())
    }

    /// Pushes at most: a closed loop ends by time.
    pub fn pushes_max(&self) -> u32 {
        let by_load = match self.load.window {
            Some(_) => PUSHES_MAX,
            None => self.load.rate * self.load.seconds,
        };
        self.pushes.unwrap_or(by_load)
    }

    /// Its sessions, the slow ones last; slow readers are in the last room.
    pub fn plans(&self, common: &Common, nodes: &[Node]) -> Vec<Plan> {
        let plan = |number: u32| Plan {
            node: nodes[number as usize % nodes.len()].clone(),
            source: Ipv4Addr::new(127, 0, 0, 1 + (number % u32::from(common.source_addresses)) as u8),
            user_id: format!("{}{number}", self.user_prefix),
            room_id: self.room_of(number),
            joins_later: self.joins_later,
            reading: if number < self.sessions { Reading::Counted } else { self.slow_reading },
        };
        (0..self.sessions + self.slow).map(plan).collect()
    }

    /// Creates its rooms, with a seat for everybody.
    pub async fn create_rooms(&self, controller: &Controller) -> Result<()> {
        let max_users = Some(self.receivers + self.slow);
        let create = |room_id| {
            let request =
                CreateRoomRequest { room_id, max_users, membership: 0, ..CreateRoomRequest::default() };
            controller.create_room(request)
        };
        let mut created = stream::iter(self.room_ids()).map(create).buffer_unordered(ROOMS_AT_ONCE);
        while created.try_next().await.context("a room of the run cannot be created")?.is_some() {}
        Ok(())
    }

    /// Deletes them.
    pub async fn delete_rooms(&self, controller: &Controller) -> Result<()> {
        let delete = |room_id| controller.delete_room(DeleteRoomRequest { room_id });
        let mut deleted = stream::iter(self.room_ids()).map(delete).buffer_unordered(ROOMS_AT_ONCE);
        while deleted.try_next().await.context("a room of the run cannot be deleted")?.is_some() {}
        Ok(())
    }

    fn room_ids(&self) -> impl Iterator<Item = String> {
        (0..self.rooms).map(|number| format!("{}{number}", self.room_prefix))
    }

    /// Sessions that follow each other share a room, so that every room is spread over the nodes.
    fn room_of(&self, session: u32) -> Option<String> {
        let number = (session / self.receivers).min(self.rooms.checked_sub(1)?);
        Some(format!("{}{number}", self.room_prefix))
    }
}

/// So many pushes within a second.
fn once(rate: u32) -> Load {
    Load { rate, window: None, way: Way::default(), seconds: 1, bytes: 128, late: 1_000, ack: false }
}
