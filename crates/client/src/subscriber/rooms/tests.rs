//! What a subscriber remembers of its rooms over joins, losses and answers that come late.

use super::*;
use crate::subscriber::{event::GapCause, position::Continuity};

struct World {
    rooms: RoomSet,
    positions: Positions,
    last_id: u64,
    now: Instant,
    session: Option<u64>,
    retiring: Option<u64>,
}

/// What a step left behind.
struct Left {
    frames: Vec<ClientFrame>,
    events: Vec<Event>,
}

impl World {
    fn new(rooms: &[&str]) -> Self {
        Self {
            rooms: RoomSet::new(rooms.iter().map(ToString::to_string), Duration::from_secs(10)),
            positions: Positions::default(),
            last_id: 0,
            now: Instant::now(),
            session: Some(1),
            retiring: None,
        }
    }

    fn step<T>(&mut self, work: impl FnOnce(&mut RoomSet, &mut Step) -> T) -> (T, Left) {
        let mut step = Step {
            now: self.now,
            session: self.session,
            retiring: self.retiring,
            retry: Jitter::default(),
            positions: &mut self.positions,
            last_id: &mut self.last_id,
            frames: Vec::new(),
            events: Vec::new(),
        };
        let result = work(&mut self.rooms, &mut step);
        (result, Left { frames: step.frames, events: step.events })
    }

    fn ask(&mut self, room_id: &str) -> (u64, oneshot::Receiver<Result<Joined, Error>>) {
        let (reply, answer) = oneshot::channel();
        let (_, left) = self.step(|rooms, step| rooms.join(step, room_id.into(), reply));
        let ClientFrame::Join { id, .. } = &left.frames[0] else { panic!("{:?}", left.frames) };
        (*id, answer)
    }

    fn joined(&mut self, id: u64, room_id: &str, offset: Option<u64>, recovered: Option<bool>) -> Vec<Event> {
        let epoch = offset.map(|_| "e".to_owned());
        let frame = JoinedFrame {
            id: Some(id),
            room_id: room_id.into(),
            epoch,
            offset,
            recovered,
            ..JoinedFrame::default()
        };
        self.step(|rooms, step| rooms.on_joined(step, frame)).1.events
    }

    fn refused(&mut self, id: u64, code: &str) -> Vec<Event> {
        let frame = ErrorFrame { id: Some(id), code: code.into(), ..ErrorFrame::default() };
        let (is_answer, left) = self.step(|rooms, step| rooms.on_error(step, &frame));
        assert!(is_answer);
        left.events
    }

    fn reconnect(&mut self) -> Vec<ClientFrame> {
        self.session = None;
        self.step(|rooms, step| rooms.session_ended(step));
        self.session = Some(2);
        self.step(|rooms, step| rooms.rejoin(step)).1.frames
    }
}

#[test]
fn a_join_is_answered_by_its_id() {
    let mut world = World::new(&[]);
    let (id, mut answer) = world.ask("r");
    assert!(world.joined(id + 7, "r", None, None).is_empty(), "another one's answer");
    assert!(answer.try_recv().is_err());
    world.joined(id, "r", None, None);
    assert_eq!(answer.try_recv().unwrap().unwrap().continuity, Continuity::First);
}

#[test]
fn a_rejoin_names_the_position_only_when_one_is_known() {
    let mut world = World::new(&[]);
    let (logged, _a) = world.ask("logged");
    let (plain, _b) = world.ask("plain");
    world.joined(logged, "logged", Some(41), None);
    world.joined(plain, "plain", None, None);
    let frames = world.reconnect();
    let since = |wanted: &str| {
        frames.iter().find_map(|frame| match frame {
            ClientFrame::Join { room_id, since, .. } if room_id == wanted => Some(since.clone()),
            _ => None,
        })
    };
    assert_eq!(since("logged").unwrap(), Some(Position { epoch: "e".into(), offset: 41 }));
    assert_eq!(since("plain").unwrap(), None);
}

#[test]
fn what_could_not_be_recovered_is_a_gap() {
    let mut world = World::new(&[]);
    let (id, _answer) = world.ask("r");
    world.joined(id, "r", Some(41), None);
    let ClientFrame::Join { id, .. } = world.reconnect()[0] else { panic!() };
    let events = world.joined(id, "r", Some(60), Some(false));
    assert!(matches!(
        &events[..],
        [
            Event::Joined(Joined { continuity: Continuity::Lost, .. }),
            Event::Gap { cause: GapCause::NotRecovered, .. }
        ]
    ));
}

#[test]
fn a_room_without_a_log_says_that_it_does_not_know() {
    let mut world = World::new(&["r"]);
    let (_, left) = world.step(|rooms, step| rooms.rejoin(step));
    let ClientFrame::Join { id, .. } = left.frames[0] else { panic!() };
    world.joined(id, "r", None, None);
    let ClientFrame::Join { id, .. } = world.reconnect()[0] else { panic!() };
    let events = world.joined(id, "r", None, None);
    assert!(matches!(
        &events[..],
        [
            Event::Joined(Joined { continuity: Continuity::Unknown, .. }),
            Event::Gap { cause: GapCause::NoLog, from: None, to: None, .. }
        ]
    ));
}

