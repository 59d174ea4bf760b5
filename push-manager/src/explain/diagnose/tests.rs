//! Each fault is told by its hop, from nothing but what the parts said.

use roomcast_proto::pubsub::{
    EndedSession, Explanation, InspectReply, LeftRoom, LiveSession, MissingPart, NodeEvidence, NodeMessage,
    PushEvidence, PushHop, RoomEvidence, SessionFate, SessionInfo, SessionRoom, UserEvidence,
};

use super::{Hop, diagnose};

const M: &str = "01J0000000000000000000000A";

/// Ann has one session on node-1, in room r, where a push went a second ago.
fn healthy() -> Explanation {
    let rooms = vec![SessionRoom { room_id: "r".into(), age_ms: 60_000 }];
    let session = LiveSession {
        session_id: "s1".into(),
        user_id: "ann".into(),
        phase: "open".into(),
        age_ms: 60_000,
        rooms,
        ..LiveSession::default()
    };
    let said = InspectReply {
        sessions: vec![session],
        sessions_total: 1,
        messages: vec![seen("WRITTEN")],
        ..InspectReply::default()
    };
    Explanation {
        user_id: "ann".into(),
        room_id: "r".into(),
        message_id: M.into(),
        nodes: vec![NodeEvidence {
            node_id: "node-1".into(),
            registered: true,
            lane: "in_sync".into(),
            trusted: true,
            echo_age_ms: Some(100),
            user_sessions: Some(1),
            room_sessions: Some(1),
            said: Some(said),
            ..NodeEvidence::default()
        }],
        pushes: vec![pushed()],
        room: Some(RoomEvidence { standing: "ACTIVE".into(), seat: "HELD".into(), ..Default::default() }),
        ..Explanation::default()
    }
}

fn seen(outcome: &str) -> NodeMessage {
    let fate = SessionFate { session_id: "s1".into(), user_id: "ann".into(), outcome: outcome.into() };
    NodeMessage {
        message_id: M.into(),
        target: "ROOM".into(),
        room_id: "r".into(),
        came_ms_ago: 1_000,
        targets: 1,
        outcomes: [(outcome.to_owned(), 1)].into(),
        sessions: vec![fate],
        ..NodeMessage::default()
    }
}

fn pushed() -> PushEvidence {
    PushEvidence {
        message_id: M.into(),
        target: "ROOM".into(),
        room_id: "r".into(),
        age_ms: 1_000,
        targets: 1,
        outcomes: [("WRITTEN".to_owned(), 1)].into(),
        hops: vec![PushHop {
            node_id: "node-1".into(),
            trusted: true,
            announced: 1,
            sent_us: Some(50),
            heard_us: Some(1_200),
            ..PushHop::default()
        }],
        ..PushEvidence::default()
    }
}

fn said(of: &mut Explanation) -> &mut InspectReply {
    of.nodes[0].said.as_mut().unwrap()
}

/// The healthy case, with something changed.
fn with(change: impl FnOnce(&mut Explanation)) -> Explanation {
    let mut evidence = healthy();
    change(&mut evidence);
    evidence
}

#[track_caller]
fn told(evidence: &Explanation, hop: Hop, words: &[&str]) {
    let verdict = diagnose(evidence);
    assert_eq!(verdict.hop, hop, "{}", verdict.sentence);
    for word in words {
        assert!(verdict.sentence.contains(word), "{word:?} is not in {:?}", verdict.sentence);
    }
}

fn silent(lane: &'static str, trusted: bool) -> impl Fn(&mut Explanation) {
    move |evidence| {
        let node = &mut evidence.nodes[0];
        (node.lane, node.trusted, node.said) = (lane.into(), trusted, None);
        evidence.pushes[0].hops[0].heard_us = None;
        evidence.missing = vec![MissingPart { part: "node-1".into(), why: "no answer".into() }];
    }
}

#[test]
fn what_arrived_is_said_with_where_and_when() {
    told(&healthy(), Hop::None, &["arrived", "ann", "node-1", "1.2 ms"]);
}

