//! Questions about rooms, and changes to them.

use roomcast_client::Controller;
use roomcast_proto::pubsub::{
    CreateRoomRequest, DeleteRoomRequest, GetRoomInfoRequest, GetRoomStatsRequest, JoinRoomRequest,
    LeaveRoomRequest, ListRoomsReply, ListRoomsRequest, RoomCard, RoomInfo, RoomStats, UpdateRoomRequest,
    room_card,
};
use roomcast_types::RoomId;

use crate::{
    args::{Keeps, Membership, OnLogFailure, RoomQuestion, Servers},
    degraded::{self, Degraded},
    failure::Failure,
    output::{Output, list, pairs, utc, yes},
};

/// Most lines the controller gives at once.
const PAGE_MAX: u32 = 1_000;

/// The controllers, and how to speak of their failures.
pub fn controller(servers: &Servers) -> Result<Controller, Failure> {
    let controller = Controller::new(&servers.controller).map_err(refused)?;
    Ok(controller.deadline(servers.timeout).attempts_per_address(1))
}

/// A call to a controller that failed.
pub fn refused(error: roomcast_client::Error) -> Failure {
    Failure::of("controller-manager", "--controller", error)
}

/// Asks and shows the answer.
pub async fn run(servers: &Servers, question: RoomQuestion, output: &mut Output) -> Result<(), Failure> {
    let controller = controller(servers)?;
    match question {
        RoomQuestion::List { limit } => {
            let reply = rooms(&controller, limit).await?;
            output.show(&reply, describe_rooms)
        }
        RoomQuestion::Show { room, limit } => {
            let reply = info(&controller, &room, limit).await?;
            output.show(&reply, describe_info)
        }
        RoomQuestion::Create { room, max_users, membership, log, on_log_failure } => {
            let request = CreateRoomRequest {
                room_id: room.into(),
                max_users,
                membership: room_card::Membership::from(membership).into(),
                log: log.map(|log| room_card::Log::from(log).into()),
                on_log_failure: room_card::OnLogFailure::from(on_log_failure).into(),
            };
            let reply = controller.create_room(request).await.map_err(refused)?;
            output.show(&reply, |card| format!("created\n{}", describe_card(card)))
        }
        RoomQuestion::Update { room, max_users, membership, log, on_log_failure } => {
            let request = UpdateRoomRequest {
                room_id: room.into(),
                max_users,
                membership: membership.map(|membership| room_card::Membership::from(membership).into()),
                log: log.map(|log| room_card::Log::from(log).into()),
                on_log_failure: on_log_failure.map(|on| room_card::OnLogFailure::from(on).into()),
            };
            let reply = controller.update_room(request).await.map_err(refused)?;
            output.show(&reply, |card| format!("updated\n{}", describe_card(card)))
        }
        RoomQuestion::Delete { room } => {
            let request = DeleteRoomRequest { room_id: room.to_string() };
            let reply = controller.delete_room(request).await.map_err(refused)?;
            output.show(&reply, |reply| format!("deleted room {room}, which had {} members", reply.members))
        }
        RoomQuestion::Join { room, user, name } => {
            let request =
                JoinRoomRequest { room_id: room.to_string(), user_id: user.to_string(), user_name: name };
            let reply = controller.join_room(request).await.map_err(refused)?;
            output.show(&reply, |reply| {
                let members = reply.members;
                let degraded = pairs([Degraded(&reply.degraded).line()]);
                format!("{user} has a seat in room {room}; members: {members}\n{degraded}")
            })
        }
        RoomQuestion::Leave { room, user } => {
            let request = LeaveRoomRequest { room_id: room.to_string(), user_id: user.to_string() };
            let reply = controller.leave_room(request).await.map_err(refused)?;
            output.show(&reply, |reply| match reply.left {
                true => format!("{user} left room {room}"),
                false => format!("{user} had no seat in room {room}"),
            })
        }
        RoomQuestion::Stats { room } => stats(&controller, room, output).await,
    }
}

async fn stats(controller: &Controller, room: Option<RoomId>, output: &mut Output) -> Result<(), Failure> {
    let is_total = room.is_none();
    let room_id = room.map(String::from).unwrap_or_default();
    let reply = controller.get_room_stats(GetRoomStatsRequest { room_id }).await.map_err(refused)?;
    output.show(&reply, |stats| describe_stats(stats, is_total))
}

