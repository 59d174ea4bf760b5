//! Logging in with user and password: before the first call, and again when a token is no longer taken.

use etcd_client::{Client, Error};
use roomcast_runtime::config::Secret;
use tokio::sync::Mutex;
use tonic::Code;

/// User, password, and how often they were used.
pub(super) struct Login {
    user: String,
    password: Secret,
    /// Logins so far; locked while one is under way, so that calls that come together log in once.
    count: Mutex<u64>,
}

impl Login {
    pub(super) fn new(user: &str, password: &Secret) -> Self {
        Self { user: user.to_owned(), password: password.clone(), count: Mutex::new(0) }
    }

    /// Logs in, unless another call did since the `refused`th login; which login is in force. A server without
    /// authentication needs none.
    async fn renew(&self, client: &Client, refused: u64) -> Result<u64, Error> {
        let mut count = self.count.lock().await;
        if *count == refused {
            let user = (self.user.clone(), self.password.expose().to_owned());
            match client.clone().update_user(Some(user)).await {
                Err(Error::GRpcStatus(status)) if status.code() == Code::FailedPrecondition => {}
                answer => answer?,
            }
            *count += 1;
        }
        Ok(*count)
    }

    /// Makes a call; one whose token is refused is made once more after a new login.
    pub(super) async fn call<T, F>(&self, client: &Client, call: &impl Fn(Client) -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let login = self.renew(client, 0).await?;
        match call(client.clone()).await {
            Err(Error::GRpcStatus(status)) if is_refused(&status) => {
                self.renew(client, login).await?;
                call(client.clone()).await
            }
            answer => answer,
        }
    }
}

/// A token that ran out or went with a restart of the server, one from before users were changed, none where one is
/// needed by now.
fn is_refused(status: &tonic::Status) -> bool {
    const MESSAGES: [&str; 3] = ["invalid auth token", "revision of auth store is old", "user name is empty"];
    status.code() == Code::Unauthenticated
        || MESSAGES.iter().any(|message| status.message().contains(message))
}
