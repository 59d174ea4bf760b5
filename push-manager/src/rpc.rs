//! The gRPC interface: pushes of business servers, and changed rooms of controllers.

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt;
use roomcast_proto::{
    pubsub::{
        AckInboxReply, AckInboxRequest, AuditReply, AuditRequest, BroadcastRequest, ExplainRoomRequest,
        ExplainUserRequest, Explanation, GetHistoryReply, GetHistoryRequest, PushReply, PushStreamReply,
        PushStreamRequest, PushToRoomRequest, PushToUserRequest, PushToUsersRequest, ReadLogReply,
        ReadLogRequest, RoomChangedReply, RoomChangedRequest, TraceMessageRequest, WatchPushReply,
        WatchPushRequest, push_manager_service_server::PushManagerService,
    },
    status,
};
use roomcast_types::{Fault, RoomCard};
use tokio::{sync::mpsc, time::Instant};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming, codegen::BoxStream, metadata::MetadataMap};

use crate::{
    audit::Auditor,
    explain::{Explainer, Question},
    metrics::Kind,
    peers::is_passed_on,
    push::{Call, Push, Pusher, Watches},
};

/// Answers of a stream that wait for the connection.
const ANSWERS_WAITING: usize = 256;

/// The service.
#[derive(Clone)]
pub struct Rpc {
    pusher: Arc<Pusher>,
    watches: Arc<Watches>,
    auditor: Arc<Auditor>,
    explainer: Arc<Explainer>,
    push_bytes_max: usize,
}

impl Rpc {
    /// Serves pushes of up to `push_bytes_max` bytes.
    pub fn new(
        pusher: Arc<Pusher>,
        watches: Arc<Watches>,
        auditor: Arc<Auditor>,
        explainer: Arc<Explainer>,
        push_bytes_max: usize,
    ) -> Self {
        Self { pusher, watches, auditor, explainer, push_bytes_max }
    }

    async fn push(
        &self,
        push: Result<Push, Fault>,
        kind: Kind,
        call: Call,
    ) -> Result<Response<PushReply>, Status> {
        self.pusher.push(push, kind, call).await.map(Response::new).map_err(|fault| status(&fault))
    }
}

#[tonic::async_trait]
impl PushManagerService for Rpc {
    async fn push_to_room(&self, request: Request<PushToRoomRequest>) -> Result<Response<PushReply>, Status> {
        let call = call(request.metadata());
        let PushToRoomRequest { room_id, content, options } = request.into_inner();
        self.push(Push::to_room(&room_id, content, options, self.push_bytes_max), Kind::Room, call).await
    }

    async fn push_to_user(&self, request: Request<PushToUserRequest>) -> Result<Response<PushReply>, Status> {
        let call = call(request.metadata());
        let PushToUserRequest { user_id, content, options } = request.into_inner();
        self.push(Push::to_user(&user_id, content, options, self.push_bytes_max), Kind::Users, call).await
    }

    async fn push_to_users(
        &self,
        request: Request<PushToUsersRequest>,
    ) -> Result<Response<PushReply>, Status> {
        let call = call(request.metadata());
        let PushToUsersRequest { user_ids, content, options } = request.into_inner();
        self.push(Push::to_users(&user_ids, content, options, self.push_bytes_max), Kind::Users, call).await
    }

    async fn broadcast(&self, request: Request<BroadcastRequest>) -> Result<Response<PushReply>, Status> {
        let call = call(request.metadata());
        let BroadcastRequest { content, options } = request.into_inner();
        self.push(Push::to_all(content, options, self.push_bytes_max), Kind::All, call).await
    }

    async fn push_stream(
        &self,
        request: Request<Streaming<PushStreamRequest>>,
    ) -> Result<Response<BoxStream<PushStreamReply>>, Status> {
        let traceparent = call(request.metadata()).traceparent;
        let requests = request.into_inner();
        let (replies, answers) = mpsc::channel(ANSWERS_WAITING);
        let (pusher, bytes_max) = (self.pusher.clone(), self.push_bytes_max);
        // Apart from the call: what was taken is carried out though its caller goes, or reads no answers.
        tokio::spawn(async move {
            if pusher.push_stream(requests, &replies, &traceparent, bytes_max).await {
                let ends = Fault::unavailable(
                    "this push-manager stops; ask another one",
                    Duration::from_millis(500),
                );
                // Whoever is gone needs no word.
                let _ = replies.send(Err(status(&ends))).await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(answers))))
    }