async fn rooms(controller: &Controller, limit: u32) -> Result<ListRoomsReply, Failure> {
    let mut all = ListRoomsReply::default();
    loop {
        let page_size = (limit - all.rooms.len() as u32).min(PAGE_MAX);
        let request = ListRoomsRequest { page_size, page_token: all.next_page_token };
        let page = controller.list_rooms(request).await.map_err(refused)?;
        all.rooms.extend(page.rooms);
        all.next_page_token = page.next_page_token;
        if all.next_page_token.is_empty() || all.rooms.len() as u32 >= limit {
            return Ok(all);
        }
    }
}

async fn info(controller: &Controller, room: &RoomId, limit: u32) -> Result<RoomInfo, Failure> {
    let (mut members, mut missing) = (Vec::new(), Vec::new());
    let mut page_token = String::new();
    loop {
        let page_size = (limit - members.len() as u32).min(PAGE_MAX);
        let request =
            GetRoomInfoRequest { room_id: room.to_string(), page_size, page_token, card_only: false };
        let mut page = controller.get_room_info(request).await.map_err(refused)?;
        members.append(&mut page.members);
        degraded::add(&mut missing, std::mem::take(&mut page.degraded));
        if page.next_page_token.is_empty() || members.len() as u32 >= limit {
            return Ok(RoomInfo { members, degraded: missing, ..page });
        }
        page_token = page.next_page_token;
    }
}

fn describe_rooms(reply: &ListRoomsReply) -> String {
    let rows = reply.rooms.iter().map(|room| {
        let card = room.card.clone().unwrap_or_default();
        let seats = format!("{} of {}", room.member_count, card.max_users);
        [card.room_id.clone(), seats, membership(&card), card.version.to_string()]
    });
    let list = list(["room", "members", "membership", "version"], rows);
    format!("{list}{}", more(&reply.next_page_token))
}

fn describe_stats(stats: &RoomStats, is_total: bool) -> String {
    let known = Degraded(&stats.degraded);
    let members = if is_total { known.record(stats.members) } else { stats.members.to_string() };
    let only_totals = |count: String| if is_total { count } else { String::new() };
    pairs([
        ("rooms", only_totals(known.record(stats.rooms))),
        ("members", members),
        ("online", known.presence(stats.online_members)),
        ("sessions", known.presence(stats.sessions)),
        ("nodes", only_totals(stats.nodes.to_string())),
        known.line(),
    ])
}

fn describe_info(info: &RoomInfo) -> String {
    let card = info.card.clone().unwrap_or_default();
    let known = Degraded(&info.degraded);
    // The record may have answered for the room and not for its members.
    let created = if info.created_at_ms == 0 { known.record("") } else { utc(info.created_at_ms) };
    let counts = [
        ("members", info.member_count.to_string()),
        ("online", known.presence(info.online_count)),
        ("created", created),
        known.line(),
    ];
    let rows = info.members.iter().map(|member| {
        let (online, sessions) = (known.presence(yes(member.online)), known.presence(member.sessions));
        [member.user_id.clone(), known.record(&member.user_name), online, sessions]
    });
    let list = list(["user", "name", "online", "sessions"], rows);
    format!("{}{list}{}", pairs(card_pairs(&card).into_iter().chain(counts)), more(&info.next_page_token))
}

fn describe_card(card: &RoomCard) -> String {
    pairs(card_pairs(card))
}

fn card_pairs(card: &RoomCard) -> [(&'static str, String); 7] {
    let state = match card.state() {
        room_card::State::Active => String::new(),
        room_card::State::Deleted => "DELETED".to_owned(),
    };
    [
        ("room", card.room_id.clone()),
        ("state", state),
        ("membership", membership(card)),
        ("max users", card.max_users.to_string()),
        ("log", log(card).to_owned()),
        ("on log failure", on_log_failure(card).to_owned()),
        ("version", card.version.to_string()),
    ]
}

fn membership(card: &RoomCard) -> String {
    card.membership().as_str_name().to_owned()
}

fn log(card: &RoomCard) -> &'static str {
    match card.log() {
        room_card::Log::None => "NONE",
        room_card::Log::Recent => "RECENT",
        room_card::Log::DurableLog => "DURABLE",
    }
}

