//! The limits and times of sessions, from the node's configuration.

use std::{sync::Arc, time::Duration};

use roomcast_types::{InvalidId, NodeId};

use crate::{drain::Departures, failpoint::Failpoints};

/// What sessions are held to. See `config.yaml` for each.
#[derive(Debug, Clone)]
#[allow(missing_docs, reason = "each key is described in config.yaml")]
pub struct Config {
    pub node_id: NodeId,
    pub sessions_max: usize,
    pub handshakes_max: usize,
    pub handshake_timeout: Duration,
    pub ping_interval: Duration,
    pub pong_timeout: Duration,
    pub frame_bytes_max: usize,
    pub rooms_max: usize,
    pub frames_per_second: u32,
    pub frames_burst: u32,
    pub bad_frames_per_minute: u32,
    pub queue_bytes: usize,
    pub queue_frames: usize,
    pub queue_bytes_total: usize,
    pub stall_timeout: Duration,
    pub flush_wait: Duration,
    pub departures: Arc<Departures>,
    pub failpoints: Failpoints,
}

impl Config {
    /// Takes what concerns sessions; fails only for a node id that validation of the configuration refuses too.
    pub fn new(config: &roomcast_runtime::Config) -> Result<Self, InvalidId> {
        let node = &config.connect_node;
        Ok(Self {
            node_id: NodeId::new(&node.id)?,
            sessions_max: node.sessions_max,
            handshakes_max: node.handshakes_max,
            handshake_timeout: node.handshake_timeout,
            ping_interval: node.ping_interval,
            pong_timeout: node.pong_timeout,
            frame_bytes_max: node.frame_bytes_max.as_usize(),
            rooms_max: node.rooms_max,
            frames_per_second: node.frames_per_second,
            frames_burst: node.frames_burst,
            bad_frames_per_minute: node.bad_frames_per_minute,
            queue_bytes: node.queue_bytes.as_usize(),
            queue_frames: node.queue_frames,
            queue_bytes_total: node.queue_bytes_total.as_usize(),
            stall_timeout: node.stall_timeout,
            flush_wait: node.drain.flush_wait,
            departures: Arc::default(),
            failpoints: Failpoints::default(),
        })
    }

    /// How long a peer may leave written bytes unacknowledged before the kernel gives the connection up.
    pub(crate) fn user_timeout(&self) -> Duration {
        self.ping_interval + self.pong_timeout
    }
}
