//! From a watch of etcd to hints.

use etcd_client::{Client, Error, WatchOptions, WatchResponse, WatchStream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::{Hint, Role};

/// One hint that waits serves for all that come after it.
const HINTS_WAITING_MAX: usize = 1;

/// Watches keys; returns when the server watches.
pub(super) async fn begin(mut client: Client, prefix: &str) -> Result<WatchStream, Error> {
    let options = WatchOptions::new().with_prefix();
    let mut answers = client.watch(prefix, Some(options)).await?;
    match answers.message().await? {
        Some(answer) if !answer.canceled() => Ok(answers),
        // etcd has one answer for a token that it does not know and for a user who may not read.
        Some(answer) => Err(Error::GRpcStatus(tonic::Status::unauthenticated(answer.cancel_reason()))),
        None => Err(Error::WatchError("the server ended it at once".to_owned())),
    }
}

/// Passes events on as hints. The stream ends when the server cancels the watch, as it does when it has compacted what
/// it was about to send, and when the connection breaks. The task ends with the stream, and when that is dropped.
pub(super) fn hints(role: Role, mut answers: WatchStream) -> ReceiverStream<Hint> {
    let (sender, receiver) = mpsc::channel(HINTS_WAITING_MAX);
    tokio::spawn(async move {
        loop {
            let answer = tokio::select! {
                () = sender.closed() => return,
                answer = answers.message() => answer,
            };
            match answer {
                Ok(Some(answer)) if !answer.canceled() => {
                    if !answer.events().is_empty() {
                        // Full: the hint that waits there serves for this one.
                        let _ = sender.try_send(Hint);
                    }
                }
                ended => {
                    let reason = reason(ended);
                    tracing::debug!(%role, reason, "the watch ended");
                    return;
                }
            }
        }
    });
    ReceiverStream::new(receiver)
}

fn reason(ended: Result<Option<WatchResponse>, Error>) -> String {
    match ended {
        Ok(Some(answer)) if answer.compact_revision() > 0 => {
            format!("compacted up to revision {}", answer.compact_revision())
        }
        Ok(Some(answer)) => answer.cancel_reason().to_owned(),
        Ok(None) => "the server ended it".to_owned(),
        Err(error) => error.to_string(),
    }
}
