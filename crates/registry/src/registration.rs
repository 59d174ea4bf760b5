//! What a process says of itself under `/services/{role}/{id}`.

use std::fmt;

use roomcast_types::{Incarnation, ServiceId};
use serde::{Deserialize, Serialize};

/// The three kinds of process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Holds sessions.
    ConnectNode,
    /// Takes pushes.
    PushManager,
    /// Keeps rooms.
    ControllerManager,
}

impl Role {
    /// The word in keys, for example `connect-node`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ConnectNode => "connect-node",
            Self::PushManager => "push-manager",
            Self::ControllerManager => "controller-manager",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where a process is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Serves its peers, not yet its users.
    Starting,
    /// Serves.
    Ready,
    /// Is being emptied: no new sessions.
    Draining,
}

impl State {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Draining => "draining",
        }
    }
}

/// One registration; the value under its key, as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// In the key only.
    #[serde(skip, default = "unknown_role")]
    pub role: Role,
    /// The process's id.
    pub id: ServiceId,
    /// host:port of its gRPC interface.
    pub grpc_address: String,
    /// A node's public ws:// address of /ws; empty for other roles.
    pub url: String,
    /// Which life of the process.
    pub incarnation: Incarnation,
    /// Where it is in its life.
    pub state: State,
}

fn unknown_role() -> Role {
    Role::ConnectNode
}

impl Registration {
    /// `/services/{role}/{id}`.
    pub fn key(&self) -> String {
        format!("/services/{}/{}", self.role, self.id)
    }
}
