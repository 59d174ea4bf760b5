//! Connects as a client and prints what arrives.

use roomcast_client::{
    Error, Event, Push, Subscriber,
    subscriber::{Acknowledge, Continuity, GapCause, Payload, Position, Protocol, Target},
};
use roomcast_proto::pubsub::SelectConnectNodeRequest;
use roomcast_types::RoomId;
use serde_json::{Value, json};

use crate::{
    args::{self, ListenTo, Servers, Until},
    failure::Failure,
    output::{Output, printable},
    room::{controller, refused},
};

/// Prints pushes until Ctrl-C, `--count`, or the node ends the session for good.
pub async fn run(servers: &Servers, to: ListenTo, output: &mut Output) -> Result<(), Failure> {
    let (room, user, until) = match to {
        ListenTo::Room { room, user, until } => (Some(room), user, until),
        ListenTo::User { user, until } => (None, Some(user), until),
    };
    let user = user.map_or_else(|| format!("biz-client-{:08x}", rand::random::<u32>()), String::from);
    let mut subscriber = subscribe(servers, &until, room.as_ref(), &user).await?;
    let mut seen = 0;
    loop {
        let event = tokio::select! {
            event = subscriber.next() => event,
            _ = tokio::signal::ctrl_c() => None,
        };
        let Some(event) = event else { break };
        if matches!(event, Event::Push(_)) {
            seen += 1;
        }
        show(event, output)?;
        if until.count.is_some_and(|count| seen >= count) {
            break;
        }
    }
    subscriber.close().await;
    Ok(())
}

async fn subscribe(
    servers: &Servers,
    until: &Until,
    room: Option<&RoomId>,
    user: &str,
) -> Result<Subscriber, Failure> {
    let url = match &until.url {
        Some(url) => url.clone(),
        None => {
            let request = SelectConnectNodeRequest::default();
            controller(servers)?.select_connect_node(request).await.map_err(refused)?.url
        }
    };
    // By hand, and no hand that does it.
    let acknowledge = if until.no_ack { Acknowledge::ByHand } else { Acknowledge::OnReceipt };
    let protocol = match until.protocol {
        args::Protocol::Json => Protocol::Json,
        args::Protocol::Proto => Protocol::Proto,
    };
    let mut builder = Subscriber::builder(url).user_id(user).acknowledge(acknowledge).protocol(protocol);
    if let Some(room) = room {
        builder = builder.room(room.as_str());
    }
    builder.start().map_err(|error| match error {
        Error::InvalidUrl { .. } => Failure::Usage(format!("--url: {error}")),
        other => Failure::Refused(other.to_string()),
    })
}

/// Messages go to standard output, everything else is told on standard error; as JSON gaps go to standard output, too,
/// where they stand between the messages.
fn show(event: Event, output: &mut Output) -> Result<(), Failure> {
    let note = match event {
        Event::Push(push) if output.is_json() => return output.line(&as_json(&push).to_string()),
        Event::Push(push) => return output.line(&as_line(&push)),
        Event::Gap { room_id, cause, from, to } => {
            if output.is_json() {
                output
                    .line(&gap_as_json(room_id.as_deref(), cause, from.as_ref(), to.as_ref()).to_string())?;
            }
            gap_as_line(room_id.as_deref(), cause, from.as_ref(), to.as_ref())
        }
        Event::Welcome(welcome) | Event::Reconnected(welcome) => {
            let stands = stands(welcome.continuity, welcome.position.as_ref());
            format!("connected to {} as {}{stands}", welcome.node_id, welcome.user_id)
        }
        Event::Joined(joined) => {
            let stands = stands(joined.continuity, joined.position.as_ref());
            let read = joined.read_offset.map(|offset| format!(", read up to offset {offset}"));
            format!(
                "joined {}, members: {}{stands}{}",
                joined.room_id,
                joined.members,
                read.unwrap_or_default()
            )
        }
        Event::JoinFailed { fault, is_retrying: false, .. } => {
            return Err(Failure::Refused(fault.to_string()));
        }
        Event::JoinFailed { fault, .. } => format!("{fault}; asking again"),
        Event::Left { room_id, reason } => return Err(Failure::Refused(format!("left {room_id}: {reason}"))),
        Event::Refused(fault) => fault.to_string(),
        Event::Disconnected { code, reason, retry_in } => {
            format!("disconnected ({code} {reason}); connecting again in {} ms", retry_in.as_millis())
        }
        Event::Closed { code, reason } => {
            let code = code.map(|code| format!("{code} ")).unwrap_or_default();
            return Err(Failure::Refused(format!(
                "the node ended the session: {code}{}",
                printable(&reason)
            )));
        }
    };
    eprintln!("{}", printable(&note));
    Ok(())
}

/// What follows the line of a session or a room; nothing the first time in a log without positions.
fn stands(continuity: Continuity, position: Option<&Position>) -> String {
    let became = match continuity {
        Continuity::First => "",
        Continuity::Unbroken => ", nothing missed",
        Continuity::Recovered => ", recovered: what was missed follows",
        Continuity::Lost | Continuity::Unknown => ", not recovered",
    };
    let at = position.map(|position| format!(", at offset {}", position.offset)).unwrap_or_default();
    format!("{at}{became}")
}

fn gap_as_line(
    room: Option<&str>,
    cause: GapCause,
    from: Option<&Position>,
    to: Option<&Position>,
) -> String {
    let whose = room.map_or("to this user".to_owned(), |room| format!("of room {room}"));
    let from = from.map(|from| format!(" after offset {}", from.offset)).unwrap_or_default();
    let to = to.map(|to| format!(" up to offset {}", to.offset)).unwrap_or_default();
    let why = match cause {
        GapCause::Told => "",
        GapCause::NotRecovered => ": the log no longer has them",
        GapCause::NoLog => ": there was no log to recover them from",
    };
    format!("GAP: messages {whose} may be missing{from}{to}{why}")
}

fn gap_as_json(
    room_id: Option<&str>,
    cause: GapCause,
    from: Option<&Position>,
    to: Option<&Position>,
) -> Value {
    let cause = match cause {
        GapCause::Told => "GAP",
        GapCause::NotRecovered => "NOT_RECOVERED",
        GapCause::NoLog => "NO_LOG",
    };
    json!({"gap": {"room_id": room_id, "cause": cause, "from": from, "to": to}})
}

fn as_line(push: &Push) -> String {
    let target = match &push.target {
        Target::Room(room_id) => format!("room {room_id}"),
        Target::User => "user".to_owned(),
        Target::All => "all".to_owned(),
    };
    let payload = match &push.payload {
        Payload::Text(text) => text.clone(),
        Payload::Binary(bytes) => format!("({} bytes)", bytes.len()),
    };
    let offset = push.position.as_ref().map(|at| format!("  #{}", at.offset)).unwrap_or_default();
    printable(&format!("{}  {target}{offset}  {}  {payload}", push.message_id, push.content_type))
}

fn as_json(push: &Push) -> Value {
    let (target, room_id) = match &push.target {
        Target::Room(room_id) => ("room", Some(room_id)),
        Target::User => ("user", None),
        Target::All => ("all", None),
    };
    let (data, bytes) = match &push.payload {
        Payload::Text(text) => (Some(text), None),
        Payload::Binary(bytes) => (None, Some(bytes.len())),
    };
    json!({
        "message_id": push.message_id,
        "target": target,
        "room_id": room_id,
        "type": push.content_type,
        "data": data,
        "binary_bytes": bytes,
        "timestamp": push.timestamp,
        "timestamp_ms": push.accepted_at_ms,
        "ack": push.wants_ack,
        "position": push.position,
    })
}