    async fn watch_push(
        &self,
        request: Request<WatchPushRequest>,
    ) -> Result<Response<BoxStream<WatchPushReply>>, Status> {
        let is_passed_on = is_passed_on(request.metadata());
        let replies = self.watches.watch(request.into_inner(), is_passed_on).await;
        let replies = replies.map_err(|fault| status(&fault))?;
        Ok(Response::new(Box::pin(replies.map(|reply| reply.map_err(|fault| status(&fault))))))
    }

    async fn audit(&self, request: Request<AuditRequest>) -> Result<Response<AuditReply>, Status> {
        self.auditor.audit(request.get_ref()).await.map(Response::new).map_err(|fault| status(&fault))
    }

    async fn explain_user(
        &self,
        request: Request<ExplainUserRequest>,
    ) -> Result<Response<Explanation>, Status> {
        let ExplainUserRequest { user_id, message_id, room_id, last } = request.into_inner();
        let question = Question::user(&user_id, &room_id, &message_id, last);
        let question = question.map_err(|fault| status(&fault))?;
        Ok(Response::new(self.explainer.explain(question).await))
    }

    async fn explain_room(
        &self,
        request: Request<ExplainRoomRequest>,
    ) -> Result<Response<Explanation>, Status> {
        let ExplainRoomRequest { room_id, message_id, last } = request.into_inner();
        let question = Question::room(&room_id, &message_id, last).map_err(|fault| status(&fault))?;
        Ok(Response::new(self.explainer.explain(question).await))
    }

    async fn trace_message(
        &self,
        request: Request<TraceMessageRequest>,
    ) -> Result<Response<Explanation>, Status> {
        let is_passed_on = is_passed_on(request.metadata());
        let TraceMessageRequest { message_id, user_id } = request.into_inner();
        let explanation = match is_passed_on {
            true => self.explainer.own(&message_id, &user_id),
            false => self.explainer.trace(&message_id).await,
        };
        explanation.map(Response::new).map_err(|fault| status(&fault))
    }

    async fn get_history(
        &self,
        request: Request<GetHistoryRequest>,
    ) -> Result<Response<GetHistoryReply>, Status> {
        let page = self.pusher.history(request.into_inner()).await;
        page.map(Response::new).map_err(|fault| status(&fault))
    }

    async fn read_log(&self, request: Request<ReadLogRequest>) -> Result<Response<ReadLogReply>, Status> {
        let reply = self.pusher.read_log(request.into_inner()).await;
        reply.map(Response::new).map_err(|fault| status(&fault))
    }

    async fn ack_inbox(&self, request: Request<AckInboxRequest>) -> Result<Response<AckInboxReply>, Status> {
        let reply = self.pusher.ack_inbox(request.into_inner()).await;
        reply.map(Response::new).map_err(|fault| status(&fault))
    }

    async fn room_changed(
        &self,
        request: Request<RoomChangedRequest>,
    ) -> Result<Response<RoomChangedReply>, Status> {
        let card = request.into_inner().card.ok_or_else(|| status(&Fault::bad_request("card is missing")))?;
        let card = RoomCard::try_from(&card).map_err(|invalid| status(&invalid.into()))?;
        self.pusher.room_changed(&card);
        Ok(Response::new(RoomChangedReply {}))
    }
}

fn call(metadata: &MetadataMap) -> Call {
    let text = |key: &str| metadata.get(key).and_then(|value| value.to_str().ok());
    Call {
        traceparent: text("traceparent").unwrap_or_default().into(),
        deadline: text("grpc-timeout")
            .and_then(grpc_timeout)
            .and_then(|left| Instant::now().checked_add(left)),
    }
}

/// Reads `grpc-timeout`: up to eight digits and a unit (gRPC over HTTP/2, "Requests").
fn grpc_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let amount = digits.parse::<u64>().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(amount * 3600),
        "M" => Duration::from_secs(amount * 60),
        "S" => Duration::from_secs(amount),
        "m" => Duration::from_millis(amount),
        "u" => Duration::from_micros(amount),
        "n" => Duration::from_nanos(amount),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_reads_in_every_unit() {
        assert_eq!(grpc_timeout("1S"), Some(Duration::from_secs(1)));
        assert_eq!(grpc_timeout("250m"), Some(Duration::from_millis(250)));
        assert_eq!(grpc_timeout("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        for bad in ["", "S", "1", "1x", "-1S", "123456789S", "1é"] {
            assert_eq!(grpc_timeout(bad), None, "{bad}");
        }
    }
}
