//! Why a connect-node did not start.

use std::io;

use roomcast_runtime::{BindError, Causes};
use roomcast_types::{Fault, InvalidId};

/// One line each, with what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `connect_node.id` is not an id.
    #[error("connect_node.id: {0}")]
    Id(#[from] InvalidId),
    /// A port is not to be had.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The section `etcd` of the configuration names no registry that can be used.
    #[error("{}", Causes(.0))]
    Open(#[from] roomcast_registry::OpenError),
    /// The registry refused, or does not answer.
    #[error("cannot register: {}", Causes(.0))]
    Registry(#[from] roomcast_registry::Error),
    /// The system gave no thread for a shard.
    #[error("cannot start shard {shard}: {source}")]
    Shard {
        /// Which.
        shard: usize,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// As a peer would see it: the one table from errors of this crate to codes.
    pub fn fault(&self) -> Fault {
        use roomcast_types::Code;
        let code = match self {
            Self::Id(_) | Self::Open(_) => Code::BadRequest,
            Self::Bind(_) => Code::Unavailable,
            Self::Registry(roomcast_registry::Error::Held { .. }) => Code::AlreadyExists,
            Self::Registry(_) => Code::Unavailable,
            Self::Shard { .. } => Code::Internal,
        };
        Fault::new(code, self.to_string())
    }
}