#[test]
fn a_passing_refusal_is_asked_again_and_a_final_one_is_not() {
    let mut world = World::new(&[]);
    let (id, mut answer) = world.ask("r");
    let events = world.refused(id, "UNAVAILABLE");
    assert!(matches!(&events[..], [Event::JoinFailed { is_retrying: true, .. }]));
    world.now = world.rooms.due().unwrap();
    let (_, left) = world.step(|rooms, step| rooms.on_time(step));
    let ClientFrame::Join { id, .. } = left.frames[0] else { panic!() };
    let events = world.refused(id, "ROOM_FULL");
    assert!(matches!(&events[..], [Event::JoinFailed { is_retrying: false, .. }]));
    let error = answer.try_recv().unwrap().unwrap_err();
    assert_eq!(error.fault().unwrap().code, Code::RoomFull);
    assert!(world.reconnect().is_empty(), "it is forgotten");
}

#[test]
fn a_join_without_an_answer_is_withdrawn() {
    let mut world = World::new(&[]);
    let (_, mut answer) = world.ask("r");
    world.now += Duration::from_secs(10);
    let (_, left) = world.step(|rooms, step| rooms.on_time(step));
    assert!(matches!(answer.try_recv().unwrap(), Err(Error::Deadline { .. })));
    assert!(matches!(left.frames.last(), Some(ClientFrame::Leave { .. })), "it must not take a seat later");
    assert!(world.reconnect().is_empty());
}

#[test]
fn a_leave_is_answered_and_the_room_not_joined_again() {
    let mut world = World::new(&["r"]);
    let (_, left) = world.step(|rooms, step| rooms.rejoin(step));
    let ClientFrame::Join { id, .. } = left.frames[0] else { panic!() };
    world.joined(id, "r", None, None);
    let (reply, mut answer) = oneshot::channel();
    let (_, left) = world.step(|rooms, step| rooms.leave(step, "r".into(), reply));
    let ClientFrame::Leave { id, .. } = left.frames[0] else { panic!() };
    let frame = LeftFrame { id: Some(id), room_id: "r".into(), reason: "LEFT".into() };
    let (_, left) = world.step(|rooms, step| rooms.on_left(step, frame));
    assert!(matches!(&left.events[..], [Event::Left { .. }]));
    assert!(answer.try_recv().unwrap().is_ok());
    assert!(world.reconnect().is_empty());
}

#[test]
fn a_join_after_a_leave_wins() {
    let mut world = World::new(&[]);
    let (id, _first) = world.ask("r");
    world.joined(id, "r", None, None);
    let (reply, mut left_answer) = oneshot::channel();
    let (_, left) = world.step(|rooms, step| rooms.leave(step, "r".into(), reply));
    let ClientFrame::Leave { id: leave, .. } = left.frames[0] else { panic!() };
    let (join, mut answer) = world.ask("r");
    let frame = LeftFrame { id: Some(leave), room_id: "r".into(), reason: "LEFT".into() };
    world.step(|rooms, step| rooms.on_left(step, frame));
    world.joined(join, "r", None, None);
    assert!(left_answer.try_recv().unwrap().is_ok());
    assert!(answer.try_recv().unwrap().is_ok());
    assert_eq!(world.reconnect().len(), 1);
}

#[test]
fn leaving_a_room_one_is_not_in_is_told_at_once() {
    let mut world = World::new(&[]);
    let (reply, mut answer) = oneshot::channel();
    let (_, left) = world.step(|rooms, step| rooms.leave(step, "r".into(), reply));
    assert!(left.frames.is_empty());
    assert_eq!(answer.try_recv().unwrap().unwrap_err().fault().unwrap().code, Code::NotJoined);
}

#[test]
fn a_move_is_settled_when_every_room_is_on_the_new_session() {
    let mut world = World::new(&["a", "b"]);
    let (_, left) = world.step(|rooms, step| rooms.rejoin(step));
    for frame in left.frames {
        let ClientFrame::Join { id, room_id, .. } = frame else { panic!() };
        world.joined(id, &room_id, None, None);
    }
    (world.session, world.retiring) = (Some(2), Some(1));
    world.step(|rooms, step| rooms.session_ended(step));
    let (_, left) = world.step(|rooms, step| rooms.rejoin(step));
    for frame in left.frames {
        assert!(!world.rooms.is_settled_on(2));
        let ClientFrame::Join { id, room_id, .. } = frame else { panic!() };
        let events = world.joined(id, &room_id, None, None);
        assert!(matches!(&events[..], [Event::Joined(Joined { continuity: Continuity::Unbroken, .. })]));
    }
    assert!(world.rooms.is_settled_on(2));
}
