//! The query of `/ws`: who connects, as which client, into which rooms.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use roomcast_types::{ClientId, Epoch, Fault, RoomId, SessionId, UserId, id::check_user_name};

use crate::{log::returning::Since, wire::EPOCH_BYTES_MAX};

/// Who connects and what for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Query {
    pub(super) user_id: UserId,
    pub(super) user_name: String,
    /// As given, or a fresh one.
    pub(super) client_id: ClientId,
    /// In the order of the URL, each once.
    pub(super) rooms: Vec<RoomId>,
    /// Position in the user's own log.
    pub(super) since: Option<Since>,
}

/// Reads the query; a fault names the field and the limit. Unknown parameters are ignored, and so is `token` (nothing
/// asks for credentials).
pub(super) fn parse(query: &str, rooms_max: usize) -> Result<Query, Fault> {
    let [mut user_id, mut user_name, mut client_id, mut token, mut since] = [const { None }; 5];
    let mut rooms: Vec<RoomId> = Vec::new();
    for pair in query.split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        match name {
            "user_id" => once(&mut user_id, "user_id", value)?,
            "user_name" => once(&mut user_name, "user_name", value)?,
            "client_id" => once(&mut client_id, "client_id", value)?,
            "token" => once(&mut token, "token", value)?,
            "since" => once(&mut since, "since", value)?,
            "room_id" => {
                let room = RoomId::new(decode("room_id", value)?)?;
                if !rooms.contains(&room) {
                    rooms.push(room);
                }
                if rooms.len() > rooms_max {
                    return Err(Fault::bad_request(format!(
                        "room_id names more than {rooms_max} rooms, which is the most a session may be in"
                    )));
                }
            }
            _ => {}
        }
    }
    let user_id = UserId::new(user_id.ok_or_else(|| Fault::bad_request("user_id is missing"))?)?;
    let user_name = user_name.unwrap_or_default().into_owned();
    check_user_name(&user_name)?;
    let client_id = match client_id {
        Some(given) => ClientId::new(given)?,
        None => ClientId::new(SessionId::random().to_string())?,
    };
    let since = since.map(|since| position(&since)).transpose()?;
    Ok(Query { user_id, user_name, client_id, rooms, since })
}

/// `EPOCH:OFFSET`. An epoch that is none of ours is one that nobody knows any more.
fn position(text: &str) -> Result<Since, Fault> {
    let parsed = text.split_once(':').and_then(|(epoch, offset)| {
        let offset = offset.parse::<u64>().ok().filter(|offset| *offset < 1 << 53)?;
        (1..=EPOCH_BYTES_MAX).contains(&epoch.len()).then(|| Since { epoch: Epoch::parse(epoch), offset })
    });
    let takes = format!(
        "since is not EPOCH:OFFSET, with an epoch of 1 to {EPOCH_BYTES_MAX} bytes and an offset below 2^53"
    );
    parsed.ok_or_else(|| Fault::bad_request(takes))
}

fn once<'a>(place: &mut Option<Cow<'a, str>>, field: &'static str, value: &'a str) -> Result<(), Fault> {
    match place.replace(decode(field, value)?) {
        None => Ok(()),
        Some(_) => Err(Fault::bad_request(format!("{field} is given more than once"))),
    }
}

/// Percent-decoding; `+` is a plus, not a space.
fn decode<'a>(field: &'static str, value: &'a str) -> Result<Cow<'a, str>, Fault> {
    let is_escape = |rest: &str| rest.len() >= 2 && rest.bytes().take(2).all(|b| b.is_ascii_hexdigit());
    if !value.split('%').skip(1).all(is_escape) {
        return Err(Fault::bad_request(format!("{field} has a % that no two hexadecimal digits follow")));
    }
    percent_decode_str(value)
        .decode_utf8()
        .map_err(|_| Fault::bad_request(format!("{field} is not percent-encoded UTF-8")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(query: &str) -> String {
        parse(query, 2).unwrap_err().message
    }

    #[test]
    fn values_are_percent_encoded_and_unknown_parameters_ignored() {
        let query = parse(
            "x=1&room_id=b&user_id=%C3%BC+1&room_id=a%26&client_id=c.1&user_name=N&room_id=b&token=t",
            2,
        );
        assert_eq!(
            query.unwrap(),
            Query {
                user_id: UserId::new("ü+1").unwrap(),
                user_name: "N".into(),
                client_id: ClientId::new("c.1").unwrap(),
                rooms: vec![RoomId::new("b").unwrap(), RoomId::new("a&").unwrap()],
                since: None,
            }
        );
    }

    #[test]
    fn a_client_without_an_id_gets_a_fresh_one() {
        let (a, b) = (parse("user_id=u", 1).unwrap(), parse("user_id=u", 1).unwrap());
        assert_ne!(a.client_id, b.client_id);
    }

    #[test]
    fn a_bad_query_names_the_field_and_the_limit() {
        assert_eq!(message(""), "user_id is missing");
        assert_eq!(message("user_id="), "user_id is empty; it takes 1 to 128 bytes");
        assert_eq!(message("user_id=a&user_id=a"), "user_id is given more than once");
        assert_eq!(message("user_id=%ff"), "user_id is not percent-encoded UTF-8");
        assert!(message("user_id=%4").contains("user_id has a %"));
        assert!(message("user_id=u&client_id=a%20b").contains("client_id has ' ' at byte 1"));
        assert!(message("user_id=u&room_id=%0a").contains("room_id has '\\n'"));
        assert!(message("user_id=u&room_id=a&room_id=b&room_id=c").contains("more than 2 rooms"));
        let long = format!("user_id=u&user_name={}", "n".repeat(129));
        assert!(message(&long).contains("user_name has 129 bytes; at most 128"));
    }

    proptest::proptest! {
        #[test]
        fn no_query_makes_the_parser_panic(query in ".{0,80}|(user_id|room_id|=|&|%|a|é){0,20}") {
            let _ = parse(&query, 3);
        }
    }
}
