//! What a way does to its connections at the moment.

use std::{sync::Arc, time::Duration};

use super::{Before, Direction};

/// What becomes of a new connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Admission {
    #[default]
    Pass,
    /// It is accepted and brings nothing.
    Silent,
    Reset,
}

/// One direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flow {
    pub delay: Duration,
    pub jitter: Duration,
    pub seed: u64,
    pub bytes_per_second: Option<u64>,
    pub is_held: bool,
    pub reset_after: Option<u64>,
}

/// Bytes that break the connection on which they go onward.
#[derive(Debug)]
pub struct Trap {
    pub bytes: Vec<u8>,
    pub before: Before,
}

/// Connections are numbered; what befell those that were there at a time befell all below a number.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    pub flows: [Flow; 2],
    pub admission: Admission,
    pub trap: Option<Arc<Trap>>,
    pub held_before: u64,
    pub closed_before: u64,
    pub reset_before: u64,
    pub half_closed_before: [u64; 2],
}

impl Settings {
    /// What was done stays done.
    pub fn without_faults(&self) -> Self {
        Self {
            closed_before: self.closed_before,
            reset_before: self.reset_before,
            half_closed_before: self.half_closed_before,
            ..Self::default()
        }
    }

    /// As it is for one connection.
    pub fn flow(&self, direction: Direction, number: u64) -> Flow {
        let flow = self.flows[direction as usize];
        Flow { is_held: flow.is_held || number < self.held_before, ..flow }
    }

    pub fn is_half_closed(&self, direction: Direction, number: u64) -> bool {
        number < self.half_closed_before[direction as usize]
    }
}

impl Flow {
    /// Nothing waits here.
    pub fn is_fast(&self) -> bool {
        self.delay.is_zero() && self.jitter.is_zero() && self.bytes_per_second.is_none()
    }
}
