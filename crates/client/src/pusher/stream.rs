//! Many pushes over one call: none waits for the answer to another.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use roomcast_proto::pubsub::{
    PushReply, PushStreamReply, PushStreamRequest, push_stream_reply::Result as Answer,
    push_stream_request::Push as Asked,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status, Streaming};

use super::{PushOptions, Pusher, client, request};
use crate::{content::Content, error::Error, rpc::Failure};

/// Pushes that may wait to be written to the connection; whoever makes a further one waits.
const WAITING_MAX: usize = 1_024;
const ENDED: &str = "the stream of pushes has ended";

/// Pushes over one call, thousands of them at once. Those to one room, to one user, or to everybody go out in the order in
/// which they were made. Clones share the call, which ends when the last is dropped.
///
/// Nothing is tried again. When the push-manager stops, what it did not accept gets [`Error::Rejected`] with UNAVAILABLE;
/// when the connection breaks, what is unanswered gets [`Error::Interrupted`]. Then a new stream has to be opened.
#[derive(Clone)]
pub struct PushStream {
    requests: mpsc::Sender<PushStreamRequest>,
    waiting: Arc<Waiting>,
    deadline: Duration,
}

/// Pushes without an answer.
struct Waiting {
    table: Mutex<Table>,
    address: String,
    deadline: Duration,
}

#[derive(Default)]
struct Table {
    next: u64,
    /// Receiver: the push, if its caller still waits.
    answers: HashMap<u64, oneshot::Sender<Result<PushReply, Error>>>,
    /// Why no further pushes are taken.
    end: Option<Status>,
}

impl Pusher {
    /// Opens a stream of pushes to the push-manager that answered last, or to the next one that can be reached. Must be
    /// called on a tokio runtime.
    pub async fn stream(&self) -> Result<PushStream, Error> {
        let open = |channel, _| async move {
            let (requests, stream) = mpsc::channel(WAITING_MAX);
            let replies = client(channel).push_stream(ReceiverStream::new(stream)).await?;
            Ok(Response::new((requests, replies.into_inner())))
        };
        let (requests, replies) = self.servers.call((), &self.question(), open).await?;
        let (address, deadline) = (self.servers.preferred().to_owned(), self.deadline);
        let waiting = Arc::new(Waiting { table: Mutex::default(), address, deadline });
        tokio::spawn(answer(replies, waiting.clone()));
        Ok(PushStream { requests, waiting, deadline })
    }
}

impl PushStream {
    /// To every session in a room.
    pub async fn push_to_room(
        &self,
        room_id: &str,
        content: Content,
        options: &PushOptions,
    ) -> Result<PushReply, Error> {
        self.push(Asked::ToRoom(request::to_room(room_id, content, options)?), options).await
    }

    /// To every session of a user. A user without a session is a success that counts OFFLINE.
    pub async fn push_to_user(
        &self,
        user_id: &str,
        content: Content,
        options: &PushOptions,
    ) -> Result<PushReply, Error> {
        self.push(Asked::ToUser(request::to_user(user_id, content, options)?), options).await
    }

    /// To every session of up to 1,000 users.
    pub async fn push_to_users<U: AsRef<str>>(
        &self,
        user_ids: impl IntoIterator<Item = U>,
        content: Content,
        options: &PushOptions,
    ) -> Result<PushReply, Error> {
        self.push(Asked::ToUsers(request::to_users(user_ids, content, options)?), options).await
    }

    /// To every session on every node.
    pub async fn broadcast(&self, content: Content, options: &PushOptions) -> Result<PushReply, Error> {
        self.push(Asked::Broadcast(request::to_all(content, options)), options).await
    }

    async fn push(&self, push: Asked, options: &PushOptions) -> Result<PushReply, Error> {
        let deadline = options.deadline.unwrap_or(self.deadline);
        let pushing = async {
            let (request, answered) = self.waiting.add()?;
            if self.requests.send(PushStreamRequest { request, push: Some(push) }).await.is_err() {
                self.waiting.lock().answers.remove(&request);
                return Err(self.waiting.not_sent(ENDED));
            }
            answered.await.unwrap_or(Err(Error::Closed))
        };
        timeout(deadline, pushing).await.unwrap_or(Err(Error::Deadline { after: deadline }))
    }
}

impl Waiting {
    fn add(&self) -> Result<(u64, oneshot::Receiver<Result<PushReply, Error>>), Error> {
        let mut table = self.lock();
        if let Some(end) = &table.end {
            return Err(self.not_sent(end.message()));
        }
        let (answer, answered) = oneshot::channel();
        table.next += 1;
        let request = table.next;
        table.answers.insert(request, answer);
        Ok((request, answered))
    }

    fn answered(&self, reply: PushStreamReply) {
        let Some(waiting) = self.lock().answers.remove(&reply.request) else { return };
        // One that waits no more needs no answer.
        let _ = waiting.send(match reply.result {
            Some(Answer::Reply(reply)) => Ok(reply),
            Some(Answer::Error(refusal)) => Err(Error::Rejected(refusal.into())),
            None => Err(self.error(Failure::Broken(Status::internal("an answer without a result")))),
        });
    }

    /// No further answers come: because of an error of the call, or without one.
    fn end(&self, status: Option<Status>) {
        let failure = || match &status {
            Some(status) => Failure::from(status.clone()),
            None => Failure::Broken(Status::unavailable(ENDED)),
        };
        let mut table = self.lock();
        for (_, waiting) in table.answers.drain() {
            // As above.
            let _ = waiting.send(Err(self.error(failure())));
        }
        table.end = Some(status.unwrap_or_else(|| Status::unavailable(ENDED)));
    }

    fn not_sent(&self, why: &str) -> Error {
        self.error(Failure::NotSent(Status::unavailable(why)))
    }

    fn error(&self, failure: Failure) -> Error {
        failure.into_error(&self.address, self.deadline)
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Hands the answers on until the call ends.
async fn answer(mut replies: Streaming<PushStreamReply>, waiting: Arc<Waiting>) {
    let end = loop {
        match replies.message().await {
            Ok(Some(reply)) => waiting.answered(reply),
            Ok(None) => break None,
            Err(status) => break Some(status),
        }
    };
    waiting.end(end);
}
