//! A process's own registration: takes its key, keeps it, repairs it, gives it back.

mod claim;
mod keeper;

use std::{sync::Arc, time::Duration};

use roomcast_types::ServiceId;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::task::AbortOnDropHandle;

use self::{
    claim::Claimant,
    keeper::{Hold, Keeper},
};
use crate::{Error, Registration, Registry, Result, Role, State};

/// A registration that is kept alive. Dropping it is like a crash: the task ends, the key stays until its lease runs
/// out. [`Member::leave`] gives the key back.
#[derive(Debug)]
pub struct Member {
    role: Role,
    id: ServiceId,
    state: watch::Sender<State>,
    leave: mpsc::Sender<oneshot::Sender<()>>,
    hold: watch::Receiver<Hold>,
    _keeper: AbortOnDropHandle<()>,
}

impl Member {
    /// Registers under a lease of `ttl` and starts to keep it. A key that another incarnation holds is taken over when
    /// its address is ours or refuses connections; otherwise [`Error::Held`] names the holder. `Unavailable` when the
    /// registry does not answer: the caller decides whether to try again.
    ///
    /// The task that keeps it never gives up: without the registry it tries again and again, and a key that vanished
    /// is written anew, with the same incarnation.
    pub async fn join(
        registry: Arc<dyn Registry>,
        registration: Registration,
        ttl: Duration,
    ) -> Result<Self> {
        let (role, id) = (registration.role, registration.id.clone());
        let (state, state_wanted) = watch::channel(registration.state);
        let (hold_found, hold) = watch::channel(Hold::Ours);
        let (leave, leave_requests) = mpsc::channel(1);
        let mut claimant = Claimant::new(registry, registration, ttl);
        claimant.claim_first().await?;
        let keeper = Keeper::new(claimant, state_wanted, hold_found);
        Ok(Self {
            role,
            id,
            state,
            leave,
            hold,
            _keeper: AbortOnDropHandle::new(tokio::spawn(keeper.run(leave_requests))),
        })
    }

    /// The role registered under.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The id registered under.
    pub fn id(&self) -> &ServiceId {
        &self.id
    }

    /// Says where the process is in its life: written at once, or as soon as the registry answers, and kept through
    /// re-registrations. Of several calls the last one counts.
    pub fn set_state(&self, state: State) {
        self.state.send_replace(state);
    }

    /// Removes the key, revokes the lease and ends the task. When the registry does not answer the lease runs out
    /// instead; takes at most some seconds. A second call returns at once.
    pub async fn leave(&self) {
        let (done, left) = oneshot::channel();
        if self.leave.send(done).await.is_ok() {
            // An error means that the task is being dropped with its runtime.
            let _ = left.await;
        }
    }

    /// Waits until another live process holds the key; returns the [`Error::Held`] to exit with, which names it. The
    /// task goes on trying to take the key back meanwhile. `Unavailable` when that task came to an end, which only a
    /// panic or the end of its runtime can do. Never returns while the key is ours or free, or after [`Self::leave`].
    pub async fn lost(&self) -> Error {
        let mut hold = self.hold.clone();
        let found = hold.wait_for(|hold| *hold != Hold::Ours).await.map(|hold| hold.clone());
        match found {
            Ok(Hold::Theirs(holder)) => Error::Held { holder },
            // Nobody can take what is given back.
            Ok(Hold::Ours | Hold::GivenBack) => std::future::pending().await,
            Err(_) => {
                let context = format!("nothing keeps the registration of {} {} any more", self.role, self.id);
                Error::Unavailable { context, source: None }
            }
        }
    }
}
