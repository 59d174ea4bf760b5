//! The sections of `config.yaml` as types, except those of the stores. What each key means, its unit and default stand in that file.

#![allow(missing_docs, reason = "config.yaml documents every key once")]

use std::{net::IpAddr, time::Duration};

use roomcast_types::{LogPolicy, SessionPolicy};
use serde::{Deserialize, Serialize};

use super::{
    stores::{Database, Etcd, Redis},
    units::{ByteCount, duration},
};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub network: Network,
    pub database: Database,
    pub redis: Redis,
    pub etcd: Etcd,
    pub server: Server,
    pub room: Room,
    pub push_manager: PushManager,
    pub connect_node: ConnectNode,
    pub limits: Limits,
    pub log: Log,
    pub telemetry: Telemetry,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    pub bind: IpAddr,
    pub allow_insecure: bool,
    pub advertise_host: String,
}

impl Network {
    /// The host that others reach this process by, as it stands in an address: IPv6 in brackets.
    pub fn advertised(&self) -> String {
        match (self.advertise_host.is_empty(), self.bind) {
            (false, _) => self.advertise_host.clone(),
            (true, IpAddr::V6(ip)) => format!("[{ip}]"),
            (true, IpAddr::V4(ip)) => ip.to_string(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    pub id: String,
    pub port: u16,
    pub metrics_port: u16,
    pub session_policy: SessionPolicy,
    pub join_batch_max: usize,
    pub drain: CallDrain,
}

/// How a service that answers calls ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CallDrain {
    #[serde(with = "duration")]
    pub accept_grace: Duration,
    #[serde(with = "duration")]
    pub settle_wait: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Room {
    pub default_max_users: u32,
    pub auto_create: bool,
    #[serde(with = "duration")]
    pub rejoin_grace: Duration,
    #[serde(with = "duration")]
    pub empty_ttl: Duration,
    #[serde(with = "duration")]
    pub deleted_ttl: Duration,
    #[serde(with = "duration")]
    pub cache_ttl: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PushManager {
    pub id: String,
    pub port: u16,
    pub metrics_port: u16,
    pub controller_address: Vec<String>,
    #[serde(with = "duration")]
    pub lane_deadline: Duration,
    pub lane_queue_messages: usize,
    pub lane_queue_bytes: ByteCount,
    #[serde(with = "duration")]
    pub lane_ping_interval: Duration,
    #[serde(with = "duration")]
    pub lane_trust: Duration,
    #[serde(with = "duration")]
    pub wait: Duration,
    #[serde(with = "duration")]
    pub receipt_ttl: Duration,
    pub receipt_bytes: ByteCount,
    pub drain: CallDrain,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConnectNode {
    pub id: String,
    pub grpc_port: u16,
    pub http_port: u16,
    pub metrics_port: u16,
    pub public_ws_url: String,
    pub controller_address: Vec<String>,
    pub shards: usize,
    pub sessions_max: usize,
    pub handshakes_max: usize,
    #[serde(with = "duration")]
    pub handshake_timeout: Duration,
    #[serde(with = "duration")]
    pub ping_interval: Duration,
    #[serde(with = "duration")]
    pub pong_timeout: Duration,
    pub frame_bytes_max: ByteCount,
    pub rooms_max: usize,
    pub frames_per_second: u32,
    pub frames_burst: u32,
    pub bad_frames_per_minute: u32,
    pub queue_bytes: ByteCount,
    pub queue_frames: usize,
    pub queue_bytes_total: ByteCount,
    #[serde(with = "duration")]
    pub stall_timeout: Duration,
    #[serde(with = "duration")]
    pub room_linger: Duration,
    #[serde(with = "duration")]
    pub controller_timeout: Duration,
    #[serde(with = "duration")]
    pub lane_wait: Duration,
    pub catch_up_messages: u32,
    pub catch_up_bytes: ByteCount,
    pub drain: SessionDrain,
}

/// How a node is emptied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionDrain {
    #[serde(with = "duration")]
    pub accept_grace: Duration,
    pub notices_per_second: u32,
    #[serde(with = "duration")]
    pub leave_wait: Duration,
    #[serde(with = "duration")]
    pub flush_wait: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    pub push_bytes_max: ByteCount,
    pub body_bytes_max: ByteCount,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    pub level: String,
    pub format: LogFormat,
    pub room: LogPolicy,
    pub user: UserLog,
    pub recent_messages: u32,
    #[serde(with = "duration")]
    pub recent_age: Duration,
    pub recent_bytes: ByteCount,
    pub durable_messages: u32,
    #[serde(with = "duration")]
    pub durable_age: Duration,
    pub inbox_messages: u32,
    #[serde(with = "duration")]
    pub inbox_age: Duration,
    #[serde(with = "duration")]
    pub idempotency_ttl: Duration,
}

/// What is kept of the messages to single users.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UserLog {
    Recent,
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Telemetry {
    pub otlp_endpoint: String,
    pub otlp_protocol: OtlpProtocol,
    pub sample_ratio: f64,
    #[serde(with = "duration")]
    pub slow_push: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OtlpProtocol {
    Auto,
    Grpc,
    Http,
}
