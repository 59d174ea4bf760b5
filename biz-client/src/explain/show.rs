//! Explanations as sections of text.

use std::collections::BTreeMap;

use roomcast_proto::pubsub::{
    Explanation, InspectReply, LiveSession, NodeEvidence, NodeMessage, PushEvidence, PushHop, RoomEvidence,
    UserEvidence, room_card::Membership,
};

use crate::{
    degraded::Degraded,
    output::{list, pairs, printable, yes},
};

/// Every section that has something to say, then the sentence.
pub fn explanation(of: &Explanation) -> String {
    let mut text = pairs([
        ("user", of.user_id.clone()),
        ("room", of.room_id.clone()),
        ("message", of.message_id.clone()),
        ("asked", of.manager_id.clone()),
    ]);
    if let Some(user) = &of.user {
        section(&mut text, "user, as the controllers know it", &known_user(user));
    }
    if let Some(room) = &of.room {
        section(&mut text, "room, as the controllers know it", &known_room(room));
    }
    section(&mut text, "nodes", &nodes(&of.nodes));
    let sessions = sessions(&of.nodes);
    section(&mut text, "sessions", &sessions);
    let past = past(&of.nodes);
    if past != NONE {
        section(&mut text, "sessions that ended, rooms that were left", &past);
    }
    section(&mut text, "pushes", &pushes(of));
    ending(text, of)
}

/// The hops of one message, then the sentence.
pub fn trace(of: &Explanation) -> String {
    let mut text = pairs([("message", of.message_id.clone())]);
    for push in &of.pushes {
        text.push_str(&pairs([
            ("accepted by", push.manager_id.clone()),
            ("target", target(&push.target, &push.room_id, push.users)),
            ("age", span(push.age_ms)),
            ("log", place(push)),
            ("targets", push.targets.to_string()),
            ("outcomes", counts(&push.outcomes)),
        ]));
        section(&mut text, "hops, times since it was accepted", &hops(&push.hops));
    }
    section(&mut text, "as the nodes remember it", &at_nodes(&of.nodes));
    ending(text, of)
}

/// Where it lies in the log.
fn place(push: &PushEvidence) -> String {
    match (push.offset, push.log_unavailable) {
        (0, true) => "it did not answer".to_owned(),
        (0, false) => "none".to_owned(),
        (offset, _) => format!("offset {offset}, epoch {}", push.epoch),
    }
}

const NONE: &str = "none\n";

fn section(text: &mut String, title: &str, body: &str) {
    text.push_str(&format!("\n{title}\n{body}"));
}

fn ending(mut text: String, of: &Explanation) -> String {
    if !of.missing.is_empty() {
        let rows = of.missing.iter().map(|missing| [missing.part.clone(), missing.why.clone()]);
        section(&mut text, "without an answer", &list(["part", "why"], rows));
    }
    text.push_str(&format!("\n{}\n", printable(&of.sentence)));
    text
}

fn known_user(user: &UserEvidence) -> String {
    let nodes = user.sessions.iter().map(|session| format!("{} ({})", session.node_id, session.client_id));
    pairs([
        ("online", Degraded(&user.degraded).presence(yes(user.online))),
        ("sessions on", nodes.collect::<Vec<_>>().join(", ")),
        Degraded(&user.degraded).line(),
    ])
}

fn known_room(room: &RoomEvidence) -> String {
    let card = room.card.as_ref();
    let membership = card.map(|card| Membership::as_str_name(&card.membership()).to_owned());
    pairs([
        ("standing", room.standing.clone()),
        ("seat", room.seat.clone()),
        ("members", card.map(|card| format!("{} of {}", room.members, card.max_users)).unwrap_or_default()),
        ("online", card.map(|_| Degraded(&room.degraded).presence(room.online)).unwrap_or_default()),
        ("membership", membership.unwrap_or_default()),
        ("version", card.map(|card| card.version.to_string()).unwrap_or_default()),
        Degraded(&room.degraded).line(),
    ])
}