#[test]
fn every_outcome_of_a_target_is_told_by_the_hop_it_belongs_to() {
    for (outcome, hop, word) in [
        ("FILTERED", Hop::Request, "excludes"),
        ("EXPIRED", Hop::Session, "expired"),
        ("SUPERSEDED", Hop::Session, "replaced"),
        ("DROPPED_SLOW", Hop::Session, "fast enough"),
        ("CLOSED", Hop::Session, "closing"),
        ("PENDING", Hop::Session, "waits in the queue"),
        ("ACKED", Hop::None, "acknowledged by"),
    ] {
        told(&with(|of| said(of).messages = vec![seen(outcome)]), hop, &[word, "ann"]);
    }
    let unacknowledged = with(|of| {
        of.pushes[0].ack = true;
        said(of).messages[0].ack = true;
    });
    told(&unacknowledged, Hop::Client, &["has not acknowledged"]);
}

#[test]
fn who_was_away_hears_what_waits_for_them() {
    let away = |push: PushEvidence| {
        with(move |of| {
            let said = said(of);
            (said.sessions, said.messages, said.sessions_total) = (Vec::new(), Vec::new(), 0);
            of.nodes[0].user_sessions = None;
            of.user = Some(UserEvidence::default());
            of.pushes = vec![push.clone()];
        })
    };
    let logged = PushEvidence { offset: 42, ..pushed() };
    told(&away(logged), Hop::User, &["has no session", "offset 42"]);
    let stored = PushEvidence { user_outcome: "QUEUED_OFFLINE".into(), offset: 42, ..pushed() };
    told(&away(stored), Hop::User, &["inbox"]);
    let unlogged = PushEvidence { log_unavailable: true, ..pushed() };
    told(&away(unlogged), Hop::User, &["the log did not answer"]);
}

#[test]
fn one_session_that_did_not_get_it_outweighs_those_that_did() {
    let evidence = with(|of| {
        let mut other = of.nodes[0].clone();
        other.node_id = "node-2".into();
        other.said.as_mut().unwrap().messages = vec![seen("PENDING")];
        of.nodes.push(other);
    });
    told(&evidence, Hop::Session, &["node-2"]);
}

#[test]
fn a_node_that_does_not_answer_is_told_from_a_broken_lane_and_a_dead_one() {
    told(&with(silent("in_sync", false)), Hop::Node, &["node-1", "frozen"]);
    told(&with(silent("broken", false)), Hop::Lane, &["node-1", "broken"]);
    told(&with(silent("refused", false)), Hop::Node, &["node-1", "dead"]);
    let lost = |loss: &'static str| {
        with(|of| {
            silent("in_sync", false)(of);
            of.pushes[0].hops[0].lost = loss.into();
        })
    };
    told(&lost("QUEUE_FULL"), Hop::Lane, &["queue", "full"]);
    told(&lost("DEADLINE"), Hop::Lane, &["given up"]);
    told(&lost("DEAD"), Hop::Node, &["died"]);
}

#[test]
fn who_was_not_there_is_told_by_why() {
    let left = with(|of| {
        said(of).messages.clear();
        said(of).sessions[0].rooms.clear();
        said(of).left = vec![LeftRoom {
            user_id: "ann".into(),
            room_id: "r".into(),
            reason: "KICKED".into(),
            left_ms_ago: 5_000,
            ..LeftRoom::default()
        }];
    });
    told(&left, Hop::Seat, &["not in room r", "5 s", "KICKED"]);
    let never = with(|of| {
        said(of).messages.clear();
        said(of).sessions[0].rooms.clear();
        of.room.as_mut().unwrap().seat = "NONE".into();
    });
    told(&never, Hop::Seat, &["none of them in room r", "no seat"]);
    let later = with(|of| {
        said(of).messages = vec![seen("JOINED_AFTER")];
        said(of).sessions[0].rooms[0].age_ms = 200;
    });
    told(&later, Hop::Seat, &["joined room r 200 ms ago"]);
    let opened = with(|of| {
        said(of).messages.clear();
        said(of).sessions[0].age_ms = 200;
    });
    told(&opened, Hop::User, &["opened 200 ms ago"]);
}