/// A durable log always refuses; without a log there is nothing to fail.
fn on_log_failure(card: &RoomCard) -> &'static str {
    match (card.log(), card.on_log_failure()) {
        (room_card::Log::None, _) => "",
        (room_card::Log::DurableLog, _) | (_, room_card::OnLogFailure::Refuse) => "REFUSE",
        (room_card::Log::Recent, room_card::OnLogFailure::Degrade) => "DEGRADE",
    }
}

/// A word about what a list leaves out.
pub fn more(next_page_token: &str) -> &'static str {
    if next_page_token.is_empty() { "" } else { "there are more; --limit shows them" }
}

impl From<Membership> for room_card::Membership {
    fn from(membership: Membership) -> Self {
        match membership {
            Membership::Follow => Self::Follow,
            Membership::Durable => Self::Durable,
        }
    }
}

impl From<Keeps> for room_card::Log {
    fn from(keeps: Keeps) -> Self {
        match keeps {
            Keeps::None => Self::None,
            Keeps::Recent => Self::Recent,
            Keeps::Durable => Self::DurableLog,
        }
    }
}

impl From<OnLogFailure> for room_card::OnLogFailure {
    fn from(on: OnLogFailure) -> Self {
        match on {
            OnLogFailure::Degrade => Self::Degrade,
            OnLogFailure::Refuse => Self::Refuse,
        }
    }
}

#[cfg(test)]
mod tests {
    use roomcast_proto::pubsub::RoomMember;

    use super::*;

    const PRESENCE: &str = "PRESENCE_UNAVAILABLE";
    const RECORD: &str = "RECORD_UNAVAILABLE";

    fn row<'a>(shown: &'a str, name: &str) -> Vec<&'a str> {
        let line = shown.lines().find(|line| line.contains(name)).unwrap_or_default();
        line.split([' ', '\u{2502}', '\u{2506}']).filter(|word| !word.is_empty()).collect()
    }

    #[test]
    fn counts_that_nobody_knows_are_not_shown_as_none() {
        let without =
            |missing: &str| RoomStats { degraded: vec![missing.to_owned()], ..RoomStats::default() };
        let shown = describe_stats(&without(PRESENCE), true);
        assert_eq!(row(&shown, "online"), ["online", "unknown"], "{shown}");
        assert_eq!(row(&shown, "sessions"), ["sessions", "unknown"]);
        assert_eq!(row(&shown, "members"), ["members", "0"]);
        assert_eq!(row(&shown, "degraded"), ["degraded", PRESENCE]);
        let shown = describe_stats(&without(RECORD), true);
        assert_eq!(row(&shown, "rooms"), ["rooms", "unknown"], "{shown}");
        assert_eq!(row(&shown, "members"), ["members", "unknown"]);
        let card = RoomStats { members: 7, ..without(RECORD) };
        assert_eq!(row(&describe_stats(&card, false), "members"), ["members", "7"], "its card tells them");
    }

    #[test]
    fn a_room_shows_what_is_known_of_it() {
        let alice = || RoomMember { user_id: "alice".to_owned(), ..RoomMember::default() };
        let room = |missing: &str| RoomInfo {
            members: vec![alice()],
            degraded: vec![missing.to_owned()],
            ..RoomInfo::default()
        };
        let shown = describe_info(&room(RECORD));
        assert_eq!(row(&shown, "created"), ["created", "unknown"], "{shown}");
        assert_eq!(row(&shown, "alice"), ["alice", "unknown", "no", "0"], "{shown}");
        assert_eq!(row(&shown, "degraded"), ["degraded", RECORD]);
        let shown = describe_info(&RoomInfo { created_at_ms: 951_782_400_000, ..room(PRESENCE) });
        assert_eq!(row(&shown, "alice"), ["alice", "unknown", "unknown"], "{shown}");
        assert!(shown.contains("2000-02-29") && row(&shown, "online")[1] == "unknown", "{shown}");
    }
}
