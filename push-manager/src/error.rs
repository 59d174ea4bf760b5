//! Why a push-manager did not start.

use roomcast_runtime::{BindError, Causes};
use roomcast_types::InvalidId;

/// One line each, with what to do where that is known.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A port is taken, or the address is not ours.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// `push_manager.id` is not an id.
    #[error("push_manager.id: {0}")]
    Id(#[from] InvalidId),
    /// The section `etcd` of the configuration names no registry that can be used.
    #[error("{}", Causes(.0))]
    Open(#[from] roomcast_registry::OpenError),
    /// The sections `database` and `redis` name no stores that can be used.
    #[error("{}", Causes(.0))]
    Logs(#[from] roomcast_store::Error),
    /// The registry did not take the registration.
    #[error("cannot register: {}", Causes(.0))]
    Register(#[from] roomcast_registry::Error),
    /// The registry took the registration and then did not list the nodes.
    #[error("the registry does not list the nodes; without them pushes would miss their targets")]
    Unlisted,
}