fn nodes(nodes: &[NodeEvidence]) -> String {
    let row = |node: &NodeEvidence| {
        let route = |sessions: Option<u64>| sessions.map_or("-".to_owned(), |sessions| sessions.to_string());
        [
            node.node_id.clone(),
            if node.registered { node.state.clone() } else { "not registered".to_owned() },
            node.lane.clone(),
            yes(node.trusted),
            node.echo_age_ms.map_or("-".to_owned(), span),
            route(node.user_sessions),
            route(node.room_sessions),
            node.queued.to_string(),
            yes(node.said.is_some()),
        ]
    };
    let header = [
        "node",
        "registered",
        "lane",
        "trusted",
        "echo age",
        "user route",
        "room route",
        "queued",
        "answers",
    ];
    list(header, nodes.iter().map(row))
}

fn said(nodes: &[NodeEvidence]) -> impl Iterator<Item = (&NodeEvidence, &InspectReply)> {
    nodes.iter().filter_map(|node| Some((node, node.said.as_ref()?)))
}

fn sessions(nodes: &[NodeEvidence]) -> String {
    let all = said(nodes).flat_map(|(node, said)| said.sessions.iter().map(move |own| (node, own)));
    let row = |(node, session): (&NodeEvidence, &LiveSession)| {
        let rooms: Vec<&str> = session.rooms.iter().map(|room| room.room_id.as_str()).collect();
        [
            session.user_id.clone(),
            node.node_id.clone(),
            session.session_id.clone(),
            session.phase.clone(),
            span(session.age_ms),
            queue(session),
            session.rtt_ms.map_or("-".to_owned(), |rtt_ms| span(rtt_ms.into())),
            session.unacknowledged.to_string(),
            rooms.join(", "),
        ]
    };
    let header = ["user", "node", "session", "phase", "age", "queue", "round trip", "unacked", "rooms"];
    list(header, all.map(row))
}

fn queue(session: &LiveSession) -> String {
    match session.queued_frames {
        0 => "empty".to_owned(),
        frames => {
            format!("{frames} frames, {} B, stuck {}", session.queued_bytes, span(session.stalled_ms))
        }
    }
}

fn past(nodes: &[NodeEvidence]) -> String {
    let ended = said(nodes).flat_map(|(node, said)| {
        said.ended.iter().map(|ended| {
            let code = match ended.close_code {
                0 => "connection broke".to_owned(),
                code => format!("closed with {code}"),
            };
            [ended.user_id.clone(), node.node_id.clone(), span(ended.ended_ms_ago), code]
        })
    });
    let left = said(nodes).flat_map(|(node, said)| {
        said.left.iter().map(|left| {
            let what = format!("left {} ({})", left.room_id, left.reason);
            [left.user_id.clone(), node.node_id.clone(), span(left.left_ms_ago), what]
        })
    });
    list(["user", "node", "ago", "what"], ended.chain(left))
}

/// What push-managers and nodes remember, a line a message.
fn pushes(of: &Explanation) -> String {
    let mut rows: BTreeMap<&str, [String; 6]> = BTreeMap::new();
    for (node, said) in said(&of.nodes) {
        for message in &said.messages {
            let row = rows.entry(&message.message_id).or_insert_with(|| {
                let target = target(&message.target, &message.room_id, 0);
                let id = message.message_id.clone();
                [
                    id,
                    target,
                    span(message.came_ms_ago),
                    String::new(),
                    counts(&message.outcomes),
                    String::new(),
                ]
            });
            for fate in message.sessions.iter().filter(|fate| is_shown(of, &fate.outcome)) {
                let whose = if of.user_id.is_empty() { format!("{} ", fate.user_id) } else { String::new() };
                add(&mut row[5], format!("{whose}{} on {}", fate.outcome, node.node_id));
            }
        }
    }
    for push in &of.pushes {
        let fates = rows.remove(push.message_id.as_str()).map(|row| row[5].clone()).unwrap_or_default();
        let target = target(&push.target, &push.room_id, push.users);
        let fate = if fates.is_empty() { push.user_outcome.clone() } else { fates };
        let id = push.message_id.clone();
        rows.insert(
            &push.message_id,
            [id, target, span(push.age_ms), way(push), counts(&push.outcomes), fate],
        );
    }
    let header = ["message", "target", "age", "hops", "outcomes", "for whom is asked"];
    list(header, rows.into_values().rev())
}

