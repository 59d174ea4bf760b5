//! What can go wrong with registrations.

use crate::registration::Registration;

/// Outcome of a registry operation.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of the registry.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The lease ended or was revoked: grant another one and register again.
    #[error("the lease ended")]
    LeaseLost,
    /// The key is held by another live process.
    #[error("{role} {id} is already registered by {address} (incarnation {incarnation}), which accepts connections; stop it or choose another id",
        role = holder.role, id = holder.id, address = holder.grpc_address, incarnation = holder.incarnation)]
    Held {
        /// Who holds it.
        holder: Box<Registration>,
    },
    /// The backend does not answer; the same call may succeed later.
    #[error("the registry is not available: {context}")]
    Unavailable {
        /// What was being done.
        context: String,
        /// The driver's error.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// The backend refuses who we say we are: until somebody changes the login, or the backend's users, so does the
    /// next call.
    #[error("the registry refuses the login: {context}; check etcd.user and etcd.password (ETCD_PASSWORD)")]
    Denied {
        /// What was being done, and the backend's words.
        context: String,
    },
}

impl Error {
    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::LeaseLost | Self::Unavailable { .. })
    }
}
