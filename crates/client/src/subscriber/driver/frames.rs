//! What the driver does with the frames of its sessions.

use std::time::Duration;

use roomcast_types::Code;
use tokio::time::Instant;

use super::Driver;
use crate::subscriber::{
    ack::Duty,
    event::{Event, GapCause, Push},
    frame::{ErrorFrame, GapFrame, NoticeFrame, PushFrame, ServerFrame, position},
    position::{Log, Verdict},
    rooms::fault,
    socket::Incoming,
};

impl Driver {
    pub(super) async fn on_current(&mut self, incoming: Incoming) -> Option<Event> {
        let frame = match incoming {
            Incoming::Frame(frame) => frame,
            Incoming::Sign => return None,
            Incoming::Ended(ended) => return self.on_lost(ended),
        };
        let end = match frame {
            ServerFrame::Push(push) => {
                self.on_push(self.current.as_ref()?.number, *push);
                return None;
            }
            ServerFrame::Joined(joined) => self.step(|rooms, step| rooms.on_joined(step, joined)).await.1,
            ServerFrame::Left(left) => self.step(|rooms, step| rooms.on_left(step, left)).await.1,
            ServerFrame::Error(error) => self.on_error(error).await,
            ServerFrame::Notice(notice) => {
                self.on_notice(notice);
                None
            }
            ServerFrame::Gap(gap) => {
                self.on_gap(self.current.as_ref()?.number, gap);
                None
            }
            ServerFrame::Welcome(_) | ServerFrame::Pong(_) | ServerFrame::Unknown => None,
        };
        self.release_if_settled();
        end
    }

    /// The session left behind still brings pushes, and nothing else that matters.
    pub(super) async fn on_retiring(&mut self, incoming: Incoming) -> Option<Event> {
        let number = self.retiring.as_ref()?.number;
        match incoming {
            Incoming::Frame(ServerFrame::Push(push)) => self.on_push(number, *push),
            Incoming::Frame(ServerFrame::Gap(gap)) => self.on_gap(number, gap),
            Incoming::Ended(_) => self.release().await,
            Incoming::Frame(_) | Incoming::Sign => {}
        }
        None
    }

    /// A message of the session with that number.
    fn on_push(&mut self, number: u64, frame: PushFrame) {
        let message_id = frame.message_id.clone();
        let Some(mut push) = Push::read(frame) else {
            tracing::warn!(message_id, "a push that breaks the protocol is ignored");
            return;
        };
        let verdict = self.positions.accept(push.log().as_ref(), number, push.position.as_ref(), &message_id);
        if push.wants_ack && matches!(verdict, Verdict::New | Verdict::Repeat) {
            match self.acks.came(&message_id, number, verdict == Verdict::New) {
                Duty::Now => self.acknowledge(number, message_id),
                Duty::Later(asked) => push.asked = Some(asked),
                Duty::None => {}
            }
        }
        if verdict == Verdict::New {
            self.outbox.push_back(Event::Push(push));
        }
    }

    fn on_gap(&mut self, number: u64, gap: GapFrame) {
        let to = position(&gap.epoch, gap.offset);
        let log = gap.room_id.clone().map_or(Log::Own, Log::Room);
        let hole = self.positions.gap(&log, number, to);
        self.outbox.extend(hole.map(|hole| Event::gap(gap.room_id, GapCause::Told, hole)));
    }

    pub(super) async fn on_error(&mut self, frame: ErrorFrame) -> Option<Event> {
        let (is_answer, end) = self.step(|rooms, step| rooms.on_error(step, &frame)).await;
        // A leave of a join that nobody waited for any more may find nothing to leave.
        let fault = fault(&frame);
        if !is_answer && fault.code != Code::NotJoined {
            self.outbox.push_back(Event::Refused(fault));
        }
        end
    }

    /// DRAINING: a second session is opened beside this one, which goes when all rooms are on the new one.
    pub(super) fn on_notice(&mut self, notice: NoticeFrame) {
        let Some(session) = &self.current else { return };
        if notice.reason != "DRAINING" || self.opening.is_some() {
            return;
        }
        let url = session.url.clone();
        // It would forgive the node that is going.
        self.stable_at = None;
        self.directory.fail(&url);
        self.refresh_nodes(Some(&url));
        let after = notice.reconnect_after_ms.map(Duration::from_millis);
        self.retry_at = Some(Instant::now() + after.unwrap_or_else(|| self.directory.retry().wait(0)));
    }
}
