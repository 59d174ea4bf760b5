//! What the controllers say of a room, and of a user's seat in it.

use roomcast_proto::pubsub::{GetRoomInfoRequest, MissingPart, RoomEvidence, RoomInfo};
use roomcast_types::{Code, Fault, RoomId, UserId};

use super::{CONTROLLER, Explainer, controller_missing};

/// Members that are looked through for a user, and in how many pages.
const PAGE: u32 = 1_000;
const PAGES_MAX: usize = 3;

impl Explainer {
    pub(super) async fn room(
        &self,
        room: Option<&RoomId>,
        user: Option<&UserId>,
    ) -> Result<Option<RoomEvidence>, MissingPart> {
        let Some(room) = room else { return Ok(None) };
        let mut request = GetRoomInfoRequest {
            room_id: room.to_string(),
            page_size: PAGE,
            card_only: user.is_none(),
            ..GetRoomInfoRequest::default()
        };
        let mut evidence = RoomEvidence::default();
        for page in 0..PAGES_MAX {
            let standing =
                |word: &str| Ok(Some(RoomEvidence { standing: word.to_owned(), ..Default::default() }));
            let info = match self.room_info(&request).await {
                Ok(info) => info,
                Err(fault) if fault.code == Code::NotFound => return standing("NOT_FOUND"),
                Err(fault) if fault.code == Code::RoomDeleted => return standing("DELETED"),
                Err(fault) if page == 0 => return Err(controller_missing(&fault)),
                // The seat stays unknown.
                Err(_) => break,
            };
            let holds = |user: &UserId| info.members.iter().any(|member| member.user_id == user.as_str());
            let seat = match user {
                None => "",
                Some(user) if holds(user) => "HELD",
                Some(_) if info.next_page_token.is_empty() => "NONE",
                Some(_) => "UNKNOWN",
            };
            request.page_token.clone_from(&info.next_page_token);
            evidence = RoomEvidence {
                standing: "ACTIVE".to_owned(),
                card: info.card,
                members: info.member_count,
                online: info.online_count,
                seat: seat.to_owned(),
                degraded: info.degraded,
            };
            if seat != "UNKNOWN" {
                break;
            }
        }
        Ok(Some(evidence))
    }

    async fn room_info(&self, request: &GetRoomInfoRequest) -> Result<RoomInfo, Fault> {
        self.controllers
            .ask(CONTROLLER, |mut controller| {
                let request = request.clone();
                async move { controller.get_room_info(request).await }
            })
            .await
    }
}