/// Of a room, only what did not arrive: there may be many members.
fn is_shown(of: &Explanation, outcome: &str) -> bool {
    !of.user_id.is_empty() || !matches!(outcome, "WRITTEN" | "ACKED")
}

fn add(to: &mut String, what: String) {
    if !to.is_empty() {
        to.push_str(", ");
    }
    to.push_str(&what);
}

fn way(push: &PushEvidence) -> String {
    let mut way = String::new();
    for hop in &push.hops {
        let end = match (&hop.lost, hop.heard_us) {
            (lost, _) if !lost.is_empty() => format!("lost: {lost}"),
            (_, Some(heard_us)) => format!("heard {}", micros(heard_us)),
            (_, None) => "nothing heard".to_owned(),
        };
        let blind = if hop.trusted { "" } else { " (blind)" };
        let times = [("sent", hop.sent_us), ("waited", hop.wait_us), ("walked", hop.walk_us)];
        let times = times.iter().filter_map(|(what, us)| Some(format!("{what} {}, ", micros((*us)?))));
        let times = times.collect::<String>();
        let gap = if way.is_empty() { "" } else { "; " };
        way.push_str(&format!("{gap}{}{blind}: {times}{end}", hop.node_id));
    }
    way
}

fn hops(hops: &[PushHop]) -> String {
    let row = |hop: &PushHop| {
        let time = |us: Option<u64>| us.map_or("-".to_owned(), micros);
        [
            hop.node_id.clone(),
            if hop.trusted { "trusted" } else { "blind" }.to_owned(),
            hop.announced.to_string(),
            time(hop.sent_us),
            time(hop.wait_us),
            time(hop.walk_us),
            if hop.lost.is_empty() { time(hop.heard_us) } else { format!("lost: {}", hop.lost) },
            counts(&hop.outcomes),
        ]
    };
    let header = ["node", "route", "announced", "sent", "waited", "walked", "heard", "outcomes"];
    list(header, hops.iter().map(row))
}

fn at_nodes(nodes: &[NodeEvidence]) -> String {
    let all = said(nodes).flat_map(|(node, said)| said.messages.iter().map(move |own| (node, own)));
    let row = |(node, message): (&NodeEvidence, &NodeMessage)| {
        [
            node.node_id.clone(),
            message.class.clone(),
            span(message.came_ms_ago),
            micros(message.wait_us),
            micros(message.walk_us),
            message.targets.to_string(),
            counts(&message.outcomes),
        ]
    };
    list(["node", "class", "came ago", "waited", "walked", "targets", "outcomes"], all.map(row))
}

fn target(kind: &str, room_id: &str, users: u64) -> String {
    match (kind, users) {
        ("ROOM", _) => format!("room {room_id}"),
        ("USERS", 0) => "users".to_owned(),
        ("USERS", 1) => "1 user".to_owned(),
        ("USERS", users) => format!("{users} users"),
        _ => "all".to_owned(),
    }
}

fn counts(outcomes: &BTreeMap<String, u64>) -> String {
    outcomes.iter().map(|(word, count)| format!("{word} {count}")).collect::<Vec<_>>().join(", ")
}

fn span(ms: u64) -> String {
    match ms {
        0..10_000 => format!("{ms} ms"),
        10_000..120_000 => format!("{} s", ms / 1_000),
        _ => format!("{} min", ms / 60_000),
    }
}

fn micros(us: u64) -> String {
    format!("{}.{:03} ms", us / 1_000, us % 1_000)
}
