//! Why a controller does not start, and the one table from store errors to faults.

use std::time::Duration;

use roomcast_runtime::{BindError, Causes};
use roomcast_store::{Error as StoreError, ErrorKind};
use roomcast_types::{Code, Fault, InvalidId};

/// When to try again what a store could not answer: long enough for a fail-over to make progress, and drawn anew each
/// time, so that those who were refused together do not come back together.
pub(crate) fn retry_after() -> Duration {
    Duration::from_millis(rand::random_range(500..1_500))
}

/// Why a controller could not start; one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A port could not be taken.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The id of the configuration cannot be registered.
    #[error("server.id: {0}")]
    Id(#[from] InvalidId),
    /// A store answers, and with something that a retry does not mend.
    #[error("{what}: {}", Causes(source))]
    Store {
        /// Which, and where.
        what: String,
        /// Why.
        #[source]
        source: StoreError,
    },
    /// The section `etcd` of the configuration names no registry that can be used.
    #[error("{}", Causes(.0))]
    Open(#[from] roomcast_registry::OpenError),
    /// The registry refused or did not answer.
    #[error("cannot register: {}", Causes(.0))]
    Registry(#[from] roomcast_registry::Error),
}

/// What a peer sees of a store's error. What the backend itself said stays in the log.
pub(crate) fn fault(error: &StoreError) -> Fault {
    match error.kind() {
        ErrorKind::NoSuchRoom => Fault::new(Code::NotFound, error.to_string()),
        ErrorKind::RoomDeleted => Fault::new(Code::RoomDeleted, error.to_string()),
        ErrorKind::RoomExists => Fault::new(Code::AlreadyExists, error.to_string()),
        ErrorKind::Unavailable => {
            Fault::unavailable(format!("{} does not answer; try again", store_of(error)), retry_after())
        }
        ErrorKind::Failed => {
            tracing::error!(error = %Causes(error), "a store failed");
            Fault::new(Code::Internal, "the store failed; the controller's log says how")
        }
    }
}

/// The store that does not answer, by what it is for: which server that is, and where, stays in the log.
fn store_of(error: &StoreError) -> &'static str {
    match error {
        StoreError::Unavailable { backend: "redis" | "memory" | "presence", .. } => {
            "the shared memory of who is where"
        }
        _ => "the record of rooms and seats",
    }
}

#[cfg(test)]
mod tests {
    use roomcast_store::{MemoryPresence, Presence, Rooms, SqliteRooms};
    use roomcast_types::RoomId;

    use super::*;

    #[tokio::test]
    async fn who_is_refused_learns_which_store_does_not_answer_and_not_where_it_is() {
        let room = RoomId::new("room").unwrap();
        let (rooms, presence) = (SqliteRooms::ephemeral().await.unwrap(), MemoryPresence::default());
        rooms.set_available(false);
        presence.set_available(false);
        let record = fault(&rooms.room(&room).await.unwrap_err());
        assert_eq!(record.message, "the record of rooms and seats does not answer; try again");
        let presence = fault(&presence.occupancy(&room).await.unwrap_err());
        assert_eq!(presence.message, "the shared memory of who is where does not answer; try again");
    }
}