#[test]
fn a_user_without_a_session_is_told_by_the_end_of_the_last_one() {
    let ended = |code: u32| {
        with(|of| {
            of.message_id.clear();
            (of.room_id, of.room) = (String::new(), None);
            said(of).sessions.clear();
            of.nodes[0].user_sessions = None;
            said(of).ended = vec![EndedSession {
                user_id: "ann".into(),
                close_code: code,
                ended_ms_ago: 12_000,
                ..EndedSession::default()
            }];
        })
    };
    told(&ended(4002), Hop::User, &["node-1", "12 s ago", "4002 (too slow)"]);
    told(&ended(4501), Hop::User, &["4501 (kicked)"]);
    told(&ended(0), Hop::User, &["connection broke"]);
    let known_elsewhere = with(|of| {
        silent("refused", false)(of);
        of.message_id.clear();
        of.nodes[0].user_sessions = None;
        let session = SessionInfo { node_id: "node-1".into(), ..SessionInfo::default() };
        of.user = Some(UserEvidence { online: true, sessions: vec![session], degraded: vec![] });
    });
    told(&known_elsewhere, Hop::Node, &["ann is out of reach", "node-1 is dead"]);
}

#[test]
fn a_node_that_died_with_the_user_is_named_until_the_user_is_back() {
    let died = |of: &mut Explanation| {
        of.message_id.clear();
        (of.room_id, of.room) = (String::new(), None);
        let dead = NodeEvidence {
            node_id: "node-2".into(),
            user_died_ms_ago: Some(3_000),
            ..NodeEvidence::default()
        };
        of.nodes.push(dead);
    };
    told(&with(died), Hop::None, &["ann has 1 session on node-1"]);
    let gone = with(|of| {
        died(of);
        said(of).sessions.clear();
        of.nodes[0].user_sessions = None;
    });
    told(&gone, Hop::Node, &["the last one was on node-2, which died 3 s ago"]);
}

#[test]
fn routes_that_are_not_trusted_are_named_though_all_arrived() {
    let evidence = with(|of| {
        of.message_id.clear();
        (of.nodes[0].trusted, of.nodes[0].echo_age_ms) = (false, Some(1_400));
    });
    told(&evidence, Hop::Route, &["not trusted", "1 s old"]);
}

#[test]
fn a_message_that_nobody_knows_says_who_forgot_it() {
    let forgotten = with(|of| {
        of.pushes.clear();
        said(of).messages.clear();
        of.missing = vec![MissingPart { part: "receipt in pm-2".into(), why: "kept for 120s".into() }];
    });
    told(&forgotten, Hop::PushManager, &["pm-2", "kept for 120s"]);
    // What the nodes remember is enough for a verdict.
    told(&with(|of| of.pushes.clear()), Hop::None, &["arrived"]);
    let other = with(|of| of.pushes[0].room_id = "elsewhere".into());
    told(&other, Hop::Request, &["for room elsewhere"]);
}

#[test]
fn a_room_is_told_by_whether_it_is_there_and_who_is_in_it() {
    let room = |change: fn(&mut Explanation)| {
        with(|of| {
            (of.user_id, of.message_id) = (String::new(), String::new());
            change(of);
        })
    };
    told(&room(|_| {}), Hop::None, &["room r has 1 session", "the last message arrived"]);
    told(&room(|of| of.room.as_mut().unwrap().standing = "NOT_FOUND".into()), Hop::Room, &["does not exist"]);
    told(&room(|of| of.room.as_mut().unwrap().standing = "DELETED".into()), Hop::Room, &["was deleted"]);
    let empty = room(|of| {
        said(of).sessions_total = 0;
        said(of).messages.clear();
        of.pushes.clear();
    });
    told(&empty, Hop::Room, &["nobody is in room r"]);
    let pending = room(|of| of.pushes[0].outcomes = [("PENDING".to_owned(), 1)].into());
    told(&pending, Hop::Session, &["1 PENDING"]);
    let away = room(|of| {
        of.room = None;
        of.missing = vec![MissingPart { part: "controller".into(), why: "away".into() }];
    });
    told(&away, Hop::None, &["no answer from controller"]);
}
